"""Run one node as a process."""

from __future__ import annotations

from collections.abc import Callable
import signal
import sys
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node

from trt_openvla_ros.errors import PolicyError


def run(make_node: Callable[[], Node]) -> None:
    """Make a node and spin it until it is interrupted; a lifecycle node may start itself.

    An error while the node is made, such as a wrong parameter, ends the process with its message.
    """
    signal.signal(signal.SIGINT, _interrupt_once)
    try:
        rclpy.init()
    except rclpy_implementation.RCLError as error:  # such as a parameter file that is missing
        sys.exit(str(error))
    node = None
    try:
        node = make_node()
        autostart = isinstance(node, LifecycleNode) and node.get_parameter('autostart').value
        if autostart and node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            node.trigger_activate()
        rclpy.spin(node)
    except (ParameterException, PolicyError) as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:
        # If the signal comes between two waits, Jazzy's rclpy raises RCLError instead of
        # ExternalShutdownException. While a message is made, pybind11 raises another error.
        if rclpy.ok() and signal.getsignal(signal.SIGINT) is _interrupt_once:
            raise
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def _interrupt_once(*_: Any) -> None:
    """Interrupt once, so nothing interrupts the cleanup.

    A launched node gets the Ctrl-C of a terminal twice: from the terminal and from launch.
    """
    signal.signal(signal.SIGINT, lambda *_: None)
    raise KeyboardInterrupt
