"""The stream of wanted poses from one action to the next: it goes through targets by time.

Targets are computed once, when their action arrives; afterwards poses are interpolated between
them, and no delta is ever applied again.
"""

from __future__ import annotations

from collections.abc import Sequence

from trt_openvla_ros.poses import Pose


class Stream:
    """The way through the targets of one action, one in each control period."""

    def __init__(
        self, start: Pose, targets: Sequence[Pose], now: float, period: float, linear: bool
    ) -> None:
        """Begin.

        Args:
            start: Where the command is now.
            targets: Poses to be at after one period, after two, and so on; at least one.
            now: Time [s].
            period: Control period [s].
            linear: Whether to interpolate; else each target is wanted from its period's begin.
        """
        self._poses = [start, *targets]
        self._begin, self._period, self._linear = now, period, linear

    @property
    def end(self) -> float:
        """Time at which the last target is reached [s]."""
        return self._begin + self._period * (len(self._poses) - 1)

    @property
    def period(self) -> float:
        """Control period [s]."""
        return self._period

    def row(self, now: float) -> int:
        """Give the number of the target that is approached now, from 0."""
        passed = int((now - self._begin) / self._period)
        return min(max(passed, 0), len(self._poses) - 2)

    def target(self, now: float) -> Pose:
        """Give the target that is approached now."""
        return self._poses[self.row(now) + 1]

    def wanted(self, now: float) -> Pose:
        """Give the pose that is wanted now."""
        row = self.row(now)
        if not self._linear:
            return self._poses[row + 1]
        passed = (now - self._begin) / self._period - row
        return self._poses[row].toward(self._poses[row + 1], max(passed, 0.0))
