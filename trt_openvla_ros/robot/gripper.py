"""The opening of the gripper: from the last number of a step to what is commanded."""

from __future__ import annotations

import math

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.robot.settings import BridgeSettings


def to_opening(number: float, meaning: str) -> float | None:
    """Make an opening, 0 closed to 1 open, of the last number; None if it says nothing."""
    if meaning not in ('open', 'closed'):
        return None
    return number if meaning == 'open' else 1.0 - number


class Gripper:
    """Openings that are commanded.

    Attributes:
        goal: Opening to end at; None before the first.
        changes: Number of changes of the goal.
        opening: Opening to have now: it approaches the goal at max_gripper_rate.
    """

    def __init__(self, settings: BridgeSettings) -> None:
        """Begin without an opening.

        Raises:
            ConfigError: gripper_close_below is above gripper_open_above.
        """
        if settings.gripper_close_below > settings.gripper_open_above:
            raise ConfigError(
                f'gripper_close_below is {settings.gripper_close_below:g}, above '
                f'gripper_open_above, {settings.gripper_open_above:g}'
            )
        self._settings = settings
        self.changes = 0
        self.forget()

    def forget(self) -> None:
        """Command nothing until the next step; the number of changes stays."""
        self.goal: float | None = None
        self.opening: float | None = None
        self._kept = self._disagreeing = 0

    def take(self, opening: float) -> None:
        """Take the opening from 0 to 1 that a step asks for."""
        asked = self._as_commanded(opening)
        self._kept += 1
        if asked is None or asked == self.goal:
            self._disagreeing = 0
            return
        self._disagreeing += 1
        confirmed = self._disagreeing >= self._settings.gripper_confirm_steps
        released = self._kept >= self._settings.gripper_sticky_steps
        waits = self.goal is not None and self._settings.gripper_mode == 'binary'
        if waits and not (confirmed and released):
            return
        self.goal, self._kept, self._disagreeing = asked, 0, 0
        self.changes += 1
        if self.opening is None:
            self.opening = asked

    def _as_commanded(self, opening: float) -> float | None:
        """Give the opening as it may be commanded; None keeps the goal."""
        if self._settings.gripper_mode == 'continuous':
            # The ends are reached exactly: a gripper that is almost closed holds nothing.
            near = (
                self.goal is not None
                and 0.0 < opening < 1.0
                and (abs(opening - self.goal) < self._settings.gripper_deadband)
            )
            return None if near else opening
        if opening < self._settings.gripper_close_below:
            return 0.0
        if opening > self._settings.gripper_open_above:
            return 1.0
        # In between, the first step takes the nearer one.
        return float(opening >= 0.5) if self.goal is None else None

    def move(self, seconds: float) -> float:
        """Approach the goal for the time of a tick; return the rate that the way needs [1/s]."""
        if self.goal is None or self.opening is None or seconds <= 0.0:
            return 0.0
        most = (self._settings.max_gripper_rate or math.inf) * seconds
        way = self.goal - self.opening
        self.opening += math.copysign(min(abs(way), most), way)
        return abs(way) / seconds
