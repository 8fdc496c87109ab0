"""Compare a checkpoint with itself, quantised: in which frames are the actions the same?

Takes the checkpoint through the pipeline's stages save_backbone and quantize, once per format, and
runs the torch engine on what TensorRT-LLM would be built from. Success in closed loop is another
measurement. Frames are of scenes that neither training, calibration nor verify uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import redirect_stdout
import io
from pathlib import Path
import tempfile
from typing import Any

import modelopt
import numpy as np
from report import write_json
import torch
import transformers

from trt_openvla_ros.checkpoint import Checkpoint
from trt_openvla_ros.engines import open_engines
from trt_openvla_ros.errors import ConfigError, EngineError
from trt_openvla_ros.pipeline.command import run
from trt_openvla_ros.pipeline.comparison import Answer, answers, compare
from trt_openvla_ros.pipeline.frames import collect_frames, Frame, FrameSettings

GOLDEN = Path(__file__).parents[1] / 'test' / 'data' / 'golden' / 'fused'
FORMATS = ('bf16', 'fp8', 'int4_awq', 'int8_sq')
_FIRST_SEED = 4_000_000


def quantise(checkpoint: Checkpoint, name: str, artifact: Path, args: argparse.Namespace) -> None:
    """Write an artifact in that format; save_backbone runs for the first only."""
    settings = {
        'stages': '[save_backbone, quantize]',
        'device': args.device,
        'save_backbone.onnx': 'false',
        'quantize.qformat': name,
        'quantize.frames': args.calibration,
        'quantize.folder': f'"{args.folder}"',
        'quantize.awq_block_size': awq_block_size(checkpoint),
    }
    words = ['--checkpoint', str(checkpoint.path), '--artifact', str(artifact)]
    for key, value in settings.items():
        words += ['-p', f'{key}:={value}']
    with redirect_stdout(io.StringIO()):  # the facts of each stage
        run('pipeline', words)


def awq_block_size(checkpoint: Checkpoint) -> int:
    """The largest number of weights, up to TensorRT-LLM's 128, that can share a scale."""
    widths = (checkpoint.llm.hidden_size, checkpoint.llm.intermediate_size, 128)
    return int(np.gcd.reduce(widths))


def ask(path: Path, frames: Sequence[Frame], text: str, args: argparse.Namespace) -> list[Answer]:
    """Ask a checkpoint or an artifact about the frames."""
    checkpoint = Checkpoint.open(path)
    return answers(
        checkpoint,
        lambda: open_engines('torch', checkpoint, args.device, args.dtype),
        frames,
        text,
        unnorm_key=args.unnorm_key,
        prompt_style=None,
        max_new_tokens=args.max_new_tokens,
        constrain=True,
    )


def agreement(wanted: Sequence[Answer], found: Sequence[Answer]) -> dict[str, Any]:
    """Add to what verify measures: in how many frames every dimension has the same bin."""
    pairs = [(w.action, f.action) for w, f in zip(wanted, found, strict=True)]
    both = [(w, f) for w, f in pairs if w is not None and f is not None]
    # Actions are functions of bins, so that equal bins are equal numbers.
    same = np.array([w == f for w, f in both])
    of = max(sum(w is not None for w, _ in pairs), 1)
    return {
        'same_action': float(same.all(axis=1).sum() / of) if len(same) else 0.0,
        'same_bin': float(same.mean(axis=1).sum() / of) if len(same) else 0.0,
        **compare(wanted, found),
    }


def main() -> int:
    """Run; prints a line per format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--checkpoint', default=str(GOLDEN))
    parser.add_argument('--formats', nargs='+', default=['bf16', 'fp8', 'int4_awq'])
    parser.add_argument('--frames', type=int, default=64, help='frames to compare on')
    parser.add_argument('--calibration', type=int, default=64, help='frames to calibrate on')
    parser.add_argument('--folder', default='', help='images to calibrate on; else simulated')
    parser.add_argument(
        '--compare-folder', default='', help='images to compare on; else simulated'
    )
    parser.add_argument('--unnorm-key', help='statistics; the first where none is given')
    parser.add_argument('--max-new-tokens', type=int, default=1024)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', default='float32')
    parser.add_argument('--json', type=Path, help='write the result here')
    args = parser.parse_args()

    checkpoint = Checkpoint.open(args.checkpoint)
    args.unnorm_key = args.unnorm_key or next(iter(checkpoint.norm_stats))
    settings = FrameSettings(folder=args.compare_folder, frames=args.frames)
    frames = collect_frames(settings, 'agreement', _FIRST_SEED)
    original = ask(checkpoint.path, frames, 'original', args)
    result: dict[str, Any] = {
        'checkpoint': str(args.checkpoint),
        'unnorm_key': args.unnorm_key,
        'frames_from': args.compare_folder or 'simulated table',
        'dtype': args.dtype,
        'device': args.device,
        'awq_block_size': awq_block_size(checkpoint),
        'formats': {},
    }
    with tempfile.TemporaryDirectory() as directory:
        artifact = Path(directory) / 'artifact'
        for name in args.formats:
            try:
                quantise(checkpoint, name, artifact, args)
                measured = agreement(original, ask(artifact, frames, name, args))
            except (ConfigError, EngineError) as error:
                result['formats'][name] = {'not_possible': str(error)}
                print(f'{name:10}{error}')
                continue
            result['formats'][name] = measured
            print(
                f'{name:10}same action in {measured["same_action"]:6.1%} of '
                f'{measured["frames"]} frames, same bin in {measured["same_bin"]:6.1%}, '
                f'logits off by {measured["logits_error"]:.2g}'
            )
    if args.json:
        write_json(args.json, result, [torch, transformers, modelopt, np])
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
