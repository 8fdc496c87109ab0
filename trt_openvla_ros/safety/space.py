"""Where an end effector may be: a box to stay in, boxes to keep out of, a cone for its axis."""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.safety.limits import GateSettings

_ROUNDING = 1e-9  # [m] or of a cosine
_AXES = 'xyz'


class Box:
    """A box whose edges are along the axes of the frame."""

    def __init__(self, corners: Sequence[float], name: str) -> None:
        """Take lowest x, y, z, then highest [m].

        Raises:
            ConfigError: A lowest value is above the highest; the message starts with name.
        """
        self.low, self.high = np.array(corners[:3]), np.array(corners[3:])
        self.exists = bool((self.low < self.high).all())
        if (self.low > self.high).any():
            raise ConfigError(
                f'{name} is {list(corners)}; the three lowest values come first, and then the '
                'three highest'
            )

    def has(self, position: np.ndarray, slack: float = _ROUNDING) -> bool:
        """Whether a position [3] m lies in the box, or outside by no more than slack [m]."""
        return bool((position >= self.low - slack).all() and (position <= self.high + slack).all())

    def nearest(self, position: np.ndarray) -> np.ndarray:
        """Give the nearest position inside."""
        return np.clip(position, self.low, self.high)

    def why_outside(self, position: np.ndarray) -> str:
        """Say which coordinate is outside; '' if none is."""
        for axis, value, low, high in zip(_AXES, position, self.low, self.high, strict=True):
            if not low - _ROUNDING <= value <= high + _ROUNDING:
                return f'{axis} is {value:.3f} m, and the workspace {low:g} to {high:g} m'
        return ''

    def is_met(self, start: np.ndarray, end: np.ndarray) -> bool:
        """Whether the straight way between two positions touches the box, its faces included."""
        first, last = 0.0, 1.0
        for at, way, low, high in zip(start, end - start, self.low, self.high, strict=True):
            if abs(way) < 1e-12:
                if not low <= at <= high:
                    return False
                continue
            near, far = sorted(((low - at) / way, (high - at) / way))
            first, last = max(first, near), min(last, far)
            if first > last:
                return False
        return True


class Cone:
    """A cone about a direction, which an axis of the tool must stay in."""

    def __init__(self, tool_axis: Sequence[float], upright: Sequence[float], tilt: float) -> None:
        """Take two directions of any length, and the largest angle [rad]; 0 is no limit.

        Raises:
            ConfigError: A direction has the length 0.
        """
        self._tool = _unit(tool_axis, 'tool_axis')
        self._upright = _unit(upright, 'upright_axis')
        self._least = math.cos(tilt) if 0 < tilt < math.pi else -2.0

    @property
    def exists(self) -> bool:
        """Whether there is a limit."""
        return self._least >= -1.0

    def tilt(self, pose: Pose) -> float:
        """Give the angle of the tool's axis from the direction [rad]."""
        return math.acos(float(np.clip(pose.rotation.apply(self._tool) @ self._upright, -1, 1)))

    def has(self, pose: Pose) -> bool:
        """Whether a pose is inside."""
        return not self.exists or math.cos(self.tilt(pose)) >= self._least - _ROUNDING

    def has_turn(self, pose: Pose, turn: np.ndarray) -> bool:
        """Whether every pose on a rotation vector [3] rad from a pose is inside.

        The cosine of the tilt after an angle a about an axis k is p + q cos a + r sin a, with
        p = (k·u)(k·t), q = u·t - p and r = u·(k x t), whose least value is where a is opposite to
        atan2(r, q).
        """
        angle = float(np.linalg.norm(turn))
        if not self.exists:
            return True
        tool = pose.rotation.apply(self._tool)
        if angle == 0.0:
            return bool(tool @ self._upright >= self._least - _ROUNDING)
        axis = turn / angle
        p = (axis @ self._upright) * (axis @ tool)
        q, r = self._upright @ tool - p, self._upright @ np.cross(axis, tool)
        lowest = math.atan2(-r, -q) % (2 * math.pi)
        angles = np.array([0.0, angle, min(lowest, angle)])
        return bool((p + q * np.cos(angles) + r * np.sin(angles)).min() >= self._least - _ROUNDING)


class Space:
    """All that limits where the end effector is."""

    def __init__(self, settings: GateSettings) -> None:
        """Take the boxes and the cone.

        Raises:
            ConfigError: A box or an axis is impossible.
        """
        self.workspace = Box(settings.workspace, 'workspace')
        boxes = {n: Box(getattr(settings, f'keep_out_{n}'), f'keep_out_{n}') for n in range(1, 5)}
        self._keep_out = {n: box for n, box in boxes.items() if box.exists}
        self.cone = Cone(settings.tool_axis, settings.upright_axis, settings.max_tilt)

    def crossed(self, start: np.ndarray, end: np.ndarray) -> int:
        """Number of a keep-out box on a straight way, from 1; 0 if there is none."""
        return next((n for n, box in self._keep_out.items() if box.is_met(start, end)), 0)

    def has_way(self, start: np.ndarray, end: np.ndarray) -> bool:
        """Whether a straight way from a position inside stays inside and crosses nothing."""
        return self.workspace.has(end) and not self.crossed(start, end)

    def why_not(self, pose: Pose) -> str:
        """Say why an end effector must not be at a pose; '' if it may."""
        if not self.workspace.exists:
            return 'the workspace has no volume; set the parameter workspace'
        if outside := self.workspace.why_outside(pose.position):
            return outside
        if number := self.crossed(pose.position, pose.position):
            return f'it is in keep-out box {number}'
        if not self.cone.has(pose):
            return f'the tool is tilted by {self.cone.tilt(pose):.2f} rad, beyond max_tilt'
        return ''


def shorten(vector: np.ndarray, limit: float) -> np.ndarray:
    """Give a vector [3] of at most a length, in its direction."""
    length = float(np.linalg.norm(vector))
    return vector * (limit / length) if length > limit else vector


def _unit(axis: Sequence[float], name: str) -> np.ndarray:
    length = float(np.linalg.norm(axis))
    if length < 1e-3:
        raise ConfigError(f'{name} is {list(axis)}; a direction is needed')
    return np.array(axis) / length
