"""The reasoning that tiny_ecot learns to write: tagged text about a state and a goal."""

from __future__ import annotations

from dataclasses import replace
import itertools
import re

import numpy as np

from trt_openvla_ros.sim.expert import aim, expert, LOW, subtask, target_of
from trt_openvla_ros.sim.goals import COLOURS, Goal, SHAPES
from trt_openvla_ros.sim.scene import IMAGE_SIZE, RADIUS
from trt_openvla_ros.sim.state import Hand, State, Thing
from trt_openvla_ros.sim.world import World

_PLANS = {
    'reach': 'move above it',
    'push': 'close the gripper, move behind it, lower, push',
    'pick': 'open the gripper, move above it, lower, grasp, lift',
}
_CORNERS = RADIUS * np.array(list(itertools.product((-1, 1), repeat=3)))
_DIRECTIONS = (('backward', 'forward'), ('right', 'left'), ('down', 'up'))  # along x, y, z
_STILL = 0.008  # [m] a displacement below this is not worth a word
_ORDER = [f'{colour} {shape}' for colour in COLOURS for shape in SHAPES]


def task(goal: Goal) -> str:
    """Say a goal in the one sentence that stands for all of its paraphrases."""
    verb = {'reach': 'move to', 'push': 'push', 'pick': 'pick up'}[goal.kind]
    return f'{verb} the {goal.name} {goal.direction}'.strip()


def move_of(action: np.ndarray, opening: float) -> str:
    """Name an action [7] of a hand with that opening in the words of Embodied Chain-of-Thought."""
    words = [
        names[int(value > 0)]
        for value, names in zip(action[:3], _DIRECTIONS, strict=True)
        if abs(value) > _STILL
    ]
    parts = ['move ' + ' '.join(words)] if words else []
    if (action[6] > 0.5) != (opening > 0.8):
        closes = action[6] < 0.5
        # A hand around an object cannot close further.
        if not closes or opening > 0.8:
            parts.append('close gripper' if closes else 'open gripper')
    return ', '.join(parts) or 'stop'


def agrees(move: str, action: np.ndarray) -> bool:
    """Tell whether a MOVE describes an action [7].

    Each direction that it names is that of the displacement, and each displacement of more than
    twice what is worth a word is named.
    """
    words = set(re.findall(r'[a-z]+', move))
    for value, names in zip(action[:3], _DIRECTIONS, strict=True):
        backward, forward = (name in words for name in names)
        if (backward and value >= 0) or (forward and value <= 0):
            return False
        if abs(value) > 2 * _STILL and not (forward or backward):
            return False
    return bool(words)


def reasoning_of(world: World, state: State, goal: Goal, action: np.ndarray) -> str:
    """Write the reasoning, from after 'TASK:' to 'ACTION:'; coordinates are pixels of 256.

    world only lends its camera.
    """
    things = sorted(state.things, key=lambda thing: _ORDER.index(thing.name))
    boxes = ', '.join(f'{thing.name} {_box(world, thing)}' for thing in things)
    offset = target_of(state, goal).position - state.hand.position
    gripper = 'open' if state.hand.opening > 0.8 else 'closed'
    height = 'down' if state.hand.position[2] < LOW else 'up'
    doing = subtask(state, goal)
    move = move_of(action, state.hand.opening)
    # The move follows from these: the hand, the spot of light below it, and where that should be.
    spots = [[*spot, 0.0] for spot in (state.hand.position[:2], aim(state, goal))]
    points = _pixels(world, np.array([state.hand.position, *spots]))
    hand, here, there = (_list(pixel) for pixel in points)
    way = _pixels(world, np.array(_way(state, goal, 4)))
    return (
        f' {task(goal)} PLAN: {_PLANS[goal.kind]} VISIBLE OBJECTS: {boxes} '
        f'SUBTASK REASONING: the gripper is {height}, {gripper}, '
        f'the {goal.name} is {_where(offset)} SUBTASK: {doing} '
        f'MOVE REASONING: the gripper {hand} is above {here}, to {there} '
        f'MOVE: {move} '
        f'GRIPPER POSITION: {_list(way)} ACTION:'
    )


def _where(offset: np.ndarray) -> str:
    """Name the directions of an offset [3] m on the table, the greater first."""
    words = [
        _DIRECTIONS[axis][int(offset[axis] > 0)]
        for axis in np.argsort(-np.abs(offset[:2]))
        if abs(offset[axis]) > _STILL
    ]
    return ' '.join(words) or 'below'


def _way(state: State, goal: Goal, steps: int) -> list[np.ndarray]:
    """Guess where the hand is now and after each further step, objects unmoved: [3] m each."""
    way = [state.hand.position]
    for _ in range(steps):
        action = expert(state, goal)
        hand = Hand(state.hand.position + action[:3], state.hand.yaw, state.hand.opening)
        state = replace(state, hand=hand)
        way.append(hand.position)
    return way


def _pixels(world: World, points: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(world.project(points)), 0, IMAGE_SIZE - 1).astype(int)


def _box(world: World, thing: Thing) -> str:
    corners = _pixels(world, thing.position + _CORNERS)
    return _list(np.concatenate([corners.min(0), corners.max(0)]))


def _list(numbers: np.ndarray) -> str:
    return f'[{", ".join(str(number) for number in numbers.flatten())}]'
