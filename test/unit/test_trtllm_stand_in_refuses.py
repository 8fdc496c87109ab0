"""What the stand-in of TensorRT-LLM refuses: what that refuses, or would take and not mean."""

import pytest
from runner_calls import call, END, prompt_for
import torch

from trt_openvla_ros.checkpoints.artifact import LANGUAGE_ENGINE


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
    place = str(engine_artifact('fused', '1.2.1') / LANGUAGE_ENGINE)
    with pytest.raises(RuntimeError, match=r'not compatible .* is of 1\.2\.1, this is 1\.1\.0'):
        runtime('1.1.0').ModelRunnerCpp.from_dir(place)
