"""Count the action tokens that the constraint forces, in proper use and with a wrong prompt.

The small checkpoints and their quantised formats act in simulated scenes that training never saw.
The golden checkpoints, whose weights are random, answer the images of their recordings. Last, the
small checkpoints answer simulated frames in prompt styles that are not theirs.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
import json
from pathlib import Path
import tempfile
from typing import Any

import numpy as np

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.trtllm import FORMAT_NAMES
from trt_openvla_ros.engines.base import Generation
from trt_openvla_ros.errors import OutputError
from trt_openvla_ros.evaluation.agreement import quantise
from trt_openvla_ros.evaluation.report import write_json
from trt_openvla_ros.evaluation.scenes import attempts, tasks
from trt_openvla_ros.pipeline.frames import collect_frames, FrameSettings
from trt_openvla_ros.policy import Policy

_GOLDEN = Path('test/data/golden')
# Random weights, and models with another's prompt, do not stop by themselves.
_MOST_TOKENS = 64
_FIRST_SEED = 5_000_000
_STYLES = {'tiny_openvla': ('vicuna', 'vicuna_v01'), 'tiny_ecot': ('openvla', 'vicuna_v01')}


class Counted:
    """A language engine that counts the forced tokens of each answer.

    Attributes:
        answers: Number of answers by number of forced tokens.
    """

    def __init__(self, policy: Policy) -> None:
        """Take the place of the policy's language engine."""
        self._engine = policy.engines.language
        self.answers: Counter[int] = Counter()
        policy.engines.language = self

    def generate(self, *arguments: Any) -> Generation:
        """Generate, and count."""
        generation = self._engine.generate(*arguments)
        self.answers[generation.out_of_range] += 1
        return generation

    def facts(self, refused: int) -> dict[str, Any]:
        """Give the counts; refused is the number of answers that were no action."""
        by_number = {str(number): self.answers[number] for number in sorted(self.answers)}
        return {
            'answers': self.answers.total(),
            'by_forced_tokens': by_number,
            'no_action': refused,
        }


def in_scenes(path: Path, scenes: int, dtype: str = 'float32') -> dict[str, Any]:
    """Count while a checkpoint acts in scenes."""
    policy = Policy.from_checkpoint(path, device='cpu', dtype=dtype)
    counted = Counted(policy)
    done = attempts(policy, tasks(scenes), path.name)
    return counted.facts(sum(attempt.stuck for attempt in done))


def on_images(policy: Policy, asked: Iterable[tuple[np.ndarray, str]]) -> dict[str, Any]:
    """Count while a policy answers images with instructions."""
    counted = Counted(policy)
    return counted.facts(sum(not _acts(policy, *question) for question in asked))


def _acts(policy: Policy, image: np.ndarray, instruction: str) -> bool:
    try:
        policy.predict(image, instruction)
    except OutputError:
        return False
    return True


def on_recordings(path: Path) -> dict[str, Any]:
    """Count while a golden checkpoint answers the images of its recordings."""
    policy = Policy.from_checkpoint(path, 'toy_arm', device='cpu', max_new_tokens=_MOST_TOKENS)
    cases = json.loads((path / 'golden.json').read_text())
    arrays = np.load(path / 'golden.npz')
    return on_images(
        policy, ((arrays[f'{case["case"][:5]}0_image'], case['prompt']) for case in cases)
    )


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scenes', type=int, default=100, help='number of scenes for each model')
    parser.add_argument('--json', type=Path, help='write the result here')
    parser.add_argument('--frames', type=int, default=200, help='frames for each wrong prompt')
    args = parser.parse_args()
    quantising = argparse.Namespace(device='cpu', calibration=64, folder='')
    proper, wrong = {}, {}
    frames = collect_frames(FrameSettings(frames=args.frames), 'forced_tokens', _FIRST_SEED)
    asked = [(frame.image, frame.instruction) for frame in frames]
    for name, styles in _STYLES.items():
        path = Path('models') / name
        proper[name] = in_scenes(path, args.scenes)
        with tempfile.TemporaryDirectory() as directory:
            for form in FORMAT_NAMES:
                artifact = Path(directory) / f'{name}_{form}'
                quantise(Checkpoint.open(path), form, artifact, quantising)
                # In bfloat16, as an engine computes.
                proper[artifact.name] = in_scenes(artifact, args.scenes, 'bfloat16')
        for style in styles:
            policy = Policy.from_checkpoint(
                path, device='cpu', prompt_style=style, max_new_tokens=_MOST_TOKENS
            )
            wrong[f'{name} asked as {style}'] = on_images(policy, asked)
    for name in ('fused', 'single'):
        proper[f'golden {name}'] = on_recordings(_GOLDEN / name)
    for title, results in (('proper use', proper), ('wrong prompt', wrong)):
        print(f'\n{title}')
        for name, found in results.items():
            print(f'  {name}: {found}')
    if args.json:
        result = {'proper_use': proper, 'wrong_prompt': wrong}
        write_json(args.json, result, ('numpy', 'torch', 'mujoco'))


if __name__ == '__main__':
    main()
