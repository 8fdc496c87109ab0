"""What the simulation publishes of its world."""

from __future__ import annotations

from builtin_interfaces.msg import Time
import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.nodes.conversions import to_message
from trt_openvla_ros.nodes.qos import LATCHED, overridable
from trt_openvla_ros.nodes.robot.interfaces import load
from trt_openvla_ros.nodes.sim_messages import (
    BASE_FRAME,
    CAMERA_FRAME,
    camera_info,
    camera_transform,
    hand_pose,
    hand_transform,
    joint_states,
)
from trt_openvla_ros.nodes.topics import (
    CAMERA_IMAGE,
    CAMERA_INFO,
    CLOCK,
    HAND_POSE,
    JOINT_STATES,
    Topic,
)
from trt_openvla_ros.sim.world import World


class SimOutputs:
    """The publishers of a world."""

    def __init__(self, node: Node, world: World, publish_clock: bool) -> None:
        """Make them; without tf2_msgs there are no transforms.

        Raises:
            ConfigError: A QoS override cannot be used.
        """
        self._node, self._world = node, world
        self._images = self.publisher(CAMERA_IMAGE)
        self._camera_infos = self.publisher(CAMERA_INFO)
        self._poses = self.publisher(HAND_POSE)
        self._joints = self.publisher(JOINT_STATES)
        self._clocks = self.publisher(CLOCK) if publish_clock else None
        try:
            self._tf_message = load('tf2_msgs.msg.TFMessage', '/tf')
        except ConfigError:
            self._tf_message = None
        else:
            self._transforms = node.create_publisher(self._tf_message, '/tf', 100)
            camera = node.create_publisher(self._tf_message, '/tf_static', LATCHED)
            camera.publish(self._tf_message(transforms=[camera_transform(world, Time())]))

    def publisher(self, topic: Topic) -> Publisher:
        """Make a publisher with the QoS overrides of its topic.

        Raises:
            ConfigError: One of them cannot be used.
        """
        with overridable(self._node, topic.name, topic.qos) as qos:
            return self._node.create_publisher(topic.type, topic.name, **qos)

    def publish_hand(self, stamp: Time) -> None:
        """Publish the time, if it is ours, the hand's pose, its transform and its fingers."""
        if self._clocks:
            self._clocks.publish(Clock(clock=stamp))
        base = Header(stamp=stamp, frame_id=BASE_FRAME)
        self._poses.publish(hand_pose(self._world, base))
        self._joints.publish(joint_states(self._world, base))
        if self._tf_message:
            transforms = [hand_transform(self._world, stamp)]
            self._transforms.publish(self._tf_message(transforms=transforms))

    def publish_view(self, view: np.ndarray, stamp: Time) -> None:
        """Publish an image [H, W, 3] uint8 RGB of the camera, and its intrinsics."""
        image = to_message(view)
        image.header = Header(stamp=stamp, frame_id=CAMERA_FRAME)
        self._camera_infos.publish(camera_info(self._world, image.header))
        self._images.publish(image)
