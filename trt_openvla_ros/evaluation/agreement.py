"""Compare the actions and the success of a checkpoint with those of its quantised formats.

For each format of the pipeline, its stages save_backbone and quantize make an artifact. The torch
engine runs its TensorRT-LLM checkpoint. For each format of weights, the torch engine quantises the
checkpoint itself while it loads it. Frames come from scenes that neither training, calibration
nor verify uses. Scenes in closed loop are those of `evaluate`, the same for each format.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
import io
from pathlib import Path
import sys
import tempfile
from typing import Any

import numpy as np

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.trtllm import FORMAT_NAMES
from trt_openvla_ros.engines.base import DTYPES, Engines, WEIGHTS
from trt_openvla_ros.engines.registry import open_engines
from trt_openvla_ros.errors import ConfigError, EngineError, PolicyError
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.evaluation.report import write_json
from trt_openvla_ros.evaluation.scenes import Attempt, attempts, difference, success, tasks
from trt_openvla_ros.pipeline.command import run
from trt_openvla_ros.pipeline.frames import collect_frames, Frame, FrameSettings
from trt_openvla_ros.pipeline.verify.comparison import Answer, answers, compare
from trt_openvla_ros.policy.local import Policy
from trt_openvla_ros.policy.spec import MAX_NEW_TOKENS, ModelSpec

_FIRST_SEED = 4_000_000
# Before the name of a format that the torch engine quantises to.
_WEIGHTS = 'weights: '


@dataclass(frozen=True)
class Original:
    """Answers and attempts of the checkpoint itself."""

    answers: list[Answer]
    attempts: list[Attempt]


def quantise(checkpoint: Checkpoint, name: str, artifact: Path, args: argparse.Namespace) -> None:
    """Write an artifact in the format `name`; save_backbone runs for the first format only."""
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
    """Give the largest number of weights, up to TensorRT-LLM's 128, that can share a scale."""
    widths = (checkpoint.llm.hidden_size, checkpoint.llm.intermediate_size, 128)
    return int(np.gcd.reduce(widths))


class Subject:
    """A checkpoint or an artifact that the torch engine runs."""

    def __init__(
        self, name: str, path: Path, dtype: str, args: argparse.Namespace, weights: str = ''
    ) -> None:
        """Read the specification.

        Args:
            name: Name of the subject, for the output.
            path: Directory of the checkpoint or artifact.
            dtype: Precision of the weights that are not quantised.
            args: Arguments of the command.
            weights: Format in which the engine holds the layers' weights; '' means as stored.
        """
        self._name, self._device, self._dtype, self._weights = name, args.device, dtype, weights
        self._spec = ModelSpec.read(
            Checkpoint.open(path), args.unnorm_key, max_new_tokens=args.max_new_tokens
        )

    def answers(self, frames: Sequence[Frame]) -> list[Answer]:
        """Answer frames."""
        return answers(self._spec, self._engines(), frames, self._name)

    def attempts(self, asked: Sequence[tuple[int, str]]) -> list[Attempt]:
        """Act in scenes, given as seeds and instructions."""
        policy = Policy(self._spec, self._engines())
        try:
            return attempts(policy, asked, f'{self._name}, closed loop')
        finally:
            policy.close()

    def _engines(self) -> Engines:
        spec = self._spec
        return open_engines(
            spec.checkpoint,
            spec.lengths,
            device=self._device,
            dtype=self._dtype,
            weights=self._weights,
        )


def agreement(wanted: Sequence[Answer], found: Sequence[Answer]) -> dict[str, Any]:
    """Measure as verify does, and add the shares of frames and of dimensions with equal bins."""
    pairs = [(w.action, f.action) for w, f in zip(wanted, found, strict=True)]
    both = [(w, f) for w, f in pairs if w is not None and f is not None]
    # An action is a function of its bins, so equal bins give equal numbers.
    same = np.array([w == f for w, f in both])
    of = max(sum(w is not None for w, _ in pairs), 1)
    return {
        'same_action': float(same.all(axis=1).sum() / of) if len(same) else 0.0,
        'same_bin': float(same.mean(axis=1).sum() / of) if len(same) else 0.0,
        **compare(wanted, found),
    }


def measure(
    subject: Subject, frames: Sequence[Frame], asked: Sequence[tuple[int, str]], original: Original
) -> dict[str, Any]:
    """Compare a format with the original, on frames and in scenes."""
    measured = agreement(original.answers, subject.answers(frames))
    if asked:
        found = subject.attempts(asked)
        measured['success'] = success(found)
        measured['success_difference'] = difference(original.attempts, found)
    return measured


