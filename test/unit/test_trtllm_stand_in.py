"""The stand-in of TensorRT-LLM refuses what that refuses, and gives the torch engine's tokens."""

from importlib import import_module, util
import inspect
import json
import threading

import numpy as np
import pytest
import torch

from trt_openvla_ros import layout
from trt_openvla_ros.checkpoint import Checkpoint
from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.engines.torch_language import TorchLanguage
from trt_openvla_ros.engines.trtllm_checkpoint import TrtllmCheckpoint
from trt_openvla_ros.pipeline.trtllm_contract import Contract

RELEASES = Contract().releases
END = 2


@pytest.fixture
def runtime(stand_in):
    def make(release='1.2.1'):
        stand_in(release)
        return import_module('tensorrt_llm.runtime')

    return make


@pytest.fixture
def opened(runtime, engine_artifact):
    """Open the engine of a golden checkpoint by one of the two runners."""

    def make(runner='ModelRunnerCpp', release='1.2.1', **settings):
        place = str(engine_artifact('fused', release) / layout.LANGUAGE_ENGINE)
        return getattr(runtime(release), runner).from_dir(place, **settings)

    return make


def prompt_for(runner, count):
    """Give <s>, virtual ids, and text; and a table of random embeddings, as [1, N, D]."""
    virtual = range(runner.vocab_size, runner.vocab_size + count)
    ids = torch.tensor([1, *virtual, 450, 3575, 29871], dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    return ids, torch.randn(1, count, runner.hidden_size, generator=generator)


def torch_answer(artifact, table, tokens, decoding=None):
    checkpoint = TrtllmCheckpoint.open(artifact / layout.TRTLLM_CHECKPOINT)
    engine = TorchLanguage(checkpoint, torch.device('cpu'), torch.bfloat16)
    decoding = decoding or Decoding(max_new_tokens=tokens, eos_id=END)
    return engine.generate([1, 450, 3575, 29871], table[0], decoding).ids


def call(runner, ids, table, **changes):
    arguments = {
        'max_new_tokens': 7,
        'end_id': END,
        'pad_id': 0,
        'return_dict': True,
        'output_sequence_lengths': True,
        'prompt_table': table,
        'prompt_tasks': '0',
        'num_beams': 1,
        'top_k': 1,
        **changes,
    }
    return runner.generate([ids], **arguments)


@pytest.mark.parametrize('release', RELEASES)
def test_signatures_are_those_of_the_release(runtime, release):
    module = runtime(release)
    expected = Contract().functions(release)
    for name, signature in expected.items():
        owner, function = name.removeprefix('tensorrt_llm.runtime.').split('.')
        assert inspect.signature(getattr(getattr(module, owner), function)) == signature
    assert util.find_spec('tensorrt_llm.runtime.model_runner_cpp') is not None


@pytest.mark.parametrize('name', ['ModelRunnerCpp', 'ModelRunner'])
def test_answers_have_the_prompt_are_filled_up_and_are_those_of_the_torch_engine(
    opened, engine_artifact, name
):
    runner = opened(name)
    ids, table = prompt_for(runner, 4)
    output = call(runner, ids, table)
    length = runner.max_seq_len if name == 'ModelRunnerCpp' else len(ids) + 7
    assert output['output_ids'].shape == (1, 1, length)
    assert output['output_ids'].dtype == output['sequence_lengths'].dtype == torch.int32
    row, end = output['output_ids'][0, 0].tolist(), int(output['sequence_lengths'][0, 0])
    assert row[: len(ids)] == ids.tolist()
    assert set(row[end:]) <= {END}
    answer = torch_answer(engine_artifact('fused', '1.2.1'), table, 7)
    assert row[len(ids) : end] == [token for token in answer if token != END]
    plain = call(runner, ids, table, return_dict=False)
    assert torch.equal(plain, output['output_ids'])


@pytest.mark.parametrize('name', ['ModelRunnerCpp', 'ModelRunner'])
def test_the_end_id_ends_an_answer_and_is_not_counted(opened, name):
    runner = opened(name)
    ids, table = prompt_for(runner, 4)
    first = int(call(runner, ids, table)['output_ids'][0, 0, len(ids)])
    output = call(runner, ids, table, end_id=first)
    assert int(output['sequence_lengths'][0, 0]) == len(ids)
    assert set(output['output_ids'][0, 0, len(ids) :].tolist()) == {first}


@pytest.mark.parametrize('name', ['ModelRunnerCpp', 'ModelRunner'])
def test_a_stream_grows_to_the_same_answer(opened, name):
    runner = opened(name)
    ids, table = prompt_for(runner, 4)
    whole = call(runner, ids, table)
    parts = list(call(runner, ids, table, streaming=True))
    lengths = [int(part['sequence_lengths'][0, 0]) for part in parts]
    assert lengths == sorted(lengths)
    assert len(parts) == len(lengths) > 1
    assert torch.equal(parts[-1]['output_ids'], whole['output_ids'])
    assert parts[0]['output_ids'].shape == whole['output_ids'].shape
    # And another one may follow.
    assert torch.equal(call(runner, ids, table)['output_ids'], whole['output_ids'])


def test_logits_processor_of_the_executor_decides(opened):
    seen = []

    def few_actions(req_id, logits, ids, stream_ptr, client_id):
        seen.append((req_id, tuple(logits.shape), len(ids[0]), threading.current_thread().name))
        assert (stream_ptr, client_id) == (0, None)
        logits[..., :31744] = float('-inf')
        logits[..., 31760:] = float('-inf')

    runner = opened(logits_processor_map={'actions': few_actions})
    ids, table = prompt_for(runner, 4)
    free = call(runner, ids, table)['output_ids']
    assert not seen
    output = call(runner, ids, table, logits_processor_names=['actions'])['output_ids']
    tokens = output[0, 0, len(ids) : len(ids) + 7]
    assert bool(((tokens >= 31744) & (tokens < 31760)).all())
    assert not torch.equal(output, free)
    assert [entry[1:] for entry in seen] == [
        ((1, 1, runner.vocab_size), len(ids) + step, 'executor') for step in range(7)
    ]
    with pytest.raises(RuntimeError, match="no logits processor is named 'action'"):
        call(runner, ids, table, logits_processor_names=['action'])


def test_logits_processor_of_the_python_runner_decides(opened):
    runner = opened('ModelRunner')
    ids, table = prompt_for(runner, 4)
    seen = []

    def few_actions(step, input_ids, scores):
        seen.append((step, tuple(input_ids.shape), tuple(scores.shape)))
        masked = torch.full_like(scores, float('-inf'))
        masked[:, 31744:31760] = scores[:, 31744:31760]
        return masked

    output = call(runner, ids, table, logits_processor=few_actions)['output_ids']
    tokens = output[0, 0, len(ids) :]
    assert bool(((tokens >= 31744) & (tokens < 31760)).all())
    shape = (1, len(ids) + 7)
    assert seen == [(step, shape, (1, runner.vocab_size)) for step in range(7)]


def test_an_error_in_a_logits_processor_is_the_answer_and_the_next_call_works(opened):
    def broken(*_):
        raise ValueError('out of luck')

    runner = opened(logits_processor_map={'broken': broken})
    ids, table = prompt_for(runner, 4)
    with pytest.raises(RuntimeError, match='out of luck'):
        call(runner, ids, table, logits_processor_names=['broken'])
    assert call(runner, ids, table)['output_ids'].shape[0] == 1


def test_a_table_may_be_a_file_and_rows_may_be_used_twice(opened, tmp_path):
    runner = opened()
    ids, table = prompt_for(runner, 4)
    expected = call(runner, ids, table)['output_ids']
    np.save(tmp_path / 'table.npy', table.numpy())
    assert torch.equal(call(runner, ids, str(tmp_path / 'table.npy'))['output_ids'], expected)
    again = ids.clone()
    again[2] = again[1]
    table[0, 1] = table[0, 0]
    assert torch.equal(
        call(runner, again, table)['output_ids'][..., len(ids) :],
        call(runner, ids, table)['output_ids'][..., len(ids) :],
    )


def test_one_call_at_a_time(opened):
    runner = opened()
    ids, table = prompt_for(runner, 4)
    stream = call(runner, ids, table, streaming=True)
    next(stream)
    with pytest.raises(RuntimeError, match='not read to its end; one call at a time'):
        call(runner, ids, table)
    list(stream)
    call(runner, ids, table)


def test_a_closed_executor_takes_nothing(opened):
    runner = opened()
    ids, table = prompt_for(runner, 4)
    runner.session.shutdown()
    with pytest.raises(RuntimeError, match='shut down'):
        call(runner, ids, table)


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        ({'prompt_vocab_size': 4}, TypeError, 'means nothing by prompt_vocab_size'),
        ({'logits_processor': len}, TypeError, 'means nothing by logits_processor'),
        ({'end_id': None}, TypeError, 'end_id is a NoneType'),
        ({'max_new_tokens': 7.0}, TypeError, 'max_new_tokens is a float'),
        ({'prompt_tasks': 0}, TypeError, 'prompt_tasks is a int'),
        ({'max_new_tokens': 400}, RuntimeError, r'\(408\) exceeds .* limit \(32\d\)'),
        ({'lora_uids': [1]}, NotImplementedError, 'lora_uids'),
        ({'prompt_table': None}, RuntimeError, 'needs row 3 of a table of 0'),
    ],
)
def test_wrong_arguments_are_refused(opened, changes, error, message):
    runner = opened()
    ids, table = prompt_for(runner, 4)
    with pytest.raises(error, match=message):
        call(runner, ids, table, **changes)


