"""The messages of the simulated world, and the check of the actions that it takes."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TransformStamped
import numpy as np
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Header

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.sim.scene import IMAGE_SIZE, OPEN, SHUT
from trt_openvla_ros.sim.world import World

BASE_FRAME = 'base_link'
CAMERA_FRAME = 'camera_optical_frame'
HAND_FRAME = 'hand'
JOINTS = ('finger_left', 'finger_right')


def camera_info(world: World, header: Header) -> CameraInfo:
    """Describe the camera: a pinhole without distortion."""
    matrix = world.camera_matrix
    return CameraInfo(
        header=header,
        height=IMAGE_SIZE,
        width=IMAGE_SIZE,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=matrix.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([matrix, np.zeros((3, 1))]).ravel(),
    )


def hand_pose(world: World, header: Header) -> PoseStamped:
    """Give the pose of the fingertips' centre."""
    message = PoseStamped(header=header)
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = world.hand.position.tolist()
    turn.w, turn.x, turn.y, turn.z = world.hand_orientation.tolist()
    return message


def hand_transform(world: World, stamp: Time) -> TransformStamped:
    """Give the transform from the base to the hand."""
    return _transform(HAND_FRAME, world.hand.position, world.hand_orientation, stamp)


def camera_transform(world: World, stamp: Time) -> TransformStamped:
    """Give the transform from the base to the camera's optical frame."""
    place, rotation = world.camera_pose
    quaternion = np.roll(Rotation.from_matrix(rotation).as_quat(), 1)
    return _transform(CAMERA_FRAME, place, quaternion, stamp)


def _transform(
    child: str, place: np.ndarray, quaternion: np.ndarray, stamp: Time
) -> TransformStamped:
    header = Header(stamp=stamp, frame_id=BASE_FRAME)
    message = TransformStamped(header=header, child_frame_id=child)
    to, turn = message.transform.translation, message.transform.rotation
    to.x, to.y, to.z = place.tolist()
    turn.w, turn.x, turn.y, turn.z = quaternion.tolist()
    return message


def joint_states(world: World, header: Header) -> JointState:
    """Give each finger's distance from the middle [m]."""
    width = SHUT + world.hand.opening * (OPEN - SHUT)
    return JointState(header=header, name=JOINTS, position=[width] * len(JOINTS))


def why_impossible(message: VlaAction) -> str:
    """Say why the hand cannot make an action; '' if it can."""
    action = np.asarray(message.action)
    if not np.isfinite(action).all():
        return f'{action.tolist()} is not seven finite numbers'
    opening = action[VlaAction.GRIPPER]
    if not 0.0 <= opening <= 1.0:
        return (
            f'the gripper is {opening}, but 0 is closed and 1 is open; leave gripper_closed '
            'and gripper_open of the policy at their defaults'
        )
    return ''
