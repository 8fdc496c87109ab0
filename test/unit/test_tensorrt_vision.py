"""The tensorrt vision engine on the stand-in of its contract, and whole policies on it."""

import json

import numpy as np
import pytest
from recorded import record
import torch

from trt_openvla_ros.checkpoints.artifact import Manifest, VISION_ENGINE
from trt_openvla_ros.errors import BrokenEngineError, ConfigError, EngineError, InputError
from trt_openvla_ros.policy import Policy

PUT = 'put the spoon on the towel'


def test_tokens_and_actions_of_both_engines_are_the_references(exact_artifact, golden_dir):
    policy = Policy.from_checkpoint(exact_artifact(), 'toy_arm', 'tensorrt_llm', 'cpu')
    assert type(policy.engines.vision).__name__ == 'TensorrtVision'
    images = np.load(golden_dir / 'fused' / 'golden.npz')
    cases = json.loads((golden_dir / 'fused' / 'golden.json').read_text())
    for case in cases:
        instruction = case['prompt'].split('take to ')[1].split('?')[0]
        prediction = policy.predict(images[f'{case["case"][:5]}0_image'], instruction)
        assert prediction.generated_ids.tolist() == case['generated_ids']
        np.testing.assert_allclose(prediction.action, case['toy_arm'], rtol=0, atol=1e-12)
    assert policy.description.dtype == 'float32'


@pytest.mark.parametrize('engine', ['tensorrt_llm', 'torch'])
def test_the_policys_dtype_is_the_language_engines(engine_artifact, stand_in, engine):
    artifact = engine_artifact('fused')
    stand_in()
    policy = Policy.from_checkpoint(
        artifact, 'toy_arm', engine, 'cpu', 'bfloat16', vision_engine='tensorrt'
    )
    assert policy.engines.vision.dtype == torch.float32
    assert policy.description.dtype == 'bfloat16'


@pytest.mark.parametrize('name', ['fused', 'single'])
def test_embeddings_are_those_of_torch_and_stay_what_they_are(exact_artifact, name):
    path = exact_artifact(name)
    ours = Policy.from_checkpoint(path, 'toy_arm', 'torch', 'cpu', vision_engine='tensorrt')
    theirs = Policy.from_checkpoint(path, 'toy_arm', 'torch', 'cpu')
    assert type(theirs.engines.vision).__name__ == 'TorchVision'
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    views = [ours.spec.views(image) for image in images]
    found = [ours.engines.vision.encode(view) for view in views]
    assert ours.engines.vision.encode_time > 0
    for embeddings, view in zip(found, views, strict=True):
        wanted = theirs.engines.vision.encode(view)
        assert (embeddings - wanted).norm() < 1e-4 * wanted.norm()
    with pytest.raises(InputError, match='views have shape'):
        ours.engines.vision.encode(views[0][:, 1:])


def test_vision_follows_the_language_engine_unless_it_is_told(exact_artifact):
    path = exact_artifact()
    policy = Policy.from_checkpoint(path, 'toy_arm', 'tensorrt_llm', 'cpu', vision_engine='torch')
    assert type(policy.engines.vision).__name__ == 'TorchVision'
    facts = Manifest.read(path).facts('build_engine')
    del facts['vision']
    record(path, build_engine=facts)
    policy = Policy.from_checkpoint(path, 'toy_arm', 'tensorrt_llm', 'cpu')
    assert type(policy.engines.vision).__name__ == 'TorchVision'
    for name, reason in (
        ('tensorrt', 'has no vision engine; on the machine that shall run it: ros2 run'),
        ('tensorflow', "unknown vision_engine 'tensorflow'; known: torch, tensorrt"),
    ):
        with pytest.raises(ConfigError, match=reason):
            Policy.from_checkpoint(path, 'toy_arm', 'torch', 'cpu', vision_engine=name)


def test_an_engine_of_another_tensorrt_is_refused_before_it_is_read(exact_artifact):
    path = exact_artifact()
    facts = Manifest.read(path).facts('build_engine')
    facts['vision']['tensorrt'] = '10.10.0.31'
    record(path, build_engine=facts)
    with pytest.raises(ConfigError, match=r'built by TensorRT 10\.10\.0\.31, and .* is installed'):
        Policy.from_checkpoint(path, 'toy_arm', 'torch', 'cpu', vision_engine='tensorrt')


def test_a_file_that_tensorrt_does_not_take_is_refused(exact_artifact):
    path = exact_artifact()
    (path / VISION_ENGINE).write_bytes(b'not one')
    record(path)
    with pytest.raises(EngineError, match=r'cannot load .*vision\.engine; .* run the stage'):
        Policy.from_checkpoint(path, 'toy_arm', 'torch', 'cpu', vision_engine='tensorrt')


def test_an_engine_that_refuses_to_run_must_be_loaded_again(exact_artifact, monkeypatch):
    policy = Policy.from_checkpoint(
        exact_artifact(), 'toy_arm', 'torch', 'cpu', vision_engine='tensorrt'
    )
    monkeypatch.setattr(policy.engines.vision._context, 'execute_async_v3', lambda stream: False)
    with pytest.raises(BrokenEngineError, match='refused to run the vision engine'):
        policy.predict(np.zeros((48, 64, 3), np.uint8), PUT)


def test_out_of_memory_breaks_the_torch_engine_too(fused, monkeypatch):
    def fail(*arguments):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB')

    monkeypatch.setattr(fused.engines.language, 'generate', fail)
    with pytest.raises(BrokenEngineError, match=r'CUDA out of memory.*load the policy again'):
        fused.predict(np.zeros((48, 64, 3), np.uint8), PUT)
