"""ModelRunner: TensorRT-LLM's runtime in Python, and what both runners check."""

import numpy as np
import torch

from tensorrt_llm._contract import check_type, held_to_contract
from tensorrt_llm.runtime.generation import Engine


class RunnerProperties:
    dtype = property(lambda self: self._engine.dtype)
    vocab_size = property(lambda self: self._engine.pretrained['vocab_size'])
    vocab_size_padded = vocab_size
    hidden_size = property(lambda self: self._engine.pretrained['hidden_size'])
    num_heads = property(lambda self: self._engine.pretrained['num_attention_heads'])
    num_layers = property(lambda self: self._engine.pretrained['num_hidden_layers'])
    max_sequence_length = property(lambda self: self.max_seq_len)
    remove_input_padding = property(
        lambda self: self._engine.build['plugin_config']['remove_input_padding']
    )
    max_prompt_embedding_table_size = property(
        lambda self: self._engine.build['max_prompt_embedding_table_size']
    )
    gather_context_logits = property(lambda self: self._engine.build['gather_context_logits'])
    gather_generation_logits = property(
        lambda self: self._engine.build['gather_generation_logits']
    )


class ModelRunner(RunnerProperties):
    mapping = property(lambda self: self._engine.pretrained['mapping'])

    def __init__(self, engine):
        self.session = self
        self.max_batch_size = engine.build['max_batch_size']
        self.max_input_len = engine.build['max_input_len']
        self.max_seq_len = engine.build['max_seq_len']
        self.max_beam_width = engine.build['max_beam_width']
        self.kv_cache_type = engine.build['kv_cache_type']
        self._engine = engine
        self._busy = False

    @classmethod
    @held_to_contract
    def from_dir(cls, engine_dir, rank=0, max_output_len=None, multi_block_mode=None):
        assert rank == 0
        return cls(Engine(engine_dir))

    @held_to_contract
    def generate(
        self,
        batch_input_ids,
        prompt_table=None,
        prompt_tasks=None,
        streaming=False,
        logits_processor=None,
        max_new_tokens=20,
        end_id=None,
        pad_id=None,
        return_dict=False,
        output_sequence_lengths=False,
        num_beams=1,
        top_k=1,
        top_p=0.0,
        temperature=1.0,
        random_seed=None,
    ):
        if self._busy:
            # It has one set of buffers.
            raise RuntimeError('generate was called while another call runs; one at a time')
        prompts = check_ids(batch_input_ids)
        for key, value in (('end_id', end_id), ('pad_id', pad_id)):
            check_type(key, value, (int,))
        check_type('max_new_tokens', max_new_tokens, (int,))
        if top_k != 1:
            raise NotImplementedError('this stand-in takes the likeliest token: top_k 1')
        check_limits(self, prompts, max_new_tokens, num_beams)
        if len(prompts) > 1:
            raise NotImplementedError('this stand-in of ModelRunner takes one prompt')
        if prompt_table is not None and not self.max_prompt_embedding_table_size:
            prompt_table = None  # without a word
        tables = prompt_tables(self, prompt_table, prompt_tasks, 1, two_dimensional=True)
        (ids,), (table,) = prompts, tables
        length = len(ids) + max_new_tokens
        outputs = [list(ids)]

        def process(so_far, logits):
            if logits_processor is None:
                return logits
            filled = [*so_far, *([end_id] * (length - len(so_far)))]
            padded = torch.tensor([filled], dtype=torch.int32)
            scores = logits_processor(len(so_far) - len(ids), padded, logits[None])
            if not isinstance(scores, torch.Tensor) or scores.shape != (1, len(logits)):
                raise TypeError('a logits processor returns the scores')
            return scores[0]

        def steps():
            self._busy = True
            try:
                for token, _ in self._engine.decode(ids, table, max_new_tokens, end_id, process):
                    outputs[0] += [] if token is None else [token]
                    yield answer(outputs, length, end_id, return_dict, output_sequence_lengths)
            finally:
                self._busy = False

        return steps() if streaming else list(steps())[-1]

    @property
    def _rows(self):
        return self.max_prompt_embedding_table_size


def check_ids(batch_input_ids):
    """Give lists of ids; the argument must be a list of [L] int32 tensors."""
    check_type('batch_input_ids', batch_input_ids, (list,))
    for ids in batch_input_ids:
        check_type('an entry of batch_input_ids', ids, (torch.Tensor,))
        if ids.ndim != 1 or ids.dtype != torch.int32 or not len(ids):
            raise TypeError(
                f'an entry of batch_input_ids is {ids.dtype} of shape {tuple(ids.shape)}; '
                'int32 of one dimension is needed'
            )
    return [ids.tolist() for ids in batch_input_ids]


def check_limits(runner, prompts, max_new_tokens, num_beams):
    longest = max(map(len, prompts))
    total = longest + max_new_tokens
    for what, value, limit in (
        ('Input batch size', len(prompts), runner.max_batch_size),
        ('Maximum input length', longest, runner.max_input_len),
        ('Maximum input length + maximum new tokens', total, runner.max_seq_len),
        ('Num beams', num_beams, runner.max_beam_width),
    ):
        if value > limit:
            raise RuntimeError(f'{what} ({value}) exceeds the engine or specified limit ({limit})')
    if num_beams != 1:
        raise NotImplementedError('this stand-in has no beam search')


def prompt_tables(runner, table, tasks, batch, two_dimensional=False):
    """Give the [rows, hidden_size] table of each request, in the runner's dtype."""
    if table is None:
        return [None] * batch
    check_type('prompt_table', table, (str, torch.Tensor))
    if isinstance(table, str):
        table = torch.from_numpy(np.load(table))
    if table.ndim != 3 and not (two_dimensional and table.ndim == 2):
        # TensorRT-LLM would take one row of it for the table.
        raise RuntimeError(
            f'prompt_table has shape {tuple(table.shape)}; [tasks, rows, hidden_size] is needed'
        )
    table = table.to(dtype=runner.dtype).reshape(-1, *table.shape[-2:])
    if table.shape[2] != runner.hidden_size:
        raise RuntimeError(f'rows of prompt_table have {table.shape[2]}, not {runner.hidden_size}')
    if table.shape[1] > runner._rows:
        raise RuntimeError(
            f'Prompt vocab size {table.shape[1]} is larger than max prompt vocab size of '
            f'{runner._rows}. Max prompt vocab size is computed from '
            'max_prompt_embedding_table_size / max_batch_size.'
        )
    check_type('prompt_tasks', tasks, (str, type(None)))
    chosen = [int(task) for task in tasks.split(',')] if tasks is not None else [0] * batch
    assert len(chosen) == batch, f'{len(chosen)} tasks for {batch} inputs'
    return [table[task] for task in chosen]


def answer(outputs, length, end_id, return_dict, sequence_lengths):
    """Lay out answers, which have their prompts, as both runners do."""
    filled = [[[*ids, *([end_id] * (length - len(ids)))]] for ids in outputs]
    output_ids = torch.tensor(filled, dtype=torch.int32)
    if not return_dict:
        return output_ids
    result = {'output_ids': output_ids}
    if sequence_lengths:
        lengths = [[len(ids)] for ids in outputs]
        result['sequence_lengths'] = torch.tensor(lengths, dtype=torch.int32)
    return result