def test_wrong_ids_and_tables_are_refused(opened):
    runner = opened()
    ids, table = prompt_for(runner, 4)
    for wrong in (ids.long(), ids[None], ids[:0], ids.tolist()):
        with pytest.raises(TypeError, match='batch_input_ids'):
            call(runner, wrong, table)
    with pytest.raises(TypeError, match='batch_input_ids'):
        runner.generate(ids[None], end_id=END)
    with pytest.raises(RuntimeError, match='batch size'):
        runner.generate([ids, ids], end_id=END, prompt_table=table)
    with pytest.raises(RuntimeError, match='Maximum input length'):
        call(runner, ids.repeat(64), table)
    with pytest.raises(RuntimeError, match=r'shape \(4, \d+\); \[tasks, rows'):
        call(runner, ids, table[0])
    with pytest.raises(RuntimeError, match='rows of prompt_table have'):
        call(runner, ids, table[..., 1:])
    with pytest.raises(RuntimeError, match='Prompt vocab size 300 is larger than'):
        call(runner, ids, table[:, :1].expand(-1, 300, -1))
    with pytest.raises(TypeError, match='positional'):
        runner.generate([ids], None)


def test_the_python_runner_takes_a_flat_table(opened):
    runner = opened('ModelRunner')
    ids, table = prompt_for(runner, 4)
    expected = call(runner, ids, table)['output_ids']
    assert torch.equal(call(runner, ids, table[0])['output_ids'], expected)


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        ({'max_output_length': 7}, TypeError, 'max_output_length'),
        ({'max_batch_size': 2}, AssertionError, 'max_batch_size 2'),
        ({'max_input_len': 300, 'max_output_len': 400}, AssertionError, None),
        ({'max_tokens_in_paged_kv_cache': 64}, RuntimeError, 'does not hold one sequence'),
        ({'rank': 1}, AssertionError, None),
        ({'cuda_graph_mode': 1}, TypeError, 'cuda_graph_mode is a int'),
    ],
)
def test_wrong_settings_are_refused(opened, settings, error, message):
    with pytest.raises(error, match=message):
        opened(**settings)


