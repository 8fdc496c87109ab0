"""The messages that the policy node publishes for each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from trt_openvla_ros.contracts import BasePolicy, Prediction, PreparedImage
from trt_openvla_ros.nodes.conversions import age_of, to_message
from trt_openvla_ros.nodes.motion import Robot, to_action
from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.nodes.qos import overridable
from trt_openvla_ros.nodes.stamps import why_late
from trt_openvla_ros.nodes.topics import (
    ACTION,
    PROMPT_IMAGE,
    REASONING,
    REASONING_STREAM,
    Topic,
)
from trt_openvla_ros.robot.meaning import find_meaning, read_meanings
from trt_openvla_ros.safety.gate import admit


@dataclass(frozen=True)
class Step:
    """One image that the policy answered.

    Attributes:
        source: Message of the image.
        image: What the policy answered: [H, W, 3] uint8 RGB, or what `prepare` made of it.
        instruction: Instruction that the policy followed.
        prediction: Answer of the policy.
    """

    source: Image | CompressedImage
    image: np.ndarray | PreparedImage
    instruction: str
    prediction: Prediction


class Outputs:
    """The publishers of a policy, from configure to cleanup."""

    def __init__(self, node: LifecycleNode, policy: BasePolicy, action_meanings: str) -> None:
        """Make the publishers on a node; action_meanings is the file over the table.

        Raises:
            ConfigError: A QoS override, or the file, cannot be used.
        """
        self._node, self._policy = node, policy
        self._meanings = read_meanings(action_meanings)
        self._sequence = 0
        self._publishers: dict[Topic, LifecyclePublisher] = {}
        for topic in (ACTION, REASONING, REASONING_STREAM, PROMPT_IMAGE):
            with overridable(node, topic.name, topic.qos) as qos:
                self._publishers[topic] = node.create_lifecycle_publisher(
                    topic.type, topic.name, **qos
                )

    def restart(self) -> None:
        """Count actions from 1 again."""
        self._sequence = 0

    @property
    def streams(self) -> bool:
        """Whether anybody subscribes to the stream of reasoning."""
        return bool(self._publishers[REASONING_STREAM].get_subscription_count())

    def stream(self, reasoning: str) -> None:
        """Publish the reasoning so far."""
        self._publish(REASONING_STREAM, String(data=reasoning))

    def publish(self, step: Step, parameters: PolicyParameters) -> str:
        """Publish an action with its reasoning.

        Returns:
            Reason why nothing was published: the image has become too old; '' if all was.

        Raises:
            OutputError: The gate refuses the action.
        """
        description, source = self._policy.description, step.source
        admit(step.prediction, description, parameters.max_forced_tokens)
        meaning = find_meaning(self._meanings, step.prediction.unnorm_key)
        message = to_action(step.prediction, Robot.of(parameters), meaning)
        message.header.stamp = source.header.stamp
        message.header.frame_id = parameters.action_frame
        message.camera_frame = source.header.frame_id
        message.instruction = step.instruction
        for name in ('checkpoint', 'engine', 'dtype', 'device'):
            setattr(message, name, getattr(description, name))
        # Last, and the age that is published: the process may have been stopped at any line above.
        message.image_age = age_of(source, self._node.get_clock())
        late = why_late(message.image_age, message.inference_time, parameters.max_image_age)
        if late:
            return late
        self._sequence += 1
        message.sequence = self._sequence
        self._publish(ACTION, message)
        self._publish(REASONING, String(data=step.prediction.reasoning))
        if parameters.publish_prompt_image:
            preview = to_message(self._policy.preview(step.image))
            preview.header = source.header
            self._publish(PROMPT_IMAGE, preview)
        return ''

    def destroy(self) -> None:
        """Remove the publishers from the node."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def _publish(self, topic: Topic, message: Any) -> None:
        self._publishers[topic].publish(message)
