"""The tensorrt_llm engine, on the stand-in that its contract describes.

What is seen here: our calls are those that TensorRT-LLM takes, and what we make of its answers are
the torch engine's tokens. What its kernels compute is not seen here.
"""

from dataclasses import replace
import gc
from importlib import import_module
from itertools import pairwise
import json
import shutil
import weakref

import numpy as np
import pytest
from recorded import record
import torch

from trt_openvla_ros.checkpoints.artifact import LANGUAGE_ENGINE
from trt_openvla_ros.engines.tensorrt_llm.language import TensorrtLlm
from trt_openvla_ros.engines.tensorrt_llm.runner import open_runner
from trt_openvla_ros.errors import (
    BrokenEngineError,
    ConfigError,
    EngineError,
    InputError,
    OutputError,
)
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.sim.world import World

RELEASES = ('0.20.0', '1.2.1')
RUNNERS = ('ModelRunnerCpp', 'ModelRunner')


@pytest.fixture
def load(engine_artifact, stand_in, monkeypatch):
    """Load the policy of a golden checkpoint by engine, release and runner."""

    def make(name, engine='tensorrt_llm', release='1.2.1', runner='ModelRunnerCpp', **arguments):
        artifact = engine_artifact(name, release)
        stand_in(release)
        for other in RUNNERS:
            # The C++ one comes first where there are both.
            if other != runner and runner != RUNNERS[0]:
                monkeypatch.delattr(import_module('tensorrt_llm.runtime'), other)
        arguments = {'device': 'cpu', 'dtype': 'bfloat16', 'max_new_tokens': 24, **arguments}
        return Policy.from_checkpoint(
            artifact, 'toy_arm', engine, vision_engine='torch', **arguments
        )

    return make


def asked(policy, image, **changes):
    """Give the arguments of generate for an image."""
    spec = policy.spec
    _, ids = spec.prompter('put the spoon on the towel')
    decoding = replace(spec.decoding(spec.statistics['toy_arm']), **changes)
    return ids, policy.engines.vision.encode(spec.views(image)), decoding


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)


@pytest.mark.parametrize('name', ['fused', 'single'])
@pytest.mark.parametrize('runner', RUNNERS)
@pytest.mark.parametrize('release', RELEASES)
def test_tokens_are_those_of_the_torch_engine(load, images, name, runner, release):
    theirs = load(name, 'torch')
    ours = load(name, release=release, runner=runner)
    for image in images:
        ids, embeddings, decoding = asked(theirs, image)
        wanted = theirs.engines.language.generate(ids, embeddings, decoding)
        found = ours.engines.language.generate(ids, embeddings, decoding)
        assert (found.ids, found.out_of_range) == (wanted.ids, wanted.out_of_range)
        assert found.prefill_time > 0
        assert found.decode_time > 0
        logits = [p.engines.language.first_logits(ids, embeddings) for p in (ours, theirs)]
        np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize('name', ['tiny_openvla', 'tiny_ecot'])
def test_trained_models_write_and_tell_the_same(engine_artifact, stand_in, name):
    artifact = engine_artifact(name)
    stand_in()
    world = World()
    world.reset(3)
    image, told, answers = world.image(), [], []
    world.close()
    for engine in ('torch', 'tensorrt_llm'):
        policy = Policy.from_checkpoint(
            artifact,
            engine=engine,
            device='cpu',
            dtype='bfloat16',
            max_new_tokens=300,
            vision_engine='torch',
        )
        told.append([])
        answers.append(
            policy.predict(image, 'pick up the red block', on_reasoning=told[-1].append)
        )
    ours, theirs = answers
    assert ours.generated_ids.tolist() == theirs.generated_ids.tolist()
    np.testing.assert_array_equal(ours.action, theirs.action)
    assert told[0] == told[1]
    if name == 'tiny_ecot':
        assert len(told[0]) > 20
        assert told[0][-1] == ours.reasoning
        assert all(later.startswith(earlier) for earlier, later in pairwise(told[0]))
    else:
        assert told[0] == []


@pytest.mark.parametrize('runner', RUNNERS)
def test_streamed_tokens_grow_one_by_one_into_the_answer(load, images, runner):
    policy = load('single', runner=runner)
    heard = []
    ids, embeddings, decoding = asked(policy, images[0], on_ids=lambda i: heard.append(list(i)))
    answer = policy.engines.language.generate(ids, embeddings, decoding).ids
    assert heard == [answer[:count] for count in range(1, len(answer) + 1)]
    assert len(answer) == 24


