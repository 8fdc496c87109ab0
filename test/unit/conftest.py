from pathlib import Path
import sys

import pytest

from trt_openvla_ros.pipeline.command import run


@pytest.fixture
def trtllm_build(tmp_path, monkeypatch):
    """Put fake_trtllm_build.py onto the PATH, as the release that is asked for."""

    def make(release):
        path = tmp_path / 'bin' / 'trtllm-build'
        path.parent.mkdir(exist_ok=True)
        script = Path(__file__).with_name('fake_trtllm_build.py')
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        path.chmod(0o755)
        monkeypatch.setenv('PATH', str(path.parent), prepend=':')
        table = Path(__file__).parents[1] / 'data' / 'trtllm_build_flags.json'
        monkeypatch.setenv('FLAGS_FILE', str(table))
        monkeypatch.setenv('RELEASE', release)
        return str(path)

    return make


@pytest.fixture(scope='session')
def split_artifact(golden_dir, tmp_path_factory):
    """Give the artifact of save_backbone of a golden checkpoint, by name; to be read only."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp('artifacts') / f'{name} artifact'
            words = ['--checkpoint', str(golden_dir / name), '--artifact', str(made[name])]
            run('save_backbone', [*words, '--onnx-dtype', 'float32', '--device', 'cpu'])
        return made[name]

    return make
