"""What an observer saw of a loop. Times are seconds of its steady clock, stamps those of ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

# A command holds if it is as small as this: [m/s], [rad/s], or [m] and quaternion from the last.
STILL = 1e-9


class Command(NamedTuple):
    """A command to the controller.

    Attributes:
        at, stamp: Arrival, and header.stamp [s].
        numbers: [6] of a twist, or [7] of a pose: x, y, z and quaternion x, y, z, w.
    """

    at: float
    stamp: float
    numbers: tuple[float, ...]


class Action(NamedTuple):
    """An action of the policy: arrival, stamp of its image, time of its publication [s]."""

    at: float
    image: float
    published: float
    sequence: int


class Place(NamedTuple):
    """A measured pose: arrival, stamp [s], and position [3] m."""

    at: float
    stamp: float
    position: tuple[float, float, float]


class Said(NamedTuple):
    """A report of the gate: arrival, stamp [s], state and reason."""

    at: float
    stamp: float
    state: str
    reason: str


@dataclass
class Recording:
    """Everything, each list in order of arrival.

    Attributes:
        images: Arrival of each image by its stamp [s].
        hands: Where the hand really was, whatever the pose that the robot node gets says.
        enabled: Times [s] at which somebody asked for motion, and got it, by the steady clock.
    """

    commands: list[Command] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    poses: list[Place] = field(default_factory=list)
    hands: list[Place] = field(default_factory=list)
    reports: list[Said] = field(default_factory=list)
    images: dict[float, float] = field(default_factory=dict)
    enabled: list[float] = field(default_factory=list)

    def clear(self) -> None:
        """Forget everything but the newest report, which says the present state."""
        last = self.reports[-1:]
        for one in (self.commands, self.actions, self.poses, self.hands, self.enabled):
            one.clear()
        self.images.clear()
        self.reports[:] = last


def moves(commands: list[Command], enabled: Sequence[float] = ()) -> np.ndarray:
    """Tell of each command whether it moves.

    Args:
        commands: Commands of one kind, in order.
        enabled: Times of Recording.enabled; the first pose after one is not compared with those
            before it, because the hand may have been put elsewhere meanwhile.

    Returns:
        [N] bool. A twist moves if it is not zero, a pose if it is not that of the command before.
    """
    if not commands:
        return np.zeros(0, bool)
    numbers = np.array([command.numbers for command in commands])
    if numbers.shape[1] == 6:
        # Written so that NaN moves.
        return ~(np.abs(numbers) <= STILL).all(axis=1)
    change = np.abs(np.diff(numbers, axis=0))
    other = np.abs(numbers[1:, 3:] + numbers[:-1, 3:])  # -q is the same rotation
    still = (change[:, :3] <= STILL).all(axis=1)
    still &= (change[:, 3:] <= STILL).all(axis=1) | (other <= STILL).all(axis=1)
    at = np.array([command.at for command in commands])
    for time in enabled:
        still[(at[:-1] <= time) & (time < at[1:])] = True
    return np.concatenate([[False], ~still])
