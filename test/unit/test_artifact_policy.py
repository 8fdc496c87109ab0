"""A policy from an artifact: vision and projector from their files, language as quantised."""

from pathlib import Path
import shutil

from modelopt_reference import write_artifact
import numpy as np
import pytest
from random_checkpoint import write_random_checkpoint
from recorded import record

from trt_openvla_ros.checkpoints.artifact import LLM_BACKBONE, TRTLLM_CHECKPOINT, VISION
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.errors import ArtifactError, ConfigError
from trt_openvla_ros.policy import Policy

# A width that AWQ can share scales in.
LLM = {
    'hidden_size': 128,
    'intermediate_size': 384,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return Checkpoint.open(write_random_checkpoint(tmp_path_factory.mktemp('random'), llm=LLM))


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)


def answers(path, images, dtype=None):
    policy = Policy.from_checkpoint(path, device='cpu', dtype=dtype)
    _, ids = policy.spec.prompter('pick up the cup')
    return policy, [
        policy.engines.language.first_logits(
            ids, policy.engines.vision.encode(policy.spec.views(image))
        )
        for image in images
    ]


def test_bf16_artifact_is_the_checkpoint(checkpoint, images, tmp_path):
    artifact = write_artifact(checkpoint, tmp_path / 'artifact', 'bf16')
    policy, actual = answers(artifact, images)
    original, expected = answers(checkpoint.path, images)
    assert policy.spec.checkpoint.artifact.trtllm_checkpoint == artifact / TRTLLM_CHECKPOINT
    assert original.spec.checkpoint.artifact is None
    np.testing.assert_array_equal(actual, expected)
    for image in images:
        ours, theirs = (p.predict(image, 'pick up the cup') for p in (policy, original))
        assert ours.generated_ids.tolist() == theirs.generated_ids.tolist()
        np.testing.assert_array_equal(ours.action, theirs.action)


@pytest.mark.parametrize('name', ['fp8', 'int4_awq', 'int8_sq'])
def test_quantised_artifact_acts_nearly_as_the_checkpoint(checkpoint, images, tmp_path, name):
    policy, actual = answers(write_artifact(checkpoint, tmp_path / 'artifact', name), images)
    _, expected = answers(checkpoint.path, images)
    actual, expected = np.array(actual), np.array(expected)
    assert not np.array_equal(actual, expected)
    # Of the spread of the logits. Measured: fp8 0.05, int4_awq 0.17, int8_sq 0.12.
    error = np.sqrt(np.square(actual - expected).mean()) / expected.std()
    assert error < {'fp8': 0.1, 'int4_awq': 0.3, 'int8_sq': 0.2}[name]
    prediction = policy.predict(images[0], 'pick up the cup')
    assert prediction.out_of_range == 0
    assert np.abs(prediction.action).max() <= 1


def test_artifact_without_the_stage_quantize_is_read_as_it_was_saved(checkpoint, images, tmp_path):
    artifact = write_artifact(checkpoint, tmp_path / 'artifact', 'bf16')
    shutil.rmtree(artifact / TRTLLM_CHECKPOINT)
    record(artifact, quantize=None)
    np.testing.assert_array_equal(
        answers(artifact, images)[1], answers(checkpoint.path, images)[1]
    )


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        (VISION, r'lacks vision\.safetensors'),
        (f'{LLM_BACKBONE}/model.safetensors', r'lacks LLM_backbone/model\.safetensors'),
        (f'{TRTLLM_CHECKPOINT}/rank0.safetensors', r'rank0\.safetensors is missing; quantise'),
        (f'{TRTLLM_CHECKPOINT}/config.json', 'no TensorRT-LLM checkpoint'),
    ],
)
def test_artifact_that_lacks_a_file_is_refused(checkpoint, tmp_path, file, message):
    artifact = write_artifact(checkpoint, tmp_path / 'artifact', 'bf16')
    (artifact / file).unlink()
    # LLM_backbone is not read, because what was quantised is; but it must be there.
    expected = ConfigError if file.startswith(LLM_BACKBONE) else ArtifactError
    with pytest.raises(expected, match=Path(file).name):
        Policy.from_checkpoint(artifact, device='cpu')
    record(artifact)  # as if the pipeline had never written it
    with pytest.raises(ConfigError, match=message):
        Policy.from_checkpoint(artifact, device='cpu')


def test_artifact_of_two_models_is_refused(checkpoint, tmp_path):
    artifact = write_artifact(checkpoint, tmp_path / 'artifact', 'bf16')
    file = artifact / TRTLLM_CHECKPOINT / 'config.json'
    file.write_text(file.read_text().replace('"norm_epsilon": 1e-06', '"norm_epsilon": 1e-05'))
    record(artifact)
    with pytest.raises(ConfigError, match='rms_norm_eps is 1e-05 here and 1e-06 there'):
        Policy.from_checkpoint(artifact, device='cpu')