def test_an_older_release_does_not_know_what_came_later(opened, runtime):
    opened(fail_fast_on_attention_window_too_large=False)
    with pytest.raises(TypeError, match='fail_fast_on_attention_window_too_large'):
        runtime('0.21.0').ModelRunnerCpp.from_dir(
            'engine', fail_fast_on_attention_window_too_large=False
        )


def test_an_engine_of_another_release_is_refused(runtime, engine_artifact):
    place = str(engine_artifact('fused', '1.2.1') / layout.LANGUAGE_ENGINE)
    with pytest.raises(RuntimeError, match=r'not compatible .* is of 1\.2\.1, this is 1\.1\.0'):
        runtime('1.1.0').ModelRunnerCpp.from_dir(place)


def test_engine_directory_is_laid_out_as_the_contract_says(engine_artifact):
    artifact = engine_artifact('fused', '1.2.1')
    place = artifact / layout.LANGUAGE_ENGINE
    contract = Contract().data['engine']
    assert sorted(p.name for p in place.iterdir()) == contract['files']
    config = json.loads((place / 'config.json').read_text())
    assert list(config) == contract['config']
    assert config['pretrained_config'].keys() >= set(contract['pretrained_config'])
    assert config['build_config'].keys() == {*contract['build_config'], 'plugin_config'}
    llm = Checkpoint.open(artifact).llm
    assert config['pretrained_config']['vocab_size'] == llm.vocab_size
    assert config['build_config']['kv_cache_type'] == 'PAGED'
