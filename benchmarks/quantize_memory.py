"""Measure the memory that quantize takes, with layers and vocabulary of openvla-7b's size.

The weights are random and the towers tiny, so that the peak is the language model's. There are
fewer layers than openvla-7b has: the limit is in sizes of the language model.

    PYTHONPATH=test/support:$PYTHONPATH python benchmarks/quantize_memory.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
import shutil
import tempfile
from typing import Any

from memory import PARTS, peak, write_checkpoint
from random_checkpoint import TINY_TOWER

from trt_openvla_ros.checkpoints.llama import layer_of, PREFIX
from trt_openvla_ros.checkpoints.tensor_files import list_shards, stored_tensors
from trt_openvla_ros.evaluation.report import write_json

FACTOR = 1.25  # most memory beside one layer, in sizes of the language model


def language_model(checkpoint: Path) -> dict[str, int]:
    """Give the bytes of the language model, and of one of its layers."""
    sizes = {
        name.removeprefix(PREFIX): piece.size
        for file in list_shards(checkpoint)
        for name, piece in stored_tensors(file).items()
        if name.startswith(PREFIX)
    }
    layer = sum(size for name, size in sizes.items() if layer_of(name) == 0)
    return {'language_bytes': sum(sizes.values()), 'layer_bytes': layer}


def main() -> int:
    """Measure each format and print its peaks; give 1 if one takes too much memory, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--layers', type=int, default=6, help='layers of the language model')
    parser.add_argument('--formats', nargs='+', default=['bf16', 'fp8', 'int4_awq', 'int8_sq'])
    parser.add_argument('--frames', type=int, default=2, help='frames to calibrate on')
    parser.add_argument(
        '--directory',
        type=Path,
        help="directory with 10 GB free; the default is the system's for temporary files",
    )
    parser.add_argument('--json', type=Path, help='write the result here')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        checkpoint, artifact = Path(directory) / 'checkpoint', Path(directory) / 'artifact'
        write_checkpoint(checkpoint, args.layers, 3, **TINY_TOWER)
        size = language_model(checkpoint)
        most = int(FACTOR * size['language_bytes']) + size['layer_bytes']
        peak('save_backbone', checkpoint, artifact, PARTS['copy'])
        shutil.rmtree(checkpoint)
        result: dict[str, Any] = {'layers': args.layers, **size, 'most_bytes': most, 'formats': {}}
        for qformat in args.formats:
            settings = (f'quantize.qformat:={qformat}', f'quantize.frames:={args.frames}')
            found = peak('quantize', checkpoint, artifact, settings)
            result['formats'][qformat] = found
            print(
                f'{qformat:10}{found["peak_bytes"] / 1e9:6.2f} GB, '
                f'{found["peak_bytes"] / size["language_bytes"]:.2f} times the language model, '
                f'at most {most / 1e9:.2f} GB are meant',
                flush=True,
            )
            if args.json:
                write_json(args.json, result, ['torch', 'transformers', 'modelopt'])
    peaks = [
        found[name]
        for found in result['formats'].values()
        for name in ('peak_bytes', 'gpu_peak_bytes')
        if name in found
    ]
    return int(max(peaks) > most)


if __name__ == '__main__':
    raise SystemExit(main())
