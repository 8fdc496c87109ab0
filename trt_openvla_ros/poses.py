"""Poses of an end effector: a position and a rotation, in the axes of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from trt_openvla_ros.errors import InputError

# A quaternion in a message is a unit one up to rounding; another is a mistake of its sender.
_UNIT = 1e-3
ANGLES = ('subtract', 'compose')  # of Pose.motion_to


@dataclass(frozen=True, eq=False)
class Pose:
    """A pose in some frame.

    Attributes:
        position: [3] float64 [m].
        rotation: One rotation, which turns the end effector's axes into those of the frame.
    """

    position: np.ndarray
    rotation: Rotation

    @classmethod
    def of(cls, position: Sequence[float], quaternion: Sequence[float]) -> Pose:
        """Make a pose of [3] m and [4] x, y, z, w, which is normalised.

        Raises:
            InputError: A number is not finite, or the quaternion is not of length 1 (by more than
                0.001).
        """
        place, turn = np.asarray(position, np.float64), np.asarray(quaternion, np.float64)
        if place.shape != (3,) or turn.shape != (4,):
            raise InputError(f'a pose has 3 and 4 numbers, not {place.shape} and {turn.shape}')
        if not (np.isfinite(place).all() and np.isfinite(turn).all()):
            raise InputError(f'the pose {place.tolist()}, {turn.tolist()} is not finite')
        length = float(np.linalg.norm(turn))
        if not abs(length - 1.0) <= _UNIT:
            raise InputError(
                f'the quaternion {turn.tolist()} has the length {length:.6g}; 1 is needed'
            )
        return cls(place, Rotation.from_quat(turn))

    @property
    def quaternion(self) -> np.ndarray:
        """[4] float64: x, y, z, w."""
        return self.rotation.as_quat()

    @property
    def is_finite(self) -> bool:
        """Whether every number is finite."""
        return bool(np.isfinite(self.position).all() and np.isfinite(self.quaternion).all())

    @property
    def angles(self) -> np.ndarray:
        """Roll, pitch and yaw [3] about fixed axes [rad]."""
        return _angles(self.rotation)

    def step_to(self, other: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Give translation [3] m and rotation vector [3] rad to another pose, in base axes."""
        turn = (other.rotation * self.rotation.inv()).as_rotvec()
        return other.position - self.position, turn

    def moved(self, translation: np.ndarray, turn: np.ndarray) -> Pose:
        """Give the pose after [3] m and a rotation vector [3] rad about the position."""
        return Pose(self.position + translation, Rotation.from_rotvec(turn) * self.rotation)

    def motion_to(
        self, other: Pose, angles: str, rotation: str = 'euler_xyz', frame: str = 'base'
    ) -> np.ndarray:
        """Give [6] m and rad, as data sets label the motion from this pose to another.

        Args:
            other: Pose that it leads to.
            angles: One of ANGLES: 'subtract' is the difference of roll, pitch and yaw, each from
                -pi to pi, as BridgeData has it; 'compose' is the rotation between the poses.
            rotation: Form of a composed rotation, 'euler_xyz' or 'rotation_vector'.
            frame: Axes of the translation and of a composed rotation, 'base' or 'end_effector'.
        """
        translation = other.position - self.position
        turn = other.rotation * self.rotation.inv()
        if frame == 'end_effector':
            translation = self.rotation.inv().apply(translation)
            turn = self.rotation.inv() * other.rotation
        if angles == 'subtract':  # the roll of a hand that points down jumps
            turned = (other.angles - self.angles + np.pi) % (2 * np.pi) - np.pi
        else:
            turned = turn.as_rotvec() if rotation == 'rotation_vector' else _angles(turn)
        return np.concatenate([translation, turned])

    def distance(self, other: Pose) -> tuple[float, float]:
        """Give the distance [m] and the angle [rad] to another pose."""
        translation, turn = self.step_to(other)
        return float(np.linalg.norm(translation)), float(np.linalg.norm(turn))

    def toward(self, other: Pose, fraction: float) -> Pose:
        """Interpolate: 0 is this pose and 1 the other; linear, and slerp."""
        if fraction >= 1.0:
            return other
        translation, turn = self.step_to(other)
        return self.moved(fraction * translation, fraction * turn)


def _angles(rotation: Rotation) -> np.ndarray:
    return rotation.as_euler('xyz', suppress_warnings=True)
