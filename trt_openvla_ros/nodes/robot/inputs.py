"""What the bridge hears besides poses: actions, the deadman, and the state of the robot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool

from trt_openvla_ros.msg import ActionMeaning, VlaAction
from trt_openvla_ros.nodes.conversions import age_of
from trt_openvla_ros.nodes.qos import LATCHED, overridable
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.nodes.robot.topics import DEADMAN, JOINTS, JOY, READY
from trt_openvla_ros.robot.exchange import IncomingAction
from trt_openvla_ros.robot.meaning import Meaning
from trt_openvla_ros.settings import list_settings

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_WIDTH = 7  # numbers of a step
_MEANING = tuple(list_settings(Meaning))


def to_incoming(message: VlaAction, now: int) -> IncomingAction:
    """Read an action.

    Args:
        message: The message.
        now: Time by the clock of the node [ns].

    Returns:
        The action. A chunk that is no list of steps becomes one step that is not finite, which the
        gate refuses and counts.
    """
    steps = np.asarray(message.chunk if len(message.chunk) else message.action, np.float64)
    if steps.size % _WIDTH:
        steps = np.full(_WIDTH, np.nan)
    stamp = message.header.stamp
    image_age = (now - 10**9 * stamp.sec - stamp.nanosec) * 1e-9
    return IncomingAction(
        steps=steps.reshape(-1, _WIDTH),
        meaning=to_meaning(message.meaning),
        sequence=message.sequence,
        frame=message.header.frame_id,
        image_age=image_age,
        age=image_age - message.image_age,
        out_of_range=message.out_of_range,
    )


def to_meaning(message: ActionMeaning) -> Meaning:
    """Read what the numbers of an action are."""
    return Meaning(**{name: getattr(message, name) for name in _MEANING})


class Switch:
    """The deadman's switch, from a topic or from a button of a joystick."""

    def __init__(
        self, node: Node, parameters: RobotParameters, heard: Callable[[bool], None]
    ) -> None:
        """Subscribe to what the parameter `deadman` names, or to nothing."""
        self._node, self._heard = node, heard
        self._button = parameters.deadman_button
        self._subscription: Subscription | None = None
        if parameters.deadman:
            topic, take = {
                'topic': (DEADMAN, self._take),
                'joy': (JOY, self._take_joy),
            }[parameters.deadman]
            self._subscription = node.create_subscription(topic.type, topic.name, take, topic.qos)

    def destroy(self) -> None:
        """Remove the subscription from the node."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def _take(self, message: Bool) -> None:
        self._heard(message.data)

    def _take_joy(self, message: Joy) -> None:
        if self._button >= len(message.buttons):
            self._node.get_logger().error(
                f'deadman_button is {self._button}, but {self._subscription.topic_name} has '
                f'{len(message.buttons)} buttons, counted from 0; nothing moves',
                throttle_duration_sec=5.0,
            )
        self._heard(any(message.buttons[self._button : self._button + 1]))


class RobotState:
    """What the robot says of itself besides its pose: joint states, and whether it is ready."""

    def __init__(self, node: Node, parameters: RobotParameters, now: float) -> None:
        """Subscribe to the topics that the parameters name."""
        self._node = node
        self._limit = parameters.joint_states_timeout
        self._joints: Subscription | None = None
        self._ready: list[Subscription] = []
        self._joints_at, self._now = now, now
        self._age = 0.0
        self._is_ready = False
        if parameters.joint_states_topic:
            self._joints = node.create_subscription(
                JOINTS.type, parameters.joint_states_topic, self._take_joints, JOINTS.qos
            )
        if parameters.ready_topic:
            # Two, because a transient_local one alone is deaf to publishers that latch nothing.
            for qos in (READY.qos, LATCHED):
                self._ready.append(
                    node.create_subscription(
                        READY.type,
                        parameters.ready_topic,
                        self._take_ready,
                        qos,
                        # Without rclpy's warning about a sender that only the other one hears.
                        event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
                    )
                )

    def check(self, now: float) -> str:
        """Say why the robot cannot move; '' if it can."""
        self._now = now
        if self._joints is not None and now - self._joints_at > self._limit:
            return (
                f'no joint states on {self._joints.topic_name} for {now - self._joints_at:.1f} s'
            )
        if self._joints is not None and self._age > self._limit:
            return f'joint states on {self._joints.topic_name} are {self._age:.1f} s old'
        if self._ready and not self._is_ready:
            return f'{self._ready[0].topic_name} does not say that the robot is ready'
        return ''

    def destroy(self) -> None:
        """Remove the subscriptions from the node."""
        for subscription in (self._joints, *self._ready):
            if subscription is not None:
                self._node.destroy_subscription(subscription)

    def _take_joints(self, message: JointState) -> None:
        # Checked at every tick, so the time of the last tick is near enough.
        self._joints_at, self._age = self._now, age_of(message, self._node.get_clock())

    def _take_ready(self, message: Bool) -> None:
        self._is_ready = message.data


def subscribe(node: Node, topic: Any, callback: Callable[[Any], None]) -> Subscription:
    """Subscribe to a topic, with `qos_overrides` as parameters.

    Raises:
        ConfigError: An override cannot be used.
    """
    with overridable(node, topic.name, topic.qos) as qos:
        return node.create_subscription(topic.type, topic.name, callback, **qos)
