"""Logits processors, and the engine: greedy decoding by our torch engine."""

import json
from pathlib import Path

import torch

import tensorrt_llm
from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.engines.torch.language import TorchLanguage


class LogitsProcessor:
    def __call__(self, step, input_ids, scores):
        raise NotImplementedError(f'{self.__class__} is abstract')


class LogitsProcessorList(list, LogitsProcessor):
    def __call__(self, step, input_ids, scores):
        for processor in self:
            scores = processor(step, input_ids, scores)
        return scores


class Engine:
    """An engine directory that trtllm_build.py wrote."""

    def __init__(self, engine_dir):
        if not isinstance(engine_dir, str):
            raise TypeError(f'engine_dir is a {type(engine_dir).__name__}; str is needed')
        place = Path(engine_dir)
        config = json.loads((place / 'config.json').read_text(encoding='utf-8'))
        stub = json.loads((place / 'rank0.engine').read_text(encoding='utf-8'))
        if not config['version'] == stub['release'] == tensorrt_llm.__version__:
            raise RuntimeError(
                'the engine plan file is not compatible with this version of TensorRT: it is of '
                f'{stub["release"]}, this is {tensorrt_llm.__version__}'
            )
        self.pretrained, self.build = config['pretrained_config'], config['build_config']
        self.dtype = getattr(torch, self.pretrained['dtype'])
        self.logits_dtype = getattr(torch, self.pretrained.get('logits_dtype', 'float32'))
        checkpoint = TrtllmCheckpoint.open(stub['checkpoint'])
        self.language = TorchLanguage(checkpoint, torch.device('cpu'), self.dtype)

    @torch.inference_mode()
    def decode(self, ids, table, max_new_tokens, end_id, process):
        """Give a token and whether it is the last, again and again.

        Args:
            ids: Prompt; one of vocab_size or more is a row of the table.
            table: [rows, hidden_size], or None.
            max_new_tokens: Most tokens.
            end_id: Ends the answer, and is not part of it; then the token is None.
            process: Maps ids so far and [V] logits to logits.
        """
        vocabulary, language = self.pretrained['vocab_size'], self.language
        prompt = torch.tensor(ids)
        virtual = prompt > vocabulary - 1
        image = torch.zeros(0, self.pretrained['hidden_size'])
        if virtual.any():
            rows = prompt[virtual] - vocabulary
            if table is None or rows.max() >= len(table):
                count = 0 if table is None else len(table)
                raise RuntimeError(f'id {max(ids)} needs row {rows.max()} of a table of {count}')
            # The engine below puts them there.
            assert virtual.nonzero().flatten().tolist() == list(range(1, 1 + len(rows)))
            image = table[rows]
        so_far = list(ids)
        logits = language.prefill(prompt[~virtual].tolist(), image)[0]
        for count in range(1, max_new_tokens + 1):
            logits = process(so_far, logits[:vocabulary].to(self.logits_dtype))
            token = int(torch.argmax(logits))
            if token == end_id:
                yield None, True
                return
            yield token, count == max_new_tokens
            so_far.append(token)
            if count < max_new_tokens:
                logits = language.step(token, len(so_far) - 1)
