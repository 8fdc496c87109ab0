"""Count the action tokens that the constraint forces, in proper use and with a wrong prompt.

The small checkpoints and their quantised formats act in simulated scenes that training never saw.
The golden checkpoints, whose weights are random, answer the images of their recordings. Last, each
small checkpoint is asked in the prompt style of the other.
"""

from __future__ import annotations

import argparse
from collections import Counter
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
from trt_openvla_ros.policy import Policy

_GOLDEN = Path('test/data/golden')
# A model that reasons does not stop by itself if its prompt is another's.
_WRONG_TOKENS = 64


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


def in_scenes(path: Path, scenes: int, style: str | None = None, **options: Any) -> dict[str, Any]:
    """Count while a checkpoint acts in scenes."""
    policy = Policy.from_checkpoint(path, device='cpu', prompt_style=style, **options)
    counted = Counted(policy)
    done = attempts(policy, tasks(scenes), f'{path.name}, {style or "its own"} style')
    return counted.facts(sum(attempt.stuck for attempt in done))


def on_recordings(path: Path) -> dict[str, Any]:
    """Count while a golden checkpoint answers the images of its recordings."""
    policy = Policy.from_checkpoint(path, 'toy_arm', device='cpu', max_new_tokens=_WRONG_TOKENS)
    counted = Counted(policy)
    cases = json.loads((path / 'golden.json').read_text())
    arrays = np.load(path / 'golden.npz')
    refused = 0
    for case in cases:
        image = arrays[f'{case["case"][:5]}0_image']
        try:
            policy.predict(image, case['prompt'], verbatim=True)
        except OutputError:
            refused += 1
    return counted.facts(refused)


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scenes', type=int, default=60, help='number of scenes for each model')
    parser.add_argument('--json', type=Path, help='write the result here')
    args = parser.parse_args()
    quantising = argparse.Namespace(device='cpu', calibration=64, folder='')
    proper, wrong = {}, {}
    for name, other in (('tiny_openvla', 'vicuna_v01'), ('tiny_ecot', 'vicuna_v01')):
        path = Path('models') / name
        proper[name] = in_scenes(path, args.scenes)
        with tempfile.TemporaryDirectory() as directory:
            for form in FORMAT_NAMES:
                artifact = Path(directory) / f'{name}_{form}'
                quantise(Checkpoint.open(path), form, artifact, quantising)
                proper[artifact.name] = in_scenes(artifact, args.scenes)
        for style in (other, 'openvla' if name == 'tiny_ecot' else 'vicuna'):
            key = f'{name} asked as {style}'
            wrong[key] = in_scenes(path, args.scenes, style, max_new_tokens=_WRONG_TOKENS)
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
