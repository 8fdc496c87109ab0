"""The stand-in of TensorRT-LLM: its signatures, its answers, and the torch engine's tokens."""

from importlib import util
import inspect
import json
import threading

import numpy as np
import pytest
from runner_calls import call, END, prompt_for
import torch

from trt_openvla_ros.checkpoints.artifact import LANGUAGE_ENGINE, TRTLLM_CHECKPOINT
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.engines.tensorrt_llm.contract import Contract
from trt_openvla_ros.engines.torch.language import TorchLanguage

RELEASES = Contract().releases


def torch_answer(artifact, table, tokens, decoding=None):
    checkpoint = TrtllmCheckpoint.open(artifact / TRTLLM_CHECKPOINT)
    engine = TorchLanguage(checkpoint, torch.device('cpu'), torch.bfloat16)
    decoding = decoding or Decoding(max_new_tokens=tokens, eos_id=END)
    return engine.generate([1, 450, 3575, 29871], table[0], decoding).ids


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


def test_engine_directory_is_laid_out_as_the_contract_says(engine_artifact):
    artifact = engine_artifact('fused', '1.2.1')
    place = artifact / LANGUAGE_ENGINE
    contract = Contract().data['engine']
    assert sorted(p.name for p in place.iterdir()) == contract['files']
    config = json.loads((place / 'config.json').read_text())
    assert list(config) == contract['config']
    assert config['pretrained_config'].keys() >= set(contract['pretrained_config'])
    assert config['build_config'].keys() == {*contract['build_config'], 'plugin_config'}
    llm = Checkpoint.open(artifact).llm
    assert config['pretrained_config']['vocab_size'] == llm.vocab_size
    assert config['build_config']['kv_cache_type'] == 'PAGED'
