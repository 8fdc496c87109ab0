"""Random actions over the topics of a policy: the baseline that a trained policy must beat."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import String

from trt_openvla_ros.contracts import ActionStatistics
from trt_openvla_ros.msg import VlaAction


class RandomActor:
    """An actor that answers every image with a random action, in the range of the statistics."""

    def __init__(self, node: Node, statistics: ActionStatistics) -> None:
        """Start to act, for as long as the node lives."""
        self._statistics = statistics
        self._rng = np.random.default_rng(0)
        self._instruction = ''
        self._actions = node.create_publisher(VlaAction, 'policy/action', 10)
        node.create_subscription(String, 'instruction', self._on_instruction, 10)
        node.create_subscription(
            Image, 'camera/image_raw', self._on_image, qos_profile_sensor_data
        )

    def _on_instruction(self, message: String) -> None:
        self._instruction = message.data

    def _on_image(self, image: Image) -> None:
        normalised = self._rng.uniform(-1, 1, self._statistics.action_dim)
        action = self._statistics.unnormalise(normalised)
        action[VlaAction.GRIPPER] = self._rng.integers(2)
        answer = VlaAction(action=action.tolist(), instruction=self._instruction)
        answer.header.stamp = image.header.stamp
        self._actions.publish(answer)
