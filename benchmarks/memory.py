"""Measure the memory that save_backbone takes, on towers of openvla-7b's size.

The checkpoint has openvla-7b's towers, projector, widths and vocabulary, with random weights. It
has fewer layers, because all 32 would only take longer: tensors are copied piece by piece, and
test_load uses as many layers as fit into the memory it is given.

    PYTHONPATH=test/support:$PYTHONPATH python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import json
import math
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

from random_checkpoint import write_configuration
import torch

from trt_openvla_ros.checkpoints.tensor_files import Piece, progress, write_shards
from trt_openvla_ros.evaluation.report import write_json

BACKBONE = 'dinosiglip-vit-so-224px'
SHARD_OF_7B = 7_000_000_000  # most bytes: max_shard_size of openvla's conversion script
MOST = 2_000_000_000  # most bytes beside such a shard, so that 7B fits into 16 GB
# Settings of each run, which leave the other parts out to separate the peaks.
PARTS = {
    'copy': ('save_backbone.onnx:=false', 'save_backbone.test_load:=false'),
    'onnx': ('save_backbone.test_load:=false',),
    'test_load': ('save_backbone.onnx:=false',),
}
_FACTS = ('onnx', 'test_load', 'frames', 'device', 'gpu_peak_bytes')
_BLOCK = 1 << 22  # random values, repeated as often as a tensor needs


def write_checkpoint(directory: Path, layers: int, shards: int, **tower: int) -> int:
    """Write the checkpoint, with full towers or these; give the bytes of its largest file."""
    shapes = write_configuration(directory, BACKBONE, tower, {'num_hidden_layers': layers})
    values = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0))
    pieces = {name: _piece(name, shape, values) for name, shape in shapes.items()}
    return _write(directory, pieces, shards)


def _piece(name: str, shape: tuple[int, ...], values: torch.Tensor) -> Piece:
    scale = (shape[-1] if len(shape) > 1 else 4096) ** -0.5
    middle = float(len(shape) == 1 and name.endswith(('norm.weight', 'norm1.weight')))
    size = 2 * math.prod(shape)

    def read() -> Iterator[bytes]:
        block = (
            (values[: size // 2] * scale + middle).bfloat16().view(torch.uint8).numpy().tobytes()
        )
        for at in range(0, size, len(block)):
            yield block[: size - at]

    return Piece('BF16', shape, read)


def _write(directory: Path, pieces: dict[str, Piece], shards: int) -> int:
    total = sum(piece.size for piece in pieces.values())
    files: list[dict[str, Piece]] = [{}]
    for name, piece in pieces.items():
        if len(files) < shards and sum(p.size for p in files[-1].values()) > total / shards:
            files.append({})
        files[-1][name] = piece
    with progress(pieces, 'checkpoint') as bar:
        write_shards(directory, files, bar)
    return max(file.stat().st_size for file in directory.glob('*.safetensors'))


def peak(stage: str, checkpoint: Path, artifact: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Run a stage in a process of its own.

    Returns:
        peak_bytes: Largest memory of the process, with the files that it maps.
        peak_bytes_allocated: Largest memory that it allocated itself, sampled every 20 ms.
        seconds: Time of the run.
        onnx, test_load: Facts of the checks of save_backbone, if they ran.
        frames, device, gpu_peak_bytes: Facts of quantize, if it calibrated.
    """
    words = ['-p', f'checkpoint:={checkpoint}', '-p', f'artifact:={artifact}']
    for setting in settings:
        words += ['-p', setting]
    command = [sys.executable, '-m', 'trt_openvla_ros.pipeline', stage, *words]
    began, found = time.monotonic(), {'VmHWM': 0, 'RssAnon': 0}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            status = Path(f'/proc/{process.pid}/status').read_text()
            for entry in status.splitlines():
                name, _, value = entry.partition(':')
                if name in found:
                    found[name] = max(found[name], 1024 * int(value.split()[0]))
            time.sleep(0.02)
        printed = process.stdout.read()
    if process.returncode:
        sys.exit(f'{" ".join(command)} ended with code {process.returncode}')
    facts = json.loads(printed)[stage]
    return {
        'peak_bytes': found['VmHWM'],
        'peak_bytes_allocated': found['RssAnon'],
        'seconds': round(time.monotonic() - began, 1),
        **{name: facts[name] for name in _FACTS if name in facts},
    }


def main() -> int:
    """Measure each part and print its peak; give 1 if one takes too much memory, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--layers', type=int, default=6, help='layers of the language model')
    parser.add_argument('--shards', type=int, default=3, help='weight files of the checkpoint')
    parser.add_argument('--parts', nargs='+', default=list(PARTS), choices=PARTS)
    parser.add_argument(
        '--directory',
        type=Path,
        help="directory with 10 GB free; the default is the system's for temporary files",
    )
    parser.add_argument('--json', type=Path, help='write the result here')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        checkpoint = Path(directory) / 'checkpoint'
        largest = write_checkpoint(checkpoint, args.layers, args.shards)
        result: dict[str, Any] = {
            'layers': args.layers,
            'largest_shard_bytes': largest,
            'largest_shard_bytes_of_openvla_7b': SHARD_OF_7B,
            'parts': {},
        }
        for name in args.parts:
            artifact = Path(directory) / 'artifact'
            result['parts'][name] = peak('save_backbone', checkpoint, artifact, PARTS[name])
            shutil.rmtree(artifact)
            print(f'{name:10}{result["parts"][name]["peak_bytes"] / 1e9:6.2f} GB', flush=True)
            if args.json:
                write_json(args.json, result, ['torch', 'transformers', 'onnx', 'onnxruntime'])
    # The towers have full size; the rest of the peak grows with the largest shard.
    return int(any(part['peak_bytes'] > SHARD_OF_7B + MOST for part in result['parts'].values()))


if __name__ == '__main__':
    raise SystemExit(main())
