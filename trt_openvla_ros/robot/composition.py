"""From the numbers of a step to the pose that it leads to."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.meaning import Meaning


def to_step(
    numbers: np.ndarray, meaning: Meaning, data_axes: Rotation
) -> tuple[np.ndarray, np.ndarray]:
    """Make metres and radians of the numbers of a step.

    Args:
        numbers: [6] float64 in the units of the meaning.
        meaning: What they are; units and rotation are known.
        data_axes: Rotation of the data set's axes in those of the robot.

    Returns:
        Translation [3] m and rotation vector [3] rad, in the robot's axes (base or tool).
    """
    translation = meaning.translation_unit * numbers[:3]
    turn = meaning.rotation_unit * numbers[3:6]
    if meaning.rotation == 'euler_xyz':
        # Lower case: about the fixed axes, Rz(yaw)·Ry(pitch)·Rx(roll).
        turn = Rotation.from_euler('xyz', turn).as_rotvec()
    return data_axes.apply(translation), data_axes.apply(turn)


def compose(
    translation: np.ndarray,
    turn: np.ndarray,
    reference: str,
    frame: str,
    target: Pose,
    measured: Pose,
) -> Pose:
    """Give the pose that a step leads to.

    Args:
        translation: [3] m.
        turn: [3] rad, rotation vector.
        reference: 'target' or 'measured' starts there. 'bridge' is BridgeData's own way: it turns
            the last commanded pose about the measured position, and then translates it. Source:
            robot_base_env.py of rail-berkeley/bridge_data_robot at a902e5b.
        frame: 'base', or 'end_effector' for axes of the pose that the step starts from.
        target: Pose last commanded.
        measured: Measured pose.
    """
    start = measured if reference == 'measured' else target
    if frame == 'end_effector':
        translation, turn = start.rotation.apply(translation), start.rotation.apply(turn)
    if reference != 'bridge':
        return start.moved(translation, turn)
    rotation = Rotation.from_rotvec(turn)
    arm = rotation.apply(target.position - measured.position)
    return Pose(arm + measured.position + translation, rotation * target.rotation)