@pytest.mark.parametrize('runner', RUNNERS)
@pytest.mark.parametrize(
    'changes',
    [
        # The action begins in the middle, and the answer ends with it.
        {'action_first': False, 'actions': (0, 1088), 'action_begins': lambda ids: len(ids) > 3},
        {'action_first': False, 'actions': (0, 500), 'action_begins': lambda ids: len(ids) > 2},
        {'action_first': True, 'actions': (100, 110)},
        {'action_first': True, 'actions': (100, 110), 'constrain': False},
        {'actions': None},
    ],
)
def test_actions_begin_and_end_as_in_the_torch_engine(load, images, runner, changes):
    theirs, ours = load('single', 'torch'), load('single', runner=runner)
    for image in images:
        ids, embeddings, decoding = asked(theirs, image, **changes)
        wanted = theirs.engines.language.generate(ids, embeddings, decoding)
        found = ours.engines.language.generate(ids, embeddings, decoding)
        assert (found.ids, found.out_of_range) == (wanted.ids, wanted.out_of_range)


@pytest.mark.parametrize('runner', RUNNERS)
def test_end_of_sequence_is_part_of_the_answer(load, images, runner):
    theirs, ours = load('single', 'torch'), load('single', runner=runner)
    ids, embeddings, decoding = asked(theirs, images[0])
    # Whatever it writes fifth shall mean the end, and padding looks like it.
    last = theirs.engines.language.generate(ids, embeddings, decoding).ids[4]
    decoding = replace(decoding, eos_id=last, actions=None)
    wanted = theirs.engines.language.generate(ids, embeddings, decoding).ids
    assert wanted[-1] == last
    assert ours.engines.language.generate(ids, embeddings, decoding).ids == wanted


def test_prompts_without_room_are_refused_before_they_are_asked(load, images, monkeypatch):
    policy = load('fused')
    ids, embeddings, decoding = asked(policy, images[0])
    with pytest.raises(InputError, match=r'and the engine takes 300 .*; shorten the instruction'):
        policy.engines.language.generate([1] * 300, embeddings, decoding)
    assert policy.predict(images[0], 'pick up the cup').out_of_range == 0
    monkeypatch.setattr(type(policy.engines.language._config), 'limit', lambda *_: len(ids))
    with pytest.raises(InputError, match=rf'engine takes {len(ids)} and .*--max_num_tokens'):
        policy.engines.language.generate(ids, embeddings, decoding)


def test_a_call_within_a_call_is_an_error_and_no_mixture(load, images):
    policy = load('single')
    ids, embeddings, decoding = asked(policy, images[0])
    wanted = policy.engines.language.generate(ids, embeddings, decoding).ids

    def ask_again(so_far):
        policy.engines.language.generate(ids, embeddings, decoding)

    with pytest.raises(EngineError, match='one call at a time'):
        policy.engines.language.generate(ids, embeddings, replace(decoding, on_ids=ask_again))
    # What was left of that answer did not come into this one.
    assert policy.engines.language.generate(ids, embeddings, decoding).ids == wanted


@pytest.mark.parametrize('runner', RUNNERS)
def test_an_error_in_the_logits_processor_is_the_callers_and_ends_the_answer(load, images, runner):
    policy, heard = load('single', runner=runner), []
    ids, embeddings, decoding = asked(policy, images[0], on_ids=heard.append)

    def fail(so_far):
        raise ZeroDivisionError('of the test')

    failing = {'actions': (0, 1088), 'action_first': False, 'action_begins': fail}
    with pytest.raises(ZeroDivisionError, match='of the test'):
        policy.engines.language.generate(ids, embeddings, replace(decoding, **failing))
    # It fails when it is told of the first token, and no third one is computed.
    assert len(heard[-1]) == 1
    assert policy.engines.language.generate(ids, embeddings, decoding).ids


def test_logits_that_are_not_finite_are_no_action(load, images):
    policy = load('fused')
    ids, embeddings, decoding = asked(policy, images[0])
    with pytest.raises(OutputError, match=r'nan.* logits; it was built from broken weights'):
        policy.engines.language.generate(ids, embeddings * torch.nan, decoding)


