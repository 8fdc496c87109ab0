"""A scripted expert. It chooses the next action from the visible state, and remembers nothing."""

from __future__ import annotations

import numpy as np

from trt_openvla_ros.sim.goals import DIRECTIONS, Goal
from trt_openvla_ros.sim.scene import FIST, RADIUS
from trt_openvla_ros.sim.state import State, Thing
from trt_openvla_ros.sim.world import HOVER, MAX_STEP

GRASP = 0.022  # [m] height of the fingertips' centre when grasping and pushing
_BEHIND = RADIUS + FIST + 0.019  # [m] from an object's centre to the start of a push
LOW = 0.06  # [m] a hand below this is among the objects
_FAST = MAX_STEP


def target_of(state: State, goal: Goal) -> Thing:
    """Give the object that goal is about."""
    for thing in state.things:
        if (thing.colour, thing.shape) == (goal.colour, goal.shape):
            return thing
    raise ValueError(f'there is no {goal.name} in this scene')


def expert(state: State, goal: Goal) -> np.ndarray:
    """Choose the next action towards goal: [7] m, rad, opening.

    Far from the next point the hand moves at full speed along each axis; near it, right onto it.
    """
    return _PLANS[goal.kind](state, goal)


def aim(state: State, goal: Goal) -> np.ndarray:
    """Give the spot [2] m of the table that the hand should be over next."""
    spot = target_of(state, goal).position[:2]
    if goal.kind == 'push' and not pushes(state, goal):
        return spot - _BEHIND * np.array(DIRECTIONS[goal.direction])
    return spot


def subtask(state: State, goal: Goal) -> str:
    """Say what the expert is doing in this state."""
    action = expert(state, goal)
    hand, name = state.hand, goal.name
    if goal.kind == 'reach':
        return f'move above the {name}'
    if goal.kind == 'pick':
        if action[6] < 0.5:
            return f'lift the {name}' if action[2] > 0 else f'grasp the {name}'
        if hand.opening < 0.9:
            return f'open the gripper for the {name}'
        return f'lower to the {name}' if action[2] < -0.015 else f'move above the {name}'
    if hand.opening > 0.3:
        return f'close the gripper for the {name}'
    return (
        f'push the {name} {goal.direction}' if pushes(state, goal) else f'move behind the {name}'
    )


def _towards(state: State, point: np.ndarray, opening: float) -> np.ndarray:
    move = np.clip(point - state.hand.position, -_FAST, _FAST)
    return np.array([*move, 0.0, 0.0, 0.0, opening])


def _down_to(state: State, spot: np.ndarray, opening: float) -> np.ndarray:
    """Go down to a spot [2] m as through a funnel: the nearer the hand, the lower.

    The action jumps at no threshold, so a small error of the spot is a small error of the action.
    """
    missing = spot - state.hand.position[:2]
    away = np.linalg.norm(missing)
    height = min(HOVER, GRASP + 1.5 * max(0.0, away - 0.01))
    below = height - state.hand.position[2]
    # A hand far below the funnel may be beside an object: the further, the less sideways.
    move = np.clip(missing, -_FAST, _FAST) * np.clip(2 - below / 0.03, 0, 1)
    return np.array([*move, np.clip(below, -_FAST, _FAST), 0.0, 0.0, 0.0, opening])


def _reach(state: State, goal: Goal) -> np.ndarray:
    x, y, _ = target_of(state, goal).position
    return _towards(state, np.array([x, y, HOVER]), 1.0)


def _pick(state: State, goal: Goal) -> np.ndarray:
    hand, thing = state.hand, target_of(state, goal)
    x, y, z = thing.position
    away = np.linalg.norm((x - hand.position[0], y - hand.position[1]))
    between = away < 0.022 and abs(z - hand.position[2]) < 0.022
    if hand.opening < 0.9:
        # With the object between the fingers, go up; without, open them and begin again.
        if between and hand.opening < 0.75:
            return np.array([0, 0, _FAST, 0, 0, 0, 0.0])
        return np.array([0, 0, _FAST if not between else 0.0, 0, 0, 0, 1.0])
    if between:
        return np.array([0, 0, 0, 0, 0, 0, 0.0])
    return _down_to(state, thing.position[:2], 1.0)


def _beside(state: State, goal: Goal) -> tuple[float, np.ndarray]:
    """Give the hand's distance [m] ahead of the object, and its offset [2] m from the path."""
    unit = np.array(DIRECTIONS[goal.direction])
    offset = state.hand.position[:2] - target_of(state, goal).position[:2]
    along = offset @ unit
    return along, offset - along * unit


def pushes(state: State, goal: Goal) -> bool:
    """Tell whether the hand is down behind the object, so that the next action pushes it."""
    along, across = _beside(state, goal)
    behind = -0.11 < along < -RADIUS * 0.8 and np.linalg.norm(across) < 0.03
    return behind and state.hand.position[2] < LOW and not _is_open_and_low(state)


def _is_open_and_low(state: State) -> bool:
    """Tell whether the hand is open, and so low that it could close around something."""
    return state.hand.opening > 0.3 and state.hand.position[2] < HOVER - 0.03


def _push(state: State, goal: Goal) -> np.ndarray:
    if _is_open_and_low(state):
        return np.array([0, 0, _FAST, 0, 0, 0, 0.0])
    if not pushes(state, goal):
        return _down_to(state, aim(state, goal), 0.0)
    _, across = _beside(state, goal)
    step = _towards(state, np.array([0, 0, GRASP]), 0.0)
    step[:2] = 0.9 * _FAST * np.array(DIRECTIONS[goal.direction]) - np.clip(across, -_FAST, _FAST)
    return step


_PLANS = {'reach': _reach, 'push': _push, 'pick': _pick}
