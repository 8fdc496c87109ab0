"""Quality of service: what several nodes have, and parameters `qos_overrides.*` as in rclcpp."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    InvalidQoSProfileException,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from trt_openvla_ros.errors import ConfigError

# The last message reaches those who come later, too.
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Best effort hears every publisher, reliable or not, and nobody wants an old message.
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


@contextmanager
def overridable(
    node: Node, topic: str, qos: QoSProfile | int, entity: str | None = None
) -> Iterator[dict[str, Any]]:
    """Give the arguments of rclpy for making a publisher or a subscription in the body.

    rclpy writes an override into the profile, so they have a copy: others use the profile too.

    Args:
        node: Node that makes it.
        topic: Topic before remapping.
        qos: Quality of service without overrides, or the depth of a reliable one.
        entity: Name that tells a second one on the topic from the first.

    Raises:
        ConfigError: A parameter cannot be used.
    """
    try:
        options = QoSOverridingOptions.with_default_policies(callback=_judge, entity_id=entity)
        yield {'qos_profile': copy(qos), 'qos_overriding_options': options}
    # What rclpy raises for an unknown policy, a wrong type and an impossible depth.
    except (
        ParameterException,
        InvalidQosOverridesError,
        InvalidQoSProfileException,
        RuntimeError,
        AssertionError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:
        raise ConfigError(
            f'a parameter of qos_overrides.{node.resolve_topic_name(topic)} cannot be used: '
            f'{error}'
        ) from error


def warn_of_unused(node: Node) -> None:
    """Log which overrides were given that no publisher or subscription has taken."""
    unused = [
        name
        for name in node._parameter_overrides
        if name.startswith('qos_overrides.') and not node.has_parameter(name)
    ]
    if unused:
        node.get_logger().warning(
            f'unused: {", ".join(unused)}; names have the topic after remapping, such as '
            'qos_overrides./camera/image_raw.subscription.reliability, and one of the policies '
            'history, depth and reliability'
        )


def _judge(qos: QoSProfile) -> SetParametersResult:
    # Every middleware has its own idea of what these mean.
    successful = qos.history == HistoryPolicy.KEEP_ALL or qos.depth >= 1
    return SetParametersResult(
        successful=successful, reason='' if successful else f'depth is {qos.depth}, not 1 or more'
    )