def line(name: str, measured: dict[str, Any]) -> str:
    """Write a result as a line of text."""
    text = (
        f'{name:14}same action in {measured["same_action"]:6.1%} of {measured["frames"]} frames, '
        f'same bin in {measured["same_bin"]:6.1%}, logits off by {measured["logits_error"]:.2g}'
    )
    if 'success' in measured:
        apart = measured['success_difference']
        text += (
            f'; success {measured["success"]["rate"]:.1%} of {measured["success"]["of"]} scenes, '
            f'{apart["points"]:+.1f} points ({apart["low"]:+.1f} to {apart["high"]:+.1f})'
        )
    return text


def compare_formats(args: argparse.Namespace) -> None:
    """Measure the original and each format, print a line for each, and write the JSON.

    Raises:
        PolicyError: The checkpoint itself cannot be used. If a format cannot be used, that is a
            result.
    """
    checkpoint = Checkpoint.open(args.checkpoint or shipped_model('tiny_openvla'))
    args.unnorm_key = args.unnorm_key or next(iter(checkpoint.norm_stats))
    settings = FrameSettings(folder=args.compare_folder, frames=args.frames)
    frames = collect_frames(settings, 'agreement', _FIRST_SEED)
    asked = tasks(args.scenes)
    subject = Subject('original', checkpoint.path, args.original_dtype, args)
    original = Original(subject.answers(frames), subject.attempts(asked) if asked else [])
    result: dict[str, Any] = {
        'checkpoint': checkpoint.path.name,
        'unnorm_key': args.unnorm_key,
        'frames_from': args.compare_folder or 'simulated table',
        'device': args.device,
        'original': {'dtype': args.original_dtype, 'success': success(original.attempts)},
        'dtype': args.dtype,
        'awq_block_size': awq_block_size(checkpoint),
        'formats': {},
    }
    if asked:
        print(f'original      success {result["original"]["success"]["rate"]:.1%} of {len(asked)}')
    with tempfile.TemporaryDirectory() as directory:
        artifact = Path(directory) / 'artifact'
        for name in (*args.formats, *(f'{_WEIGHTS}{weights}' for weights in args.weights)):
            try:
                if name.startswith(_WEIGHTS):
                    weights = name.removeprefix(_WEIGHTS)
                    subject = Subject(name, checkpoint.path, args.dtype, args, weights)
                else:
                    quantise(checkpoint, name, artifact, args)
                    subject = Subject(name, artifact, args.dtype, args)
                measured = measure(subject, frames, asked, original)
            except (ConfigError, EngineError) as error:
                result['formats'][name] = {'not_possible': str(error)}
                print(f'{name:14}{error}')
                continue
            result['formats'][name] = measured
            print(line(name, measured), flush=True)
            if args.json:  # after each format, because all of them together take long
                libraries = ('torch', 'transformers', 'modelopt', 'mujoco', 'numpy')
                write_json(args.json, result, libraries)


def main() -> None:
    """Run the comparison; exit with 1 and a message if the checkpoint cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--checkpoint', help='the default is tiny_openvla')
    parser.add_argument('--formats', nargs='*', default=FORMAT_NAMES, choices=FORMAT_NAMES)
    parser.add_argument(
        '--weights',
        nargs='*',
        default=WEIGHTS[1:],
        choices=WEIGHTS,
        help='formats that the torch engine quantises to while it loads',
    )
    parser.add_argument('--frames', type=int, default=64, help='number of frames to compare on')
    parser.add_argument(
        '--scenes', type=int, default=0, help='number of simulated scenes to act in'
    )
    parser.add_argument(
        '--calibration', type=int, default=64, help='number of frames to calibrate on'
    )
    parser.add_argument(
        '--folder', default='', help='images to calibrate on; the default is simulated frames'
    )
    parser.add_argument(
        '--compare-folder',
        default='',
        help='images to compare on; the default is simulated frames',
    )
    parser.add_argument(
        '--unnorm-key', help='data set of the statistics; the default is the first'
    )
    parser.add_argument('--max-new-tokens', type=int, default=MAX_NEW_TOKENS)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--original-dtype', default='float32', choices=DTYPES)
    parser.add_argument(
        '--dtype',
        default='bfloat16',
        choices=DTYPES,
        help='precision in which the quantised formats compute',
    )
    parser.add_argument('--json', type=Path, help='write the result here')
    try:
        compare_formats(parser.parse_args())
    except PolicyError as error:
        sys.exit(f'agreement: {error}')
