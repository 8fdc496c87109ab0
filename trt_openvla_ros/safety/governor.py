"""The last check of every command: it follows a wanted pose within all limits, tick by tick.

What it lets out is never faster than the limits, changes its velocity no faster than they say,
and can always brake to a stop before it leaves the workspace, enters a keep-out box or tilts the
tool too far: each tick first proves that braking from where it would lead is possible, and
brakes if it is not. v² / 2a bounds the way of braking for ticks of any length, because each
moves by the velocity at its end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
import math
from operator import itemgetter

import numpy as np

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.safety.limits import GateSettings
from trt_openvla_ros.safety.space import shorten, Space

_ZERO = np.zeros(3)
_THERE = 1e-9  # [m] and [rad]
_BISECTIONS = 8
_MEMORY = 256  # ticks
_LAG = 0.1  # [s] in which an arm follows a velocity; at its pose's time it had still to do so


class Governor:
    """The command that goes out.

    Attributes:
        pose: Pose; None if nothing is commanded.
        velocity, turning: Its velocity [3] m/s and angular velocity [3] rad/s, base axes.
        twist: [6] m/s and rad/s, base axes; that of the pose, corrected.
        seconds: Length of the last tick [s]; 0 if the clock jumped.
        braked: Whether it braked because going on would have left the allowed space.
    """

    def __init__(self, settings: GateSettings, space: Space) -> None:
        """Begin without a command."""
        self._settings, self._space = settings, space
        self._time = self.seconds = 0.0
        self.pose: Pose | None = None
        self.forget()

    def start(self, pose: Pose, now: float) -> None:
        """Begin at a pose where the end effector may be, at rest."""
        self.forget()
        self.pose, self._time = pose, now

    def forget(self) -> None:
        """Have no command any more."""
        self.pose = None
        self.velocity, self.turning, self.twist = _ZERO, _ZERO, np.zeros(6)
        self.braked = False
        # Ways [3] m that twists have made, by time, as far back as a pose may be old.
        self._driven = deque([(-math.inf, _ZERO)], maxlen=_MEMORY)

    def follow(self, wanted: Pose, now: float) -> Pose:
        """Move toward a wanted pose, as far as the limits allow.

        This sets `pose`, `velocity`, `turning` and `braked`.
        """
        limits = self._settings
        way, turn = self.pose.step_to(wanted)
        seconds = self._elapsed(now)
        if seconds <= 0.0:
            return self.pose
        if not (np.isfinite(way).all() and np.isfinite(turn).all()):
            way, turn = _ZERO, _ZERO  # which brakes
        self.velocity, stopped = _next_velocity(
            self.velocity,
            way,
            (limits.max_speed, limits.max_acceleration),
            seconds,
            lambda step: self._space.has_way(self.pose.position, self.pose.position + step),
        )
        self.turning, caught = _next_velocity(
            self.turning,
            turn,
            (limits.max_angular_speed, limits.max_angular_acceleration),
            seconds,
            lambda step: self._space.cone.has_turn(self.pose, step),
        )
        self.braked = stopped or caught
        self.pose = self.pose.moved(self.velocity * seconds, self.turning * seconds)
        self.seconds = seconds
        return self.pose

    def steer(
        self,
        correction: tuple[np.ndarray, np.ndarray] | None,
        measured: np.ndarray | None = None,
        age: float = 0.0,
    ) -> np.ndarray:
        """Make the twist of this tick, after `follow`.

        It moves the arm, which is not where the command is. So it is shortened where the arm
        could not brake inside the allowed space, from where the twists since the measured pose
        have brought it.

        Args:
            correction: Velocity [3] m/s and angular velocity [3] rad/s to add to those of the
                command; None lets the twist die away.
            measured: Measured position [3] m of the end effector; None asks for no space.
            age: Age of that [s].

        Returns:
            [6] m/s and rad/s, within the same limits as the command.
        """
        limits = self._settings
        wanted = np.zeros(6)
        if correction is not None:
            linear = shorten(self.velocity + correction[0], limits.max_speed)
            wanted[:3] = linear if measured is None else self._inside(linear, measured, age)
            wanted[3:] = shorten(self.turning + correction[1], limits.max_angular_speed)
        change = wanted - self.twist
        change[:3] = shorten(change[:3], limits.max_acceleration * self.seconds)
        change[3:] = shorten(change[3:], limits.max_angular_acceleration * self.seconds)
        self.twist = self.twist + change
        self._driven.append((self._time, self._driven[-1][1] + self.twist[:3] * self.seconds))
        return self.twist

    def _inside(self, velocity: np.ndarray, place: np.ndarray, age: float) -> np.ndarray:
        """Shorten a velocity [3] m/s so that an arm, measured at a place [3] m, stays inside."""
        space, acceleration = self._space, self._settings.max_acceleration
        if not space.has_way(place, place):
            return velocity  # it leads back to the command, which is inside
        index = bisect_right(self._driven, self._time - age - _LAG, key=itemgetter(0))
        driven = self._driven[-1][1] - self._driven[max(index - 1, 0)][1]

        def fits(part: float) -> bool:
            way = _until_rest(part * velocity, acceleration, self.seconds)
            return space.has_way(place, place + driven + way)

        if fits(1.0):
            return velocity
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low * velocity

    def _elapsed(self, now: float) -> float:
        """Seconds since the last tick; 0, at rest, if the clock jumped."""
        seconds = now - self._time
        self._time = now
        self.seconds = seconds
        if not 0.0 <= seconds <= self._settings.max_tick_gap:
            self.velocity, self.turning, self.twist = _ZERO, _ZERO, np.zeros(6)
            self.seconds = 0.0
        return self.seconds


def _next_velocity(
    velocity: np.ndarray,
    way: np.ndarray,
    limits: tuple[float, float],
    seconds: float,
    may_go: Callable[[np.ndarray], bool],
) -> tuple[np.ndarray, bool]:
    """Choose the velocity for one tick.

    Args:
        velocity: [3] velocity so far.
        way: [3] from where the command is to where it is wanted.
        limits: Highest speed, and largest change of velocity in a second.
        seconds: Length of the tick.
        may_go: Whether a straight step [3] from where the command is stays in the allowed space.

    Returns:
        The velocity, and whether it brakes because nothing else is safe.
    """
    top, acceleration = limits
    distance = float(np.linalg.norm(way))
    change = acceleration * seconds
    # So fast that after this tick the rest of the way is still enough to brake.
    speed = math.sqrt(change**2 + 2 * acceleration * distance) - change
    if distance <= 0.5 * change * seconds:
        speed = distance / seconds
    speed = min(speed, top, distance / seconds)
    wanted = way * (speed / distance) if distance > _THERE else _ZERO
    chosen = velocity + shorten(wanted - velocity, change)
    if may_go(_until_rest(chosen, acceleration, seconds)):
        return chosen, False
    old = float(np.linalg.norm(velocity))
    return velocity * (max(0.0, old - change) / old) if old > 0.0 else _ZERO, True


def _until_rest(velocity: np.ndarray, acceleration: float, seconds: float) -> np.ndarray:
    """Longest way [3] of one tick at a velocity and of braking after it."""
    return velocity * (seconds + float(np.linalg.norm(velocity)) / (2 * acceleration))
