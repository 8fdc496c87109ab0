"""The topic on which somebody says that a goal is done."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidTopicNameException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from trt_openvla_ros.errors import InputError

_TYPE = 'std_msgs/msg/Bool'
# A reliable subscription hears no best-effort publisher, and one may come at any time. What both
# subscriptions hear comes twice, which changes nothing: the first true value ends the goal.
_BOTH = tuple(
    QoSProfile(depth=10, reliability=reliability)
    for reliability in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
)


class SuccessTopic:
    """Listens to a topic of std_msgs/Bool until it is destroyed."""

    def __init__(self, node: Node, topic: str, hear: Callable[[Bool], None]) -> None:
        """Listen to a topic; names are those before remapping.

        Raises:
            InputError: The name is no topic's, or the topic carries messages of another type.
        """
        self._node = node
        refused = f'success_topic {topic!r} cannot be listened to: '
        try:
            self._name = node.resolve_topic_name(topic)
            types = self._types()
        except (InvalidTopicNameException, RuntimeError, ValueError) as error:
            # The first line, without the place in rcl's code.
            words = str(error).partition('\n')[0].partition(', at /')[0].rstrip(':')
            raise InputError(refused + words) from error
        if types and _TYPE not in types:
            raise InputError(f'success_topic {topic!r} {_carries(types)}')
        # Without the warning that one of the two does not fit a publisher.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        try:
            self._subscriptions = [
                node.create_subscription(Bool, topic, hear, qos, event_callbacks=quiet)
                for qos in _BOTH
            ]
        except rclpy_implementation.RCLError as error:
            raise InputError(
                f'{refused}the task node itself has it for messages of another type'
            ) from error

    def why_silent(self) -> str:
        """Explain why nothing comes; '' if somebody publishes there."""
        types = self._types()
        if not types:
            return f'nobody publishes {self._name}'
        return '' if _TYPE in types else f'{self._name} {_carries(types)}'

    def destroy(self) -> None:
        """Listen no more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _types(self) -> set[str]:
        return {info.topic_type for info in self._node.get_publishers_info_by_topic(self._name)}


def _carries(types: set[str]) -> str:
    return f'carries {", ".join(sorted(types))}, not {_TYPE}'
