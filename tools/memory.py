"""Measure the memory that save_backbone takes, on towers of openvla-7b's size.

The checkpoint has openvla-7b's towers, projector, widths and vocabulary, with weights that mean
nothing; and fewer layers, because all 32 of them would only take longer: tensors are copied piece
by piece, and test_load takes the layers that fit into the memory it is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import json
import math
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import onnx
import onnxruntime
from random_checkpoint import TOKENIZER
from report import write_json
import timm
import torch
from tqdm import tqdm
import transformers

from trt_openvla_ros.checkpoint import Checkpoint, VISION_BACKBONES
from trt_openvla_ros.pipeline.llm_backbone import llama_shapes
from trt_openvla_ros.pipeline.tensor_files import Piece, write_tensors

ROOT = Path(__file__).parents[1]
BACKBONE = 'dinosiglip-vit-so-224px'
SHARD_OF_7B = 7_000_000_000  # bytes at most: max_shard_size of openvla's conversion script
MOST = 2_000_000_000  # bytes beside a shard of this size: then 7B fits into 16 GB
# What is left out of each run, so that the peaks can be told apart.
PARTS = {
    'copy': ('save_backbone.onnx:=false', 'save_backbone.test_load:=false'),
    'onnx': ('save_backbone.test_load:=false',),
    'test_load': ('save_backbone.onnx:=false',),
}
_BLOCK = 1 << 22  # values, repeated as often as a tensor needs


def write_checkpoint(directory: Path, layers: int, shards: int) -> int:
    """Write it; gives the bytes of its largest file."""
    size, models = VISION_BACKBONES[BACKBONE]
    shapes: dict[str, tuple[int, ...]] = {}
    data, width = [], 0
    for name, (timm_id, _) in zip(('featurizer', 'fused_featurizer'), models, strict=True):
        with torch.device('meta'):
            vit = timm.create_model(timm_id, num_classes=0, img_size=size)
        data.append(timm.data.resolve_model_data_config(vit))
        width += vit.embed_dim
        for key, value in vit.state_dict().items():
            released = key.replace('gamma', 'scale_factor')
            shapes[f'vision_backbone.{name}.{released}'] = tuple(value.shape)
    for index, (inputs, outputs) in enumerate(
        ((width, 4 * width), (4 * width, 4096), (4096, 4096)), 1
    ):
        shapes[f'projector.fc{index}.weight'] = (outputs, inputs)
        shapes[f'projector.fc{index}.bias'] = (outputs,)
    config = {
        'model_type': 'openvla',
        'vision_backbone_id': BACKBONE,
        'llm_backbone_id': 'llama2-7b-pure',
        'text_config': {'model_type': 'llama', 'vocab_size': 32064, 'num_hidden_layers': layers},
        'norm_stats': {'unit': {'action': {'q01': [-1.0] * 7, 'q99': [1.0] * 7}}},
    }
    preprocessor = {
        'image_resize_strategy': 'resize-naive',
        'input_sizes': [[3, size, size]] * 2,
        'interpolations': ['bicubic'] * 2,
        'means': [list(entry['mean']) for entry in data],
        'stds': [list(entry['std']) for entry in data],
    }
    directory.mkdir(parents=True)
    (directory / 'config.json').write_text(json.dumps(config))
    (directory / 'preprocessor_config.json').write_text(json.dumps(preprocessor))
    for file in TOKENIZER.glob('*token*.json'):
        shutil.copy(file, directory)
    llm = llama_shapes(Checkpoint.open(directory).llm)
    shapes |= {f'language_model.{name}': shape for name, shape in llm.items()}
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
    total, largest = sum(piece.size for piece in pieces.values()), 0
    files: list[dict[str, Piece]] = [{}]
    for name, piece in pieces.items():
        if len(files) < shards and sum(p.size for p in files[-1].values()) > total / shards:
            files.append({})
        files[-1][name] = piece
    weight_map = {}
    with tqdm(total=total, unit='B', unit_scale=True, desc='checkpoint') as bar:
        for index, some in enumerate(files, 1):
            file = directory / f'model-{index:05d}-of-{len(files):05d}.safetensors'
            write_tensors(file, some, bar)
            weight_map |= dict.fromkeys(some, file.name)
            largest = max(largest, file.stat().st_size)
    index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
    (directory / 'model.safetensors.index.json').write_text(json.dumps(index))
    return largest


def peak(checkpoint: Path, artifact: Path, settings: tuple[str, ...]) -> dict[str, Any]:
    """Run save_backbone in a process of its own.

    Returns:
        Bytes of memory at most: of the process with the files that it maps, and of what it
        allocated alone, looked at every 20 ms; seconds; what the stage checked.
    """
    words = ['-p', f'checkpoint:={checkpoint}', '-p', f'artifact:={artifact}']
    for setting in settings:
        words += ['-p', setting]
    command = [sys.executable, '-m', 'trt_openvla_ros.pipeline', 'save_backbone', *words]
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
    facts = json.loads(printed)['save_backbone']
    return {
        'peak_bytes': found['VmHWM'],
        'peak_bytes_allocated': found['RssAnon'],
        'seconds': round(time.monotonic() - began, 1),
        **{name: facts[name] for name in ('onnx', 'test_load') if name in facts},
    }


def main() -> int:
    """Run; prints a line per part, and ends with 1 where one took too much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--layers', type=int, default=6, help='of the language model')
    parser.add_argument('--shards', type=int, default=3, help='files of the checkpoint')
    parser.add_argument('--parts', nargs='+', default=list(PARTS), choices=PARTS)
    parser.add_argument('--directory', type=Path, help='for 10 GB; else the temporary one')
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
            result['parts'][name] = peak(checkpoint, artifact, PARTS[name])
            shutil.rmtree(artifact)
            print(f'{name:10}{result["parts"][name]["peak_bytes"] / 1e9:6.2f} GB', flush=True)
            if args.json:
                write_json(args.json, result, [torch, transformers, onnx, onnxruntime])
    # The towers are of full size; what else grows does so with the shard that is given.
    return int(any(part['peak_bytes'] > SHARD_OF_7B + MOST for part in result['parts'].values()))


if __name__ == '__main__':
    raise SystemExit(main())
