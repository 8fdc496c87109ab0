"""verify, openvla_run and the commands: what the pipeline says about what it built."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import weakref

import numpy as np
from PIL import Image
import pytest
from recorded import record
from safetensors.torch import load_file, save_file

from trt_openvla_ros.checkpoints.artifact import Manifest, TRTLLM_CHECKPOINT, VERIFICATION
from trt_openvla_ros.errors import ArtifactError, ConfigError, OutputError
from trt_openvla_ros.pipeline.command import COMMANDS, run
from trt_openvla_ros.pipeline.verify import candidates
from trt_openvla_ros.pipeline.verify.comparison import Answer, compare
from trt_openvla_ros.pipeline.verify.stage import judge, Settings
from trt_openvla_ros.policy import Policy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def plain(golden_dir, split_artifact, tmp_path_factory):
    """An artifact in bfloat16 of the golden checkpoint, not yet verified; to be copied."""
    path = tmp_path_factory.mktemp('plain') / 'plain'
    shutil.copytree(split_artifact('fused'), path)
    run('quantize', words(golden_dir, path))
    return path


@pytest.fixture
def artifact(plain, tmp_path):
    path = tmp_path / 'an artifact'
    shutil.copytree(plain, path)
    return path


@pytest.fixture(scope='module')
def folder(golden_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp('frames')
    arrays = np.load(golden_dir / 'fused' / 'golden.npz')
    for name in ('case00', 'case10', 'case20'):
        Image.fromarray(arrays[f'{name}_image']).save(path / f'{name}.png')
        (path / f'{name}.txt').write_text('put the spoon on the towel')
    return path


def words(golden_dir, artifact, *more):
    given = ['--checkpoint', str(golden_dir / 'fused'), '--artifact', str(artifact)]
    return [*given, '--device', 'cpu', '--unnorm-key', 'toy_arm', *more]


def verify(golden_dir, artifact, folder, *more):
    frames = ('--folder', str(folder), '--frames', '3')
    return run('verify', words(golden_dir, artifact, *frames, *more))['verify']


def test_what_is_the_same_passes_and_is_recorded(golden_dir, artifact, folder):
    facts = verify(golden_dir, artifact, folder)
    assert set(facts['engines']) == {'torch on trtllm_checkpoint', 'onnx vision'}
    for measured in facts['engines'].values():
        assert measured['passed']
        assert measured['token_agreement'] == 1
        assert measured['action_error']['x'] == {'mean': 0, 'max': 0}
        assert measured['logits_error'] < 1e-3
    assert facts['engines']['torch on trtllm_checkpoint']['logits_error'] == 0
    assert facts['failures'] == facts['not_compared'] == []
    assert Manifest.read(artifact).failures == ''
    frames = json.loads((artifact / VERIFICATION).read_text())['frames']
    golden = json.loads((golden_dir / 'fused' / 'golden.json').read_text())
    assert frames['case00.png']['original']['ids'] == golden[0]['generated_ids']
    np.testing.assert_allclose(
        frames['case00.png']['onnx vision']['action'], golden[0]['toy_arm'], rtol=0, atol=1e-12
    )


def test_what_is_too_far_fails_is_recorded_and_fails_again(golden_dir, artifact, folder):
    file = artifact / TRTLLM_CHECKPOINT / 'rank0.safetensors'
    weights = load_file(file)
    weights['transformer.layers.1.mlp.proj.weight'] *= -1
    save_file(weights, file)
    record(artifact)  # as if quantize had written it
    for _ in range(2):  # the second time from the record
        with pytest.raises(ArtifactError, match=r'torch on trtllm_checkpoint: .* The policy node'):
            verify(golden_dir, artifact, folder)
    assert 'torch on trtllm_checkpoint: logits are off by' in Manifest.read(artifact).failures
    facts = Manifest.read(artifact).facts('verify')
    assert not facts['engines']['torch on trtllm_checkpoint']['passed']
    assert facts['engines']['onnx vision']['passed']
    # Thresholds are the user's.
    allowed = ('--max-logits-error', '9', '--min-token-agreement', '0')
    allowed += ('--max-translation-error', '1', '--max-rotation-error', '3')
    verify(golden_dir, artifact, folder, *allowed, '--max-gripper-error', '9')
    assert Manifest.read(artifact).failures == ''


def test_engines_are_compared_where_they_can_be_run(
    golden_dir, exact_artifact, folder, monkeypatch
):
    artifact = exact_artifact()
    facts = verify(golden_dir, artifact, folder)
    assert facts['not_compared'] == []
    engine, emulated = (
        facts['engines'][name] for name in ('tensorrt_llm', 'torch on trtllm_checkpoint')
    )
    assert engine['passed']
    timeless = {'seconds_per_frame': 0}
    assert {**engine, **timeless} == {**emulated, **timeless}
    assert facts['engines']['tensorrt vision']['passed']
    # Elsewhere what was recorded here does not count.
    monkeypatch.undo()
    for name in ('tensorrt', 'tensorrt_llm'):
        sys.modules.pop(name, None)
    elsewhere = verify(golden_dir, artifact, folder)
    way_out = 'is not installed here; verify on the robot'
    assert elsewhere['not_compared'] == [
        f'language_engine was not compared: tensorrt_llm {way_out}',
        f'vision.engine was not compared: tensorrt {way_out}',
    ]
    assert set(elsewhere['engines']) == {'torch on trtllm_checkpoint', 'onnx vision'}


def test_weights_that_are_quantised_already_are_not_quantised_again(artifact):
    with pytest.raises(ConfigError, match=r'in bf16 already.*leave weights empty'):
        Policy.from_checkpoint(artifact, 'toy_arm', weights='int8')


def test_one_candidate_at_a_time_is_in_memory(golden_dir, artifact, folder, monkeypatch):
    loaded, load = [], candidates.load_engines

    def load_alone(*arguments):
        assert all(engine() is None for engine in loaded)
        engines = load(*arguments)
        loaded.extend(map(weakref.ref, engines))
        return engines

    monkeypatch.setattr(candidates, 'load_engines', load_alone)
    verify(golden_dir, artifact, folder)
    assert len(loaded) == 2 * 3  # the original's, and those of two candidates


def answer(ids, action, scale=1.0):
    vector = scale * np.ones(4, np.float32)
    action = None if action is None else np.array(action)
    return Answer(vector, vector, np.array(ids), action, 0.5)


def test_errors_are_those_of_the_frames_where_the_original_acts():
    zero, moved = [0.0] * 7, [0.01, 0, 0, 0, 0, 0.2, 1]
    wanted = [answer([1, 2, 3, 4], zero), answer([1, 2], zero), answer([], None)]
    found = [answer([1, 2, 9], moved, 1.5), answer([1, 2], zero), answer([5], zero)]
    measured = compare(wanted, found)
    assert measured['frames'] == 2
    assert measured['token_agreement'] == (2 / 4 + 1) / 2
    assert measured['action_error']['x'] == {'mean': 0.005, 'max': 0.01}
    assert measured['action_error']['yaw'] == {'mean': 0.1, 'max': 0.2}
    assert measured['logits_error'] == measured['vision_error'] == 0.5
    assert measured['no_action'] == 0
    assert judge(measured, Settings()) == [
        '75.0% of tokens agree (at least 80.0% wanted)',
        'x is off by 0.005 m (at most 0.002)',
        'yaw is off by 0.1 rad (at most 0.01)',
        'gripper is off by 0.5 of the gripper (at most 0.1)',
        'logits are off by 0.5 of their length (at most 0.1)',
        'image embeddings are off by 0.5 of their length (at most 0.05)',
    ]
    silent = compare(wanted[:1], [answer([], None, float('nan'))])
    assert judge(silent, Settings())[0] == 'no action on 1 of 1 frames'
    assert any(text.startswith('logits are off by nan') for text in judge(silent, Settings()))


def test_original_that_gives_no_action_is_a_sentence(golden_dir, split_artifact, tmp_path, folder):
    shutil.copytree(split_artifact('single'), tmp_path / 'a')
    given = ['--checkpoint', str(golden_dir / 'single'), '--artifact', str(tmp_path / 'a')]
    given += ['--device', 'cpu', '--unnorm-key', 'toy_arm', '--max-new-tokens', '3']
    with pytest.raises(
        OutputError, match=r'itself gives no action on any of 3 frames; set verify'
    ):
        run('verify', [*given, '--folder', str(folder), '--frames', '3'])


def test_one_image_gives_an_action_and_a_picture(golden_dir, artifact, folder, tmp_path):
    image = folder / 'case00.png'
    more = ['--image', str(image), '--instruction', 'put the spoon on the towel']
    output = tmp_path / 'a picture.png'
    given = words(golden_dir, artifact, *more, '--output', str(output))
    facts = run('openvla_run', given)['openvla_run']
    golden = json.loads((golden_dir / 'fused' / 'golden.json').read_text())
    np.testing.assert_allclose(facts['action'], golden[0]['toy_arm'], rtol=0, atol=1e-12)
    assert facts['seconds']['total'] > 0
    picture = np.asarray(Image.open(output))
    assert picture.shape[1] == 640
    assert picture.shape[0] > 480
    assert (picture[500:] < 128).any()  # something is written below the image
    with pytest.raises(ArtifactError, match=r'set openvla_run\.output to a \.png'):
        run('openvla_run', [*given, '--output', str(tmp_path / 'no' / 'x.png')])
    with pytest.raises(ConfigError, match='image /nowhere cannot be read'):
        run('openvla_run', [*given, '--image', '/nowhere'])


def test_default_image_is_found(golden_dir, artifact):
    run('openvla_run', words(golden_dir, artifact))
    assert (artifact / 'openvla_run.png').is_file()


def test_executables_are_the_commands():
    scripts = {path.name for path in (ROOT / 'scripts').iterdir()}
    assert set(COMMANDS) <= scripts


def execute(*command):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_tiny_pipeline_runs_whole_and_then_skips(tmp_path):
    command = ('scripts/pipeline', '--ros-args', '--params-file', 'config/pipeline/tiny.yaml')
    command += ('-p', f'artifact:={tmp_path}/an artifact', '-p', 'verify.frames:=2')
    command += ('-p', 'quantize.frames:=2')
    done = execute(*command)
    assert done.returncode == 0, done.stderr
    assert 'left out, as `stages` says: build_engine' in done.stderr
    stages = Manifest.read(tmp_path / 'an artifact').stages
    assert set(stages) == {'save_backbone', 'quantize', 'verify'}
    assert stages['quantize']['facts']['quantization']['quant_algo'] == 'FP8'
    again = execute(*command)
    assert again.stderr.count('nothing changed; skipped') == 3
    assert again.stdout == done.stdout


def test_commands_end_with_a_sentence_and_not_with_a_traceback():
    done = execute('-m', 'trt_openvla_ros.pipeline', 'quantize', '-p', 'qformat:=fp8')
    assert done.returncode == 1
    assert 'unknown setting qformat; did you mean quantize.qformat?\n' in done.stderr
    helped = execute('scripts/verify', '--help')
    assert helped.returncode == 0
    assert 'verify.max_rotation_error: 0.01 (a number from 0 to 3.15)' in helped.stdout
    unknown = execute('-m', 'trt_openvla_ros.pipeline', 'quantise')
    assert unknown.returncode == 1
    assert 'usage: ' in unknown.stderr
