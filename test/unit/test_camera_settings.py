"""What a checkpoint tells of the steps before its image processor, and who wins over it."""

import json
import logging
from pathlib import Path
import shutil

import numpy as np
import pytest

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints.artifact import Manifest
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.codec import decode_description, encode_description
from trt_openvla_ros.errors import ConfigError, ImageError
from trt_openvla_ros.pipeline.command import run
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.camera import camera_steps, CameraSettings
from trt_openvla_ros.policy.spec import ModelSpec
from trt_openvla_ros.policy.views import Views
from trt_openvla_ros.serving.settings import ServerSettings

ALL = CameraSteps(jpeg_round_trip=True, resize='lanczos3', center_crop=True)
CROP = CameraSteps(center_crop=True)
IMAGE = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)


@pytest.fixture
def copy(golden_dir, tmp_path):
    """Copy the golden checkpoint under another name, with changes to its files."""

    def make(name='a model', keys=None, statistics=None, **files):
        path = tmp_path / name
        path.mkdir(parents=True)
        for file in (golden_dir / 'fused').iterdir():
            if file.suffix in ('.json', '.model', '.safetensors'):
                shutil.copy(file, path)
        config = json.loads((path / 'config.json').read_text())
        if keys:
            config['norm_stats'] = dict.fromkeys(keys, config['norm_stats']['toy_arm'])
        (path / 'config.json').write_text(json.dumps({**config, **files.get('config', {})}))
        if statistics:
            content = {
                key: config['norm_stats'][next(iter(config['norm_stats']))] for key in statistics
            }
            (path / 'dataset_statistics.json').write_text(json.dumps(content))
        if 'preprocessor' in files:
            there = json.loads((path / 'preprocessor_config.json').read_text())
            there |= files['preprocessor']
            (path / 'preprocessor_config.json').write_text(json.dumps(there))
        return path

    return make


