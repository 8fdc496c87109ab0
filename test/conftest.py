import os
from pathlib import Path
import shutil
import sys

import pytest
from recorded import record
from safetensors.torch import load_file, save_file

from trt_openvla_ros.checkpoints.artifact import LANGUAGE_ENGINE, TRTLLM_CHECKPOINT
from trt_openvla_ros.pipeline.build_engine import stage as build_engine
from trt_openvla_ros.pipeline.command import run
from trt_openvla_ros.policy import Policy

GOLDEN = Path(__file__).parent / 'data' / 'golden'
MODELS = Path(__file__).parents[1] / 'models'
STAND_IN = Path(__file__).parent / 'stand_in'
_ENGINES: dict[tuple[str, str], Path] = {}  # by checkpoint and release, as long as pytest runs


def pytest_addoption(parser):
    parser.addoption(
        '--tokenizer-dir',
        help='directory with the tokenizer of openvla-7b, for the tests of its ids',
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Let a skipped test fail in CI, which sets CI, because nobody reads there why it was."""
    report = yield
    if report.skipped and os.environ.get('CI') and not item.get_closest_marker('may_skip'):
        report.outcome = 'failed'
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    """Do the same with a whole module, which has no marker when it skips itself."""
    report = yield
    if report.skipped and os.environ.get('CI'):
        report.outcome = 'failed'
    return report


@pytest.fixture(scope='session')
def golden_dir():
    return GOLDEN


@pytest.fixture(scope='session')
def fused():
    """The policy of the golden checkpoint with two towers and the In:/Out: prompt."""
    return Policy.from_checkpoint(GOLDEN / 'fused', 'toy_arm', device='cpu')


@pytest.fixture(scope='session')
def single():
    """The policy of the golden checkpoint with one tower, which reasons."""
    return Policy.from_checkpoint(GOLDEN / 'single', 'toy_arm', device='cpu')


@pytest.fixture
def edited_checkpoint(tmp_path):
    """Copy a golden checkpoint, by name, or another, and change its weights, a dict, in place."""

    def copy(source, edit):
        path = tmp_path / 'edited'
        shutil.copytree(GOLDEN / source, path)
        weights = load_file(path / 'model.safetensors')
        edit(weights)
        save_file(weights, path / 'model.safetensors', {'format': 'pt'})
        return str(path)

    return copy


@pytest.fixture
def trtllm_build(tmp_path, monkeypatch):
    """Put stand_in/trtllm_build.py onto the PATH, as the release that is asked for."""

    def make(release):
        path = tmp_path / 'bin' / 'trtllm-build'
        path.parent.mkdir(exist_ok=True)
        script = STAND_IN / 'trtllm_build.py'
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        path.chmod(0o755)
        monkeypatch.setenv('PATH', str(path.parent), prepend=':')
        monkeypatch.setenv('TRTLLM_RELEASE', release)
        return str(path)

    return make


@pytest.fixture
def stand_in(monkeypatch, trtllm_build, tmp_path):
    """Install the stand-ins of a release, for this process and its children."""

    def forget():
        for name in getattr(sys.modules.get('tensorrt_llm'), 'LEFT_BY_MPI', ()):
            os.unsetenv(name)
        for name in list(sys.modules):
            if name.split('.')[0] in ('tensorrt', 'tensorrt_llm'):
                del sys.modules[name]

    def make(release='1.2.1'):
        forget()
        trtllm_build(release)
        # What importlib.metadata reads versions from.
        site = tmp_path / f'site-{release}'
        metadata = site / f'tensorrt_llm-{release}.dist-info' / 'METADATA'
        metadata.parent.mkdir(parents=True, exist_ok=True)
        metadata.write_text(f'Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: {release}\n')
        for place in (STAND_IN, site):
            monkeypatch.syspath_prepend(str(place))
            monkeypatch.setenv('PYTHONPATH', str(place), prepend=':')

    yield make
    forget()


@pytest.fixture
def engine_artifact(stand_in, monkeypatch, tmp_path_factory):
    """Give a golden or small checkpoint's artifact with stand-in engines; to be read only."""

    def make(name, release='1.2.1'):
        if (name, release) not in _ENGINES:
            stand_in(release)
            gpu = {'name': 'stand-in', 'capability': '9.0', 'memory': 80_000_000_000}
            monkeypatch.setattr(build_engine, 'gpu', lambda: gpu)
            artifact = tmp_path_factory.mktemp('engines') / f'{name} {release}'
            source = GOLDEN / name if (GOLDEN / name).is_dir() else MODELS / name
            words = ['--checkpoint', str(source), '--artifact', str(artifact)]
            words += ['--device', 'cpu']
            other = next((path for (of, _), path in _ENGINES.items() if of == name), None)
            if other:
                shutil.copytree(other, artifact)
            else:
                run('save_backbone', [*words, '--onnx-dtype', 'float32'])
                run('quantize', [*words, '--qformat', 'bf16'])
            answer = '300' if name == 'tiny_ecot' else '24'
            lengths = ['--max-input-len', '300', '--max-new-tokens', answer]
            run('build_engine', [*words, *lengths], force=True)
            _ENGINES[name, release] = artifact
        return _ENGINES[name, release]

    return make


@pytest.fixture
def exact_artifact(engine_artifact, stand_in, tmp_path):
    """Copy an engine_artifact, by name, and let its language engine compute in float32."""

    def make(name='fused'):
        path = tmp_path / 'an artifact'
        shutil.copytree(engine_artifact(name), path)
        for folder in (TRTLLM_CHECKPOINT, LANGUAGE_ENGINE):
            file = path / folder / 'config.json'
            file.write_text(file.read_text().replace('bfloat16', 'float32'))
        record(path)
        stand_in()
        return path

    return make
