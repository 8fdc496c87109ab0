"""save_backbone and quantize to bf16 copy a model that need not fit into memory.

quantize to another format holds the model once, and one layer of what it exports.
"""

import os
from pathlib import Path
import sys

from PIL import Image
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
# As narrow as AWQ allows.
SMALL = {**LARGE, 'hidden_size': 128, 'intermediate_size': 128, 'num_hidden_layers': 1}
LINUX = pytest.mark.skipif(sys.platform != 'linux', reason='ru_maxrss is in kB on Linux only')


def peak(checkpoint, artifact, *more):
    """Bytes of memory at most, of a process that runs both stages with more settings."""
    words = ['--checkpoint', str(checkpoint), '--artifact', str(artifact)]
    for setting in ('save_backbone.onnx:=false', 'save_backbone.test_load:=false', *more):
        words += ['-p', setting]
    words += ['-p', 'stages:=[save_backbone, quantize]']
    command = [sys.executable, '-m', 'trt_openvla_ros.pipeline', 'pipeline', *words]
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    child = os.posix_spawn(sys.executable, command, environment, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return 1024 * usage.ru_maxrss


@LINUX
def test_copying_takes_the_same_memory_for_any_size(golden_dir, tmp_path):
    large = write_random_checkpoint(tmp_path / 'large', llm=LARGE, shards=3)
    files = [file.stat().st_size for file in large.glob('*.safetensors')]
    assert max(files) > 100_000_000
    small = peak(golden_dir / 'fused', tmp_path / 'small artifact')
    assert peak(large, tmp_path / 'large artifact') - small < 40_000_000


@LINUX
def test_quantising_holds_the_model_once(tmp_path):
    folder = tmp_path / 'frames'
    folder.mkdir()
    Image.new('RGB', (64, 48), 'red').save(folder / '0.png')
    (folder / '0.txt').write_text('push the block')
    words = [f'quantize.folder:={folder}', 'quantize.frames:=1', 'quantize.answer_tokens:=0']
    words += ['quantize.qformat:=fp8', 'device:=cpu']
    peaks, sizes = [], []
    for llm in (SMALL, LARGE):
        name = str(llm['num_hidden_layers'])
        checkpoint = write_random_checkpoint(tmp_path / name, llm=llm)
        sizes.append(sum(file.stat().st_size for file in checkpoint.glob('*.safetensors')))
        peaks.append(peak(checkpoint, tmp_path / f'artifact {name}', *words))
    layer = (sizes[1] - 2 * 2 * 32064 * 1024) / LARGE['num_hidden_layers']
    assert peaks[1] - peaks[0] < 1.25 * sizes[1] + layer
