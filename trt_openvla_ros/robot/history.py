"""Poses by time, as far back as an image may be old."""

from __future__ import annotations

from collections import deque

from trt_openvla_ros.poses import Pose


class History:
    """Poses of the last seconds, in the order of their times."""

    def __init__(self, span: float) -> None:
        """Keep the poses of so many seconds."""
        self._span = span
        self._entries: deque[tuple[float, Pose]] = deque()

    def clear(self) -> None:
        """Forget all poses."""
        self._entries.clear()

    def note(self, time: float, pose: Pose) -> None:
        """Keep a pose; one that is older than the last is left out."""
        entries = self._entries
        if entries and time < entries[-1][0]:
            return
        entries.append((time, pose))
        # One older than the span stays, for times between it and the next.
        while len(entries) > 1 and entries[1][0] < time - self._span:
            entries.popleft()

    def at(self, time: float) -> Pose | None:
        """Interpolate; the last pose for later times, and None for times before the first."""
        before, after = self._around(time)
        if before is None or after is None or after[0] <= before[0]:
            return before[1] if before else None
        return before[1].toward(after[1], (time - before[0]) / (after[0] - before[0]))

    def held_at(self, time: float) -> Pose | None:
        """Give the pose that was the last at a time, or the first for times before it."""
        before, after = self._around(time)
        entry = before or after
        return entry[1] if entry else None

    def _around(self, time: float) -> tuple[tuple[float, Pose] | None, tuple[float, Pose] | None]:
        before = after = None
        for entry in reversed(self._entries):
            if entry[0] <= time:
                before = entry
                break
            after = entry
        return before, after