@pytest.mark.parametrize(
    ('given', 'told'),
    [
        ({}, CameraSteps()),
        ({'keys': ['libero_spatial']}, ALL),
        ({'keys': ['libero_10_no_noops']}, ALL),
        ({'keys': ['toy_arm', 'libero_goal']}, ALL),
        # dataset_statistics.json replaces what config.json says, as everywhere.
        ({'statistics': ['libero_object_no_noops']}, ALL),
        ({'keys': ['libero_goal'], 'statistics': ['my_robot']}, CameraSteps()),
        ({'keys': ['liberated_arm']}, CameraSteps()),
        ({'name': 'openvla-7b+my_robot+b16+lr-0.0005+lora-r32+dropout-0.0--image_aug'}, CROP),
        ({'name': 'models--me--my_robot--image_aug/snapshots/0123abcd'}, CROP),
        ({'config': {'_name_or_path': 'runs/openvla-7b+my_robot--image_aug'}}, CROP),
        ({'name': 'about image_aug/model'}, CameraSteps()),
        ({'preprocessor': {'camera': {'center_crop': True}}}, CROP),
        (
            {
                'keys': ['libero_goal'],
                'preprocessor': {
                    'camera': {
                        'center_crop': False, 'jpeg_round_trip': False, 'resize': 'processor'
                    }
                },
            },
            CameraSteps(),
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_files_tell(copy, given, told):
    checkpoint = Checkpoint.open(copy(**given))
    assert camera_steps(checkpoint) == told
    assert ModelSpec.read(checkpoint, next(iter(checkpoint.statistics))).views.steps == told


def test_settings_win_and_the_log_says_why(copy, caplog):
    checkpoint = Checkpoint.open(copy(keys=['libero_spatial']))
    with caplog.at_level(logging.INFO):
        crop = CameraSettings(center_crop='false', rotation=180)
        assert camera_steps(checkpoint, crop) == CameraSteps(
            rotation=180, jpeg_round_trip=True, resize='lanczos3'
        )
        assert 'its data set libero_spatial is of LIBERO' in caplog.text
        caplog.clear()
        every = CameraSettings('false', 'false', 'processor', 0, 'none', 1, 2, 3, 4)
        assert camera_steps(checkpoint, every) == CameraSteps((1, 2, 3, 4))
        assert 'LIBERO' not in caplog.text


@pytest.mark.parametrize(
    ('wrong', 'reason'),
    [
        ({'center_crop': 'yes'}, 'camera.center_crop'),
        ({'resize': 'bicubic'}, 'camera.resize'),
        ('all', 'camera'),
    ],
)
def test_what_a_file_cannot_mean_is_refused(copy, wrong, reason):
    checkpoint = Checkpoint.open(copy(preprocessor={'camera': wrong}))
    with pytest.raises(ConfigError, match=reason):
        ModelSpec.read(checkpoint, 'toy_arm')


@pytest.mark.parametrize('rotation', [1, 45, 269])
def test_other_rotations_are_refused_before_a_weight_is_read(copy, rotation):
    with pytest.raises(ConfigError, match=f'rotation is {rotation}; one of 0, 90, 180, 270'):
        Policy.from_checkpoint(copy(), 'toy_arm', camera=CameraSettings(rotation=rotation))


def test_true_and_false_are_read_as_people_write_them():
    for text, value in (('true', 'true'), ('false', 'false'), ("'true'", 'true'), ('', '')):
        words = ['--ros-args', '-p', f'center_crop:={text}', '-p', 'rotation:=180']
        read = read_settings(ServerSettings, words, 'deploy_server')
        assert (read.center_crop, read.rotation) == (value, 180)
    assert read_settings(ServerSettings, ['--center-crop', 'true'], 'x').center_crop == 'true'
    with pytest.raises(ConfigError, match='center_crop is 1'):
        read_settings(ServerSettings, ['--ros-args', '-p', 'center_crop:=1'], 'x')
    with pytest.raises(ConfigError, match='resize is True'):
        read_settings(ServerSettings, ['--ros-args', '-p', 'resize:=true'], 'x')


def test_everything_of_a_policy_sees_the_same(golden_dir):
    camera = CameraSettings('true', 'true', 'lanczos3', 270, 'horizontal', 8, 4, 120, 100)
    policy = Policy.from_checkpoint(golden_dir / 'fused', 'toy_arm', device='cpu', camera=camera)
    wanted = policy.spec.views(IMAGE)
    np.testing.assert_array_equal(policy.prepare(IMAGE).views, wanted)
    for image in (IMAGE, policy.prepare(IMAGE)):
        np.testing.assert_array_equal(policy.preview(image), wanted[0])
    seen = []
    encode = policy.engines.vision.encode
    policy.engines.vision.encode = lambda views: seen.append(views) or encode(views)
    policy.predict(IMAGE, 'push it')
    policy.predict(policy.prepare(IMAGE), 'push it')
    for views in seen:
        np.testing.assert_array_equal(views, wanted)
    assert len(seen) == 2
    described = policy.description
    assert described.camera == policy.spec.views.steps
    assert decode_description(json.loads(json.dumps(encode_description(described)))) is not None
    again = decode_description(json.loads(json.dumps(encode_description(described))))
    assert again.camera == described.camera
    with pytest.raises(ImageError, match='outside the picture of 60 x 40'):
        policy.predict(np.zeros((40, 60, 3), np.uint8), 'push it')
    policy.close()


@pytest.mark.parametrize('wrong', [{'rotation': 5}, {'region': 3}, {'center_crop': 'yes'}, 7])
def test_descriptions_with_impossible_steps_are_refused(fused, wrong):
    data = {**encode_description(fused.description), 'camera': wrong}
    with pytest.raises(ValueError, match=r'rotation|int|center_crop'):
        decode_description(data)


def test_a_server_of_an_older_release_does_no_steps(fused):
    data = encode_description(fused.description)
    del data['camera']
    assert decode_description(data).camera == CameraSteps()


def save_backbone(checkpoint: Path, artifact: Path, *words: str) -> Checkpoint:
    given = ['--checkpoint', str(checkpoint), '--artifact', str(artifact), '--device', 'cpu']
    run('save_backbone', [*given, '--onnx', 'false', '--test-load', 'false', *words])
    return Checkpoint.open(artifact)


def test_an_artifact_keeps_what_its_checkpoint_told(copy, tmp_path):
    """Its name is another, and the node that loads it has other settings."""
    for name, given, told in (
        ('libero', {'keys': ['libero_goal']}, ALL),
        ('run--image_aug', {}, CROP),
        ('plain', {}, CameraSteps()),
    ):
        artifact = save_backbone(copy(name, **given), tmp_path / f'artifact {len(name)}')
        assert camera_steps(artifact) == told


def test_what_the_pipeline_was_told_is_in_the_artifact(copy, tmp_path):
    checkpoint = copy(keys=['libero_goal'])
    told = ('-p', 'center_crop:=false', '-p', 'rotation:=180')
    artifact = save_backbone(checkpoint, tmp_path / 'artifact', *told)
    # The rotation is of the camera of these frames, and not of the model.
    assert camera_steps(artifact) == CameraSteps(jpeg_round_trip=True, resize='lanczos3')
    started = Manifest.read(tmp_path / 'artifact').stages['save_backbone']['started']
    save_backbone(checkpoint, tmp_path / 'artifact', *told)
    save_backbone(checkpoint, tmp_path / 'artifact', *told[:2])
    assert Manifest.read(tmp_path / 'artifact').stages['save_backbone']['started'] == started
    artifact = save_backbone(checkpoint, tmp_path / 'artifact')
    assert camera_steps(artifact) == ALL


def test_calibration_and_verify_see_what_the_policy_sees(copy, tmp_path, monkeypatch):
    """Every picture of the pipeline has passed the same steps, also those of the original."""
    checkpoint, artifact = copy(keys=['libero_goal']), tmp_path / 'artifact'
    seen = []
    call = Views.__call__
    monkeypatch.setattr(Views, '__call__', lambda v, i: seen.append(v.steps) or call(v, i))

    def pipeline(*more):
        # Random weights answer anything, so no error is too large.
        settings = ['rotation:=180', 'save_backbone.onnx:=false', 'save_backbone.test_load:=false']
        settings += ['quantize.qformat:=int8_sq', 'quantize.frames:=2', 'verify.dtype:=float32']
        settings += ['verify.min_token_agreement:=0.0', 'verify.max_logits_error:=10.0']
        settings += [f'verify.max_{name}_error:=1.0' for name in ('translation', 'rotation')]
        settings += [f'verify.max_{name}_error:=10.0' for name in ('gripper', 'vision')]
        words = ['--checkpoint', str(checkpoint), '--artifact', str(artifact), '--device', 'cpu']
        seen.clear()
        run('pipeline', [*words, *(w for s in (*settings, *more) for w in ('-p', s))])

    pipeline('center_crop:=false', 'stages:=[save_backbone, quantize]', 'verify.frames:=1')
    wanted = CameraSteps(rotation=180, jpeg_round_trip=True, resize='lanczos3')
    assert seen == [wanted] * 2
    # What the artifact states holds for the original too, which tells something else.
    pipeline('stages:=[verify]', 'verify.frames:=1')
    assert len(seen) >= 4
    assert set(seen) == {wanted}
    facts = json.loads((artifact / 'verification.json').read_text())['summary']
    assert facts['camera'] == 'rotation 180, jpeg_round_trip, resize lanczos3'