def test_an_engine_that_failed_must_be_loaded_again(load, images, monkeypatch):
    policy = load('fused')
    runner = policy.engines.language._runner

    def fail(**arguments):
        raise RuntimeError('CUDA error: out of memory')

    monkeypatch.setattr(runner, 'generate', fail)
    with pytest.raises(BrokenEngineError, match='CUDA error: out of memory; load the engine'):
        policy.predict(images[0], 'pick up the cup')
    monkeypatch.undo()
    # Its answers might be those of the call that failed.
    with pytest.raises(BrokenEngineError, match='out of memory'):
        policy.predict(images[0], 'pick up the cup')


def test_a_closed_policy_frees_the_runner(load):
    policy = load('fused')
    runner = weakref.ref(policy.engines.language._runner)
    policy.close()
    gc.collect()
    assert runner() is None


def test_closing_goes_on_where_what_broke_answers_no_more(load, monkeypatch):
    policy = load('fused')
    executor = policy.engines.language._runner.session
    end = executor.shutdown

    def fail():
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    monkeypatch.setattr(executor, 'shutdown', fail)
    with monkeypatch.context() as broken:
        broken.setattr(torch.cuda, 'is_available', lambda: True)
        broken.setattr(torch.cuda, 'empty_cache', fail)
        policy.close()
    assert policy.engines is None
    end()


def test_a_checkpoint_without_an_engine_names_the_command(golden_dir, split_artifact):
    with pytest.raises(ConfigError, match=r'has no TensorRT-LLM engine.* ros2 run .* pipeline'):
        Policy.from_checkpoint(golden_dir / 'fused', 'toy_arm', 'tensorrt_llm', 'cpu')
    with pytest.raises(ConfigError, match='has no TensorRT-LLM engine'):
        Policy.from_checkpoint(split_artifact('fused'), 'toy_arm', 'tensorrt_llm', 'cpu')


def test_a_machine_without_tensorrt_llm_is_told_where_it_is(engine_artifact, monkeypatch):
    artifact = engine_artifact('fused')
    monkeypatch.setitem(__import__('sys').modules, 'tensorrt_llm', None)
    with pytest.raises(EngineError, match=r'importing it failed.*docker/compose\.yaml'):
        Policy.from_checkpoint(artifact, 'toy_arm', 'tensorrt_llm', 'cpu', vision_engine='torch')


def test_a_release_that_runs_no_engines_names_the_one_that_does(load):
    with pytest.raises(EngineError, match=r'runs no engines any more; 1\.2\.1 is the last'):
        load('fused', runner='none')


def test_the_python_runner_is_not_asked_for_a_gpu_that_it_cannot_take(load):
    config = load('fused', runner='ModelRunner').engines.language._config
    with pytest.raises(EngineError, match=r'device is cuda:1.*CUDA_VISIBLE_DEVICES be 1'):
        open_runner(config, torch.device('cuda:1'), {})


def test_the_engine_is_checked_before_anything_is_loaded(engine_artifact, tmp_path, monkeypatch):
    artifact = shutil.copytree(engine_artifact('fused'), tmp_path / 'an artifact')
    config = json.loads((file := artifact / LANGUAGE_ENGINE / 'config.json').read_text())
    config['build_config']['max_batch_size'] = 8
    config['pretrained_config']['hidden_size'] = 64
    file.write_text(json.dumps(config))
    record(artifact)

    def load(*arguments):
        pytest.fail('something was loaded')

    monkeypatch.setattr(TensorrtLlm, '__init__', load)
    monkeypatch.setattr('trt_openvla_ros.engines.torch.vision.TorchVision.__init__', load)
    with pytest.raises(ConfigError, match=r'hidden_size is 64(.|\n)*--max_batch_size 1'):
        Policy.from_checkpoint(artifact, 'toy_arm', 'tensorrt_llm', 'cpu', vision_engine='torch')


def test_greedy_is_asked_for_with_a_table_and_its_ids(load, images):
    language = load('fused').engines.language
    ids, embeddings, decoding = asked(load('fused'), images[0])
    plain = language._arguments(ids, embeddings, decoding, 7)
    assert (plain['top_k'], plain['num_beams']) == (1, 1)
    assert plain['prompt_table'].shape == (1, *embeddings.shape)
    virtual = plain['batch_input_ids'][0][1 : 1 + len(embeddings)]
    assert virtual.tolist() == list(range(32064, 32064 + len(embeddings)))
