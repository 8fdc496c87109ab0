"""What the policy node hears: images, instructions, and why there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import (
    qos_check_compatible,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from trt_openvla_ros.nodes.conversions import stamp_of
from trt_openvla_ros.nodes.diagnostics import Statistics
from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.nodes.qos import LATCHED, overridable
from trt_openvla_ros.nodes.stamps import Cadence
from trt_openvla_ros.nodes.topics import IMAGE, INSTRUCTION, PROMPT_IMAGE

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_COMPRESSED = '/compressed'  # image_transport's name for the topic beside the raw one
_QUIET = 5  # reports without an image until the log says so: cameras take a while to start
_TYPES = {'sensor_msgs/msg/Image': 'raw', 'sensor_msgs/msg/CompressedImage': 'compressed'}


class Inputs:
    """The subscriptions of a policy, from configure to cleanup."""

    def __init__(
        self,
        node: LifecycleNode,
        parameters: PolicyParameters,
        statistics: Statistics,
        on_image: Callable[[Image | CompressedImage], None],
        on_instruction: Callable[[String], None],
    ) -> None:
        """Subscribe.

        Args:
            node: Node that subscribes.
            parameters: Parameters of the node.
            statistics: Counters, of the frames that came and of those that did not.
            on_image: Function that takes each image.
            on_instruction: Function that takes each instruction.

        Raises:
            ConfigError: A QoS override cannot be used.
        """
        self._node, self._statistics = node, statistics
        self._on_image, self._on_instruction = on_image, on_instruction
        self._cadence = Cadence()
        self._came = self._instructed = False
        self._silent_for, self._logged = 0, ''
        self._subscriptions: list[Subscription] = []
        # image_transport too puts the compressed topic beside the remapped raw one.
        kind, topic = IMAGE.type, node.resolve_topic_name(IMAGE.name)
        if parameters.image_transport == 'compressed':
            kind, topic = CompressedImage, topic + _COMPRESSED
        qos = QoSProfile(
            depth=parameters.image_depth,
            reliability=ReliabilityPolicy[parameters.image_reliability.upper()],
        )
        self._images = self._subscribe(kind, topic, self._take_image, qos)
        said = INSTRUCTION.type, INSTRUCTION.name
        self._subscribe(*said, self._take_instruction, INSTRUCTION.qos)
        if parameters.latched_instruction:
            # A second subscription, because a transient_local one alone would be deaf to senders
            # that latch nothing, and so to their stop.
            # Without rclpy's warning about each sender that the other subscription hears.
            quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
            self._subscribe(*said, self._take_latched, LATCHED, 'latched', quiet)

    @property
    def camera_rate(self) -> str:
        """The rate of the camera by its stamps [Hz]; '' if it is not known."""
        period = self._cadence.period
        return f'{1 / period:.2f}' if period else ''

    def forget_latched(self) -> None:
        """Hear no latched instruction any more."""
        self._instructed = True

    def silence(self, wanted: bool) -> str:
        """Say that no image has come since the last call, and why; '' if one came.

        Nothing is said while images are not wanted. After _QUIET calls the log says so too.
        """
        came, self._came = self._came, False
        if came or not wanted:
            self._silent_for, self._logged = 0, ''
            return ''
        silence = f'no images on {self._images.topic_name}: {self._why_silent()}'
        self._silent_for += 1
        if self._silent_for >= _QUIET and silence != self._logged:
            self._logged = silence
            self._node.get_logger().warning(silence)
        return silence

    def destroy(self) -> None:
        """Remove the subscriptions from the node."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        qos: QoSProfile | int,
        entity: str | None = None,
        events: SubscriptionEventCallbacks | None = None,
    ) -> Subscription:
        with overridable(self._node, topic, qos, entity) as qos:
            made = self._node.create_subscription(
                kind, topic, callback, event_callbacks=events, **qos
            )
        self._subscriptions.append(made)
        return made

    def _take_image(self, message: Image | CompressedImage) -> None:
        self._came = True
        self._statistics.count('images_received')
        self._statistics.count('images_lost', self._cadence.see(stamp_of(message)))
        self._on_image(message)

    def _take_instruction(self, message: String) -> None:
        self._instructed = True
        self._on_instruction(message)

    def _take_latched(self, message: String) -> None:
        # Only what was said before the node listened; the other subscription hears what is new.
        if not self._instructed:
            self._take_instruction(message)

    def _why_silent(self) -> str:
        node, topic = self._node, self._images.topic_name
        publishers = node.get_publishers_info_by_topic(topic)
        mine = _type_name(self._images.msg_type)
        fitting = [publisher for publisher in publishers if publisher.topic_type == mine]
        if publishers and not fitting:
            kind = publishers[0].topic_type
            way = (
                f'remap image to {topic.removesuffix(_COMPRESSED)} and set image_transport to '
                f'{_TYPES[kind]}'
                if kind in _TYPES
                else 'remap image to another topic'
            )
            return f'{kind} is published there, and {mine} is needed; {way}'
        if not fitting:
            return self._why_unpublished(topic)
        for publisher in fitting:
            verdict, reason = qos_check_compatible(publisher.qos_profile, self._images.qos_profile)
            if verdict != QoSCompatibility.ERROR:
                break
        else:
            return f'its QoS does not fit ({reason.strip()}); set image_reliability to best_effort'
        return (
            f'{publisher.node_name} announces them, but none arrives; docs/node.md has the '
            'settings of DDS and kernel under "Lost images"'
        )

    def _why_unpublished(self, topic: str) -> str:
        raw = topic.removesuffix(_COMPRESSED)
        other, transport = (raw, 'raw') if raw != topic else (topic + _COMPRESSED, 'compressed')
        if self._node.count_publishers(other):
            return f'only {other} is published; set image_transport to {transport}'
        own = self._node.resolve_topic_name(PROMPT_IMAGE.name)
        found = sorted(
            name
            for name, kinds in self._node.get_topic_names_and_types()
            if set(kinds) & _TYPES.keys() and name != own and self._node.count_publishers(name)
        )
        if not found:
            return 'nobody publishes them; is the camera running, in this ROS_DOMAIN_ID?'
        return f'nobody publishes them; there are images on {", ".join(found)} (remap image)'


def _type_name(kind: type) -> str:
    return f'sensor_msgs/msg/{kind.__name__}'
