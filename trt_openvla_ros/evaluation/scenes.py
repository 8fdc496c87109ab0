"""Scenes that training never saw, instructions for them, and attempts at them without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from trt_openvla_ros.contracts import BasePolicy
from trt_openvla_ros.errors import OutputError
from trt_openvla_ros.sim.goals import goals_for, KINDS, parse, phrase
from trt_openvla_ros.sim.world import MAX_STEPS, World
from trt_openvla_ros.training.demonstrations import FIRST_TEST_SEED


@dataclass(frozen=True)
class Attempt:
    """One attempt at an instruction in a scene.

    Attributes:
        seed: Seed of the scene.
        instruction: Instruction of the attempt.
        reached: Whether the goal was reached.
        steps: Number of actions until the goal was reached, at most MAX_STEPS.
        stuck: Whether the attempt ended because the model gave no action; the same image would
            give the same answer again.
    """

    seed: int
    instruction: str
    reached: bool
    steps: int
    stuck: bool


def tasks(count: int) -> list[tuple[int, str]]:
    """Draw an instruction for each seed, with alternating kinds of goals."""
    world, drawn = World(), []
    for index in range(count):
        seed = FIRST_TEST_SEED + index
        world.reset(seed)
        rng = np.random.default_rng([seed, 1])
        goals = [g for g in goals_for(world.things) if g.kind == KINDS[index % len(KINDS)]]
        drawn.append((seed, phrase(goals[rng.integers(len(goals))], rng)))
    return drawn


def attempts(policy: BasePolicy, asked: Sequence[tuple[int, str]], text: str) -> list[Attempt]:
    """Let a policy act in each scene: image, action, image, as over the topics in lock-step.

    Args:
        policy: Policy, which gets only the image and the instruction.
        asked: Seeds and instructions from `tasks`.
        text: Text of the progress bar.
    """
    world = World()
    try:
        return [_attempt(policy, world, *task) for task in tqdm(asked, text, unit='scene')]
    finally:
        world.close()


def _attempt(policy: BasePolicy, world: World, seed: int, instruction: str) -> Attempt:
    world.reset(seed)
    goal = parse(instruction)
    for step in range(MAX_STEPS):
        try:
            prediction = policy.predict(world.image(), instruction)
        except OutputError:
            return Attempt(seed, instruction, False, step, True)
        world.step(prediction.action)
        if world.success(goal):
            return Attempt(seed, instruction, True, step + 1, False)
    return Attempt(seed, instruction, False, MAX_STEPS, False)


def success(found: Sequence[Attempt]) -> dict[str, Any]:
    """Summarise attempts: the overall rate of success, the rate of each kind, every attempt."""
    kinds = {kind: [a for a in found if parse(a.instruction).kind == kind] for kind in KINDS}
    return {
        'rate': _rate(found),
        'of': len(found),
        'kinds': {kind: {'rate': _rate(some), 'of': len(some)} for kind, some in kinds.items()},
        'stuck': sum(attempt.stuck for attempt in found),
        'attempts': [asdict(attempt) for attempt in found],
    }


def difference(wanted: Sequence[Attempt], found: Sequence[Attempt]) -> dict[str, float]:
    """Compare two policies on the same scenes.

    Returns:
        points: Success of found minus that of wanted, in percent of the scenes.
        low, high: 95 % interval of points, from the scenes in which the two differ.
        lost: Number of scenes in which only wanted succeeded.
        won: Number of scenes in which only found succeeded.
    """
    pairs = [(w.reached, f.reached) for w, f in zip(wanted, found, strict=True)]
    count, lost, won = len(pairs), pairs.count((True, False)), pairs.count((False, True))
    # Agresti and Min (2005): half a scene is added to each of the four outcomes, so that two
    # policies that never differed are not taken for equal.
    total, less, more = count + 2, lost + 0.5, won + 0.5
    middle = (more - less) / total
    spread = 1.96 * np.sqrt((more + less) - (more - less) ** 2 / total) / total
    return {
        'points': round(100 * (won - lost) / count, 2),
        'low': round(100 * float(middle - spread), 2),
        'high': round(100 * float(middle + spread), 2),
        'lost': lost,
        'won': won,
    }


def _rate(found: Sequence[Attempt]) -> float:
    return round(float(np.mean([attempt.reached for attempt in found])), 4) if found else 0.0
