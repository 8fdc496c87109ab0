"""TF, which tf2_ros hears; there are no wheels of it, so it is optional."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.nodes.robot.interfaces import load


class Transforms:
    """What a node has heard of TF: one listener and one buffer, however many ask."""

    def __init__(self, node: Node, wanted_by: str) -> None:
        """Listen.

        Args:
            node: Node that listens.
            wanted_by: Parameter and value that need TF, for the message.

        Raises:
            ConfigError: tf2_ros is not installed.
        """
        buffer = load('tf2_ros.Buffer', wanted_by)
        listener = load('tf2_ros.TransformListener', wanted_by)
        self._problem = load('tf2_ros.TransformException', wanted_by)
        self._buffer = buffer()
        # On this node and without a thread of its own, so look_up must not wait.
        self._listener: Any = listener(self._buffer, node, spin_thread=False)

    def look_up(self, target: str, source: str, time: Time | None = None) -> Any:
        """Give the TransformStamped from the source frame to the target frame, without waiting.

        Args:
            target: Frame in which places will be.
            source: Frame in which places are.
            time: Time of the transform; None is the newest.

        Raises:
            InputError: It is not known.
        """
        try:
            return self._buffer.lookup_transform(target, source, time or Time())
        except self._problem as error:
            raise InputError(f'no transform: {error}') from error

    def destroy(self) -> None:
        """Remove the subscriptions from the node."""
        self._listener.unregister()
