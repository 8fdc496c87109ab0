"""Pictures of the table on the way to goals, with what is in them.

The expert remembers nothing, so that one picture with its state can be labelled for every goal of
its scene. That is why states are kept and not actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
import shutil

import numpy as np
from PIL import Image
from tqdm import tqdm

from trt_openvla_ros.sim.expert import expert
from trt_openvla_ros.sim.goals import COLOURS, Goal, goals_for, SHAPES
from trt_openvla_ros.sim.state import Hand, State, Thing
from trt_openvla_ros.sim.world import World

MOST_THINGS = 5
FIRST_TEST_SEED = 1_000_000  # training stays below; evaluation begins here
LOOKS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
_LENGTH = 24  # steps of an episode
_CHUNK = 50  # episodes a worker makes at a time


@dataclass(frozen=True)
class Demonstrations:
    """N pictures and their states.

    Attributes:
        images: [N, S, S, 3] uint8 RGB, as the vision tower sees them before normalising.
        hands: [N, 5] float32: position [m], yaw [rad], opening.
        looks: [N, MOST_THINGS] int8 index into LOOKS, -1 for no object.
        positions: [N, MOST_THINGS, 3] float32 [m].
        episodes: [N] int32.
    """

    images: np.ndarray
    hands: np.ndarray
    looks: np.ndarray
    positions: np.ndarray
    episodes: np.ndarray

    def state(self, index: int) -> State:
        """Give the state of picture index."""
        *position, yaw, opening = self.hands[index].tolist()
        things = tuple(
            Thing(*LOOKS[look], np.asarray(place, np.float64))
            for look, place in zip(self.looks[index], self.positions[index], strict=True)
            if look >= 0
        )
        return State(Hand(np.array(position), yaw, opening), things)


def demonstrations(path: Path, episodes: int, size: int, workers: int) -> Demonstrations:
    """Read demonstrations from path, or make them there.

    Args:
        path: A directory, complete or absent when this returns or is interrupted.
        episodes: How many, from seed 0 up.
        size: Side of the pictures [px].
        workers: Processes.
    """
    if not path.is_dir():
        jobs = [
            (first, min(first + _CHUNK, episodes), size) for first in range(0, episodes, _CHUNK)
        ]
        with get_context('spawn').Pool(workers) as pool:
            parts = list(tqdm(pool.imap(_record, jobs), total=len(jobs), desc='demonstrations'))
        unfinished = path.with_suffix('.part')
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name in parts[0]:
            np.save(unfinished / f'{name}.npy', np.concatenate([part[name] for part in parts]))
        unfinished.rename(path)
    return Demonstrations(
        **{
            name: np.load(path / f'{name}.npy', mmap_mode='c' if name == 'images' else None)
            for name in Demonstrations.__dataclass_fields__
        }
    )


def _record(job: tuple[int, int, int]) -> dict[str, np.ndarray]:
    first, last, size = job
    world = World()
    rows: dict[str, list] = {name: [] for name in Demonstrations.__dataclass_fields__}
    for seed in range(first, last):
        for image, state in _episode(world, seed):
            picture = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
            rows['images'].append(np.asarray(picture))
            hand = state.hand
            rows['hands'].append(np.float32([*hand.position, hand.yaw, hand.opening]))
            looks = [LOOKS.index((thing.colour, thing.shape)) for thing in state.things]
            missing = MOST_THINGS - len(looks)
            rows['looks'].append(np.int8(looks + [-1] * missing))
            places = [thing.position for thing in state.things] + [np.zeros(3)] * missing
            rows['positions'].append(np.float32(places))
            rows['episodes'].append(np.int32(seed))
    world.close()
    return {name: np.stack(values) for name, values in rows.items()}


def _episode(world: World, seed: int):
    rng = np.random.default_rng([seed, 1])
    world.reset(seed)
    goals = goals_for(world.things)
    goal, miss = _any(goals, rng), _miss(rng)
    for _ in range(_LENGTH):
        yield world.image(), world.state
        # Another wish in between, a hand that aims beside, and moves that no expert would make,
        # show how to recover.
        if world.success(goal) or rng.random() < 0.04:
            goal, miss = _any(goals, rng), _miss(rng)
        action = expert(_shifted(world.state, miss), goal)
        if rng.random() < 0.3:
            action[:3] += rng.normal(0, 0.015, 3)
        if rng.random() < 0.04:
            action[:3] = rng.uniform(-0.04, 0.04, 3)
        if rng.random() < 0.03:
            action[6] = 1 - action[6]
        world.step(action)


def _miss(rng: np.random.Generator) -> np.ndarray:
    """Draw how far beside the truth [3] m the hand aims, as a policy will that sees badly."""
    return np.append(rng.normal(0, 0.008, 2), 0.0)


def _shifted(state: State, miss: np.ndarray) -> State:
    things = (replace(thing, position=thing.position + miss) for thing in state.things)
    return replace(state, things=tuple(things))


def _any(goals: list[Goal], rng: np.random.Generator) -> Goal:
    kind = rng.choice(('reach', 'push', 'push', 'pick', 'pick'))
    chosen = [goal for goal in goals if goal.kind == kind]
    return chosen[rng.integers(len(chosen))]
