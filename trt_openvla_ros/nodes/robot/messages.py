"""Messages of poses, twists and reports, and what they are made of."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import PoseStamped, Twist, TwistStamped, Vector3
from std_msgs.msg import Header

from trt_openvla_ros.poses import Pose


def to_pose(pose: Pose, header: Header) -> PoseStamped:
    """Make the message of a pose."""
    message = PoseStamped(header=header)
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = map(float, pose.position)
    turn.x, turn.y, turn.z, turn.w = map(float, pose.quaternion)
    return message


def to_twist(twist: Sequence[float], header: Header) -> TwistStamped:
    """Make the message of [6] m/s and rad/s."""
    x, y, z, *turn = map(float, twist)
    linear = Vector3(x=x, y=y, z=z)
    angular = Vector3(x=turn[0], y=turn[1], z=turn[2])
    return TwistStamped(header=header, twist=Twist(linear=linear, angular=angular))


def from_pose(message: PoseStamped) -> Pose:
    """Read a pose.

    Raises:
        InputError: A number is not finite, or the quaternion is not of length 1.
    """
    place, turn = message.pose.position, message.pose.orientation
    return Pose.of((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
