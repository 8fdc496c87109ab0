"""ModelRunnerCpp: requests to an executor, answers of the length of the engine."""

import math

from tensorrt_llm._contract import check_type, held_to_contract
from tensorrt_llm.bindings.executor import Executor
from tensorrt_llm.runtime.generation import Engine
from tensorrt_llm.runtime.model_runner import (
    answer,
    check_ids,
    check_limits,
    prompt_tables,
    RunnerProperties,
)


class ModelRunnerCpp(RunnerProperties):
    def __init__(self, engine, limits, processors):
        self.session = Executor()
        self.max_batch_size = limits['max_batch_size']
        self.max_input_len = limits['max_input_len']
        self.max_seq_len = limits['max_seq_len']
        self.max_beam_width = limits['max_beam_width']
        self.use_kv_cache = True
        self._engine, self._processors = engine, processors
        self._busy = None

    @classmethod
    @held_to_contract
    def from_dir(
        cls,
        engine_dir,
        rank=0,
        max_batch_size=None,
        max_input_len=None,
        max_output_len=None,
        max_beam_width=None,
        max_tokens_in_paged_kv_cache=None,
        kv_cache_free_gpu_memory_fraction=None,
        kv_cache_enable_block_reuse=False,
        multi_block_mode=True,
        cuda_graph_mode=None,
        logits_processor_map=None,
        use_runtime_defaults=True,
        gpu_weights_percent=1,
        device_ids=None,
    ):
        engine = Engine(engine_dir)
        build = engine.build
        assert rank == 0
        if build['kv_cache_type'] != 'PAGED' or not build['plugin_config']['remove_input_padding']:
            raise RuntimeError('the executor needs a paged cache and inputs without padding')
        limits = {k: build[k] for k in ('max_batch_size', 'max_input_len', 'max_beam_width')}
        given = (max_batch_size, max_input_len, max_beam_width)
        for key, value in zip(limits, given, strict=True):
            if value is not None:
                check_type(key, value, (int,))
                # Of the length TensorRT-LLM looks only at the sum below.
                assert key == 'max_input_len' or value <= limits[key], f'{key} {value}'
                limits[key] = value
        limits['max_seq_len'] = build['max_seq_len']
        if max_output_len is not None:
            check_type('max_output_len', max_output_len, (int,))
            limits['max_seq_len'] = limits['max_input_len'] + max_output_len
            assert limits['max_seq_len'] <= build['max_seq_len']
        check_type('kv_cache_enable_block_reuse', kv_cache_enable_block_reuse, (bool,))
        check_type('multi_block_mode', multi_block_mode, (bool,))
        check_type('cuda_graph_mode', cuda_graph_mode, (bool, type(None)))
        if kv_cache_enable_block_reuse:
            raise NotImplementedError('reuse needs input_token_extra_ids for image embeddings')
        if max_tokens_in_paged_kv_cache is not None:
            check_type('max_tokens_in_paged_kv_cache', max_tokens_in_paged_kv_cache, (int,))
            block = build['plugin_config']['tokens_per_block']
            needed = math.ceil(limits['max_seq_len'] / block) * block
            if max_tokens_in_paged_kv_cache < needed:
                # TensorRT-LLM would narrow the attention, and forget the prompt's beginning.
                raise RuntimeError(
                    f'a cache of {max_tokens_in_paged_kv_cache} tokens does not hold one sequence '
                    f'of {limits["max_seq_len"]}, which takes {needed}'
                )
        processors = logits_processor_map or {}
        for key, function in processors.items():
            check_type('a name in logits_processor_map', key, (str,))
            assert callable(function)
        return cls(engine, limits, processors)

    @held_to_contract
    def generate(
        self,
        batch_input_ids,
        streaming=False,
        logits_processor_names=None,
        max_new_tokens=1,
        end_id=None,
        pad_id=None,
        return_dict=False,
        output_sequence_lengths=False,
        prompt_table=None,
        prompt_tasks=None,
        num_beams=1,
        top_k=None,
        top_p=None,
        temperature=None,
        random_seed=None,
    ):
        if self._busy is not None:
            # Each call takes whatever answer comes next, and so takes the other one's.
            raise RuntimeError(f'generate was called while {self._busy}; one call at a time')
        prompts = check_ids(batch_input_ids)
        check_type('max_new_tokens', max_new_tokens, (int,))
        check_type('end_id', end_id, (int,))  # what answers are filled up with
        check_type('pad_id', pad_id, (int, type(None)))
        if top_k not in (None, 1) or temperature == 0:
            raise NotImplementedError('this stand-in takes the likeliest token: top_k 1')
        check_limits(self, prompts, max_new_tokens, num_beams)
        tables = prompt_tables(self, prompt_table, prompt_tasks, len(prompts))
        names = logits_processor_names or [None] * len(prompts)
        check_type('logits_processor_names', names, (list,))
        assert len(names) == len(prompts)
        requests = [
            self._request(ids, table, max_new_tokens, end_id, name)
            for ids, table, name in zip(prompts, tables, names, strict=True)
        ]
        identifiers = self.session.enqueue_requests(requests)
        self._busy = 'another call waits for its answer'
        outputs = [list(ids) for ids in prompts]
        dress = {
            'length': self.max_seq_len,
            'end_id': end_id,
            'return_dict': return_dict,
            'sequence_lengths': output_sequence_lengths,
        }
        steps = self._steps(identifiers, outputs)
        if streaming:
            self._busy = 'a streamed answer was not read to its end'
            return (answer(outputs, **dress) for _ in steps)
        for _ in steps:
            pass
        return answer(outputs, **dress)

    def _steps(self, identifiers, outputs):
        waiting = set(identifiers)
        while waiting:
            for identifier, tokens, final, error in self.session.await_responses():
                if error is not None:
                    self._busy = None
                    raise RuntimeError(error)
                outputs[identifiers.index(identifier)] += tokens
                if final:
                    waiting.discard(identifier)
            if not waiting:
                self._busy = None
            yield

    def _request(self, ids, table, max_new_tokens, end_id, name):
        if name is not None and name not in self._processors:
            raise RuntimeError(f'no logits processor is named {name!r}')
        function = self._processors.get(name)

        def run(identifier):
            def process(so_far, logits):
                if function is not None:
                    # Changed in place; what the function returns is dropped.
                    function(identifier, logits[None, None], [list(so_far)], 0, None)
                return logits

            for token, final in self._engine.decode(ids, table, max_new_tokens, end_id, process):
                yield ([] if token is None else [token]), final

        return run

    @property
    def _rows(self):
        return self._engine.build['max_prompt_embedding_table_size'] // self.max_batch_size
