"""save_backbone and quantize to bf16 copy a model that need not fit into memory."""

import os
from pathlib import Path
import sys

import pytest
from random_checkpoint import write_random_checkpoint

ROOT = Path(__file__).parents[2]
# 230 MB in three files.
LARGE = {
    'hidden_size': 1024,
    'intermediate_size': 2816,
    'num_hidden_layers': 4,
    'num_attention_heads': 8,
}


def peak(checkpoint, artifact):
    """Bytes of memory at most, of a process that runs both stages."""
    words = ['--checkpoint', str(checkpoint), '--artifact', str(artifact)]
    for setting in ('save_backbone.onnx:=false', 'save_backbone.test_load:=false'):
        words += ['-p', setting]
    words += ['-p', 'stages:=[save_backbone, quantize]']
    command = [sys.executable, '-m', 'trt_openvla_ros.pipeline', 'pipeline', *words]
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    child = os.posix_spawn(sys.executable, command, environment, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return 1024 * usage.ru_maxrss


@pytest.mark.skipif(sys.platform != 'linux', reason='ru_maxrss is in kB on Linux only')
def test_copying_takes_the_same_memory_for_any_size(golden_dir, tmp_path):
    large = write_random_checkpoint(tmp_path / 'large', llm=LARGE, shards=3)
    files = [file.stat().st_size for file in large.glob('*.safetensors')]
    assert max(files) > 100_000_000
    small = peak(golden_dir / 'fused', tmp_path / 'small artifact')
    assert peak(large, tmp_path / 'large artifact') - small < 40_000_000
