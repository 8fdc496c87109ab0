"""What the stamps of images tell: whether one is too old, and which frames never came."""

from __future__ import annotations

from collections import deque
import statistics

NO_CLOCK = (
    'use_sim_time is true, but no message has come on /clock; play a recording with '
    '`ros2 bag play --clock`, start the simulation, or set use_sim_time to false'
)
_WALL = 10**18  # [ns] stamps of a real clock are later (2001), those of a simulation earlier
_PAUSE = 10 * 10**9  # [ns] a longer gap is a camera that stopped, or a clock that jumped
_ENOUGH = 10  # gaps before anything is said about the period
_WINDOW = 50  # gaps: enough for a median, and few enough to follow a camera that slows down
_STEADY = 0.3  # relative deviation from the period of a camera that keeps time


def why_stale(stamp: int, now: int, limit: float, simulated: bool) -> str:
    """Say why the policy must not act on an image; '' if the image is young enough.

    Args:
        stamp: Stamp of the image [ns].
        now: Time by the clock of the node [ns].
        limit: Largest age, and largest lead of the stamp [s]; 0 sets no limit.
        simulated: Whether the clock follows /clock (use_sim_time).
    """
    age = (now - stamp) * 1e-9
    if not limit or -limit <= age <= limit:
        return ''
    if simulated and now == 0:
        # The age is the whole time since 1970 here, and would look like a stamp in the future.
        return f'image dropped: {NO_CLOCK}'
    return (
        f'image dropped: {age:.3f} s old, limit {limit} s (max_image_age); '
        f'{_cause(stamp, now, simulated)}'
    )


def why_late(age: float, inference: float, limit: float) -> str:
    """Say why an action must not be published; '' if its image is young enough.

    Args:
        age: Age of its image now [s].
        inference: Part of the age that the policy took [s].
        limit: Largest age, and largest lead of the stamp [s]; 0 sets no limit.
    """
    if not limit or -limit <= age <= limit:
        return ''
    return (
        f'its image is {age:.3f} s old, {inference:.3f} s of it for inference, limit {limit} s '
        '(max_image_age); raise the limit for a slow model if the robot stands still meanwhile'
    )


def _cause(stamp: int, now: int, simulated: bool) -> str:
    if stamp <= 0:
        return f'its stamp is {stamp * 1e-9:.0f}: the camera must set it, or max_image_age be 0'
    if stamp < _WALL <= now:
        return (
            'its stamp is of a simulated clock; set use_sim_time here too'
            if not simulated
            else 'its stamp counts from the start of a machine or simulation, and /clock from 1970'
        )
    if now < _WALL <= stamp:
        return (
            f"its stamp is of the machine's clock, and /clock is at {now * 1e-9:.3f} s; set "
            'use_sim_time for the camera too'
        )
    if stamp > now:
        return 'its stamp lies in the future; ' + (
            '/clock is behind the camera; do both come from one simulation or recording?'
            if simulated
            else 'synchronise the clocks (chrony, PTP), or set use_sim_time'
        )
    if simulated:
        return (
            'is the camera stamping with this clock (use_sim_time)? If the camera is only slow, '
            'raise max_image_age'
        )
    return (
        'a recording needs `ros2 bag play --clock` and use_sim_time, or max_image_age 0; a slow '
        'camera needs a larger max_image_age'
    )


class Cadence:
    """The period of a camera by its stamps, and the frames that never came."""

    def __init__(self) -> None:
        """Know nothing about the camera."""
        self._last = 0
        self._gaps: deque[int] = deque(maxlen=_WINDOW)

    @property
    def period(self) -> float:
        """The camera's period [s]; 0 if it keeps no time, or has shown too few frames."""
        if len(self._gaps) < _ENOUGH:
            return 0.0
        period = statistics.median_low(self._gaps)
        steady = sum(abs(gap - period) <= _STEADY * period for gap in self._gaps)
        return period * 1e-9 if 2 * steady >= len(self._gaps) else 0.0

    def see(self, stamp: int) -> int:
        """Take the stamp of the next frame [ns]; give the number of lost frames before it.

        Frames with the same stamp or an earlier one, and gaps that no camera has, count nothing.
        """
        gap, self._last = stamp - self._last, stamp
        if not 0 < gap <= _PAUSE:
            return 0
        period = self.period
        self._gaps.append(gap)
        return max(0, round(gap * 1e-9 / period) - 1) if period else 0
