"""Where the end effector is: from a topic, or from TF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.nodes.conversions import age_of
from trt_openvla_ros.nodes.robot.messages import from_pose
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.nodes.robot.topics import POSE
from trt_openvla_ros.nodes.transforms import Transforms
from trt_openvla_ros.poses import Pose

# Takes a pose, its age [s] by the node's clock, and its frame.
Heard = Callable[[Pose, float, str], None]


class TopicPoses:
    """Poses from a topic; a wrong one is refused with a sentence."""

    def __init__(self, node: Node, parameters: RobotParameters, heard: Heard) -> None:
        """Subscribe to `pose_topic`."""
        self._node, self._heard = node, heard
        self._subscription = node.create_subscription(
            POSE.type, parameters.pose_topic, self._take, POSE.qos
        )
        self.rejected, self.trouble = 0, ''

    @property
    def source(self) -> str:
        """Where the poses come from, in words."""
        return f'topic {self._subscription.topic_name}'

    def look(self) -> None:
        """Do nothing: poses come by themselves."""

    def destroy(self) -> None:
        """Remove the subscription from the node."""
        self._node.destroy_subscription(self._subscription)

    def _take(self, message: PoseStamped) -> None:
        try:
            pose = from_pose(message)
        except InputError as error:
            self.rejected, self.trouble = self.rejected + 1, str(error)
            self._node.get_logger().warning(f'pose ignored: {error}', throttle_duration_sec=2.0)
            return
        self.trouble = ''
        self._heard(pose, age_of(message, self._node.get_clock()), message.header.frame_id)


class TransformPoses:
    """Poses from TF: the newest transform from `tool_frame` to `base_frame`."""

    def __init__(
        self,
        node: Node,
        parameters: RobotParameters,
        heard: Heard,
        transforms: Transforms | None = None,
    ) -> None:
        """Listen to TF, unless the node does so already.

        Raises:
            ConfigError: tf2_ros is not installed.
        """
        self._transforms = transforms or Transforms(node, 'pose_source tf')
        self._node, self._heard = node, heard
        self._base, self._tool = parameters.base_frame, parameters.tool_frame
        self._stamp: Any = None
        self.rejected, self.trouble = 0, ''

    @property
    def source(self) -> str:
        """Where the poses come from, in words."""
        return f'TF from {self._base} to {self._tool}'

    def look(self) -> None:
        """Take the newest transform, if it is newer than the last one."""
        try:
            found = self._transforms.look_up(self._base, self._tool)
        except InputError as error:
            self.trouble = str(error)
            return
        if found.header.stamp == self._stamp:
            return
        self._stamp = found.header.stamp
        place, turn = found.transform.translation, found.transform.rotation
        try:
            pose = Pose.of((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
        except InputError as error:
            self.rejected, self.trouble = self.rejected + 1, str(error)
            return
        self.trouble = ''
        self._heard(pose, age_of(found, self._node.get_clock()), found.header.frame_id)

    def destroy(self) -> None:
        """Remove the subscriptions from the node."""
        self._transforms.destroy()


POSES: dict[str, type[TopicPoses | TransformPoses]] = {
    'topic': TopicPoses,
    'tf': TransformPoses,
}
