"""Run one node as a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import ctypes
import sys
from typing import TypeVar
from weakref import ref

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.nodes.log import package_log
from trt_openvla_ros.process import wake_by

T = TypeVar('T', bound=Node)

# glibc's numbers of what mallopt sets, and values: the largest threshold that it takes, which an
# image of 4K fits into, and a few such images [bytes].
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 128 << 20), (-3, 32 << 20)


def keep_freed_memory() -> None:
    """Let malloc keep the memory of images for the next ones.

    Otherwise glibc gives it back at once, and the kernel zeroes thousands of pages for each image,
    several times on its way. That took half of the overhead of images of 1920 x 1080.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # not every C library has it
    if mallopt is not None:
        for name, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(name, value)


def forget_destroyed(node: Node) -> None:
    """Let a node forget what is destroyed of it from now on.

    rclpy's callback groups keep a dead reference of each subscription, publisher, timer and client
    (issue 1356 of ros2/rclpy). So each life cycle of a node would take 2 kB for ever.
    """
    group = node.default_callback_group
    group.add_entity = lambda entity: group.entities.add(ref(entity, group.entities.discard))


@contextmanager
def joined(make_node: Callable[[], T]) -> Iterator[T]:
    """Make the only node of a process, and let it leave the graph at the end.

    A wrong argument or parameter ends the process with its message.
    """
    try:
        # rclpy's own handlers take the context from a node in the middle of its work.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # such as a parameter file that is missing
        sys.exit(f'ROS cannot use the arguments: {error}')
    node = None
    try:
        node = make_node()
        forget_destroyed(node)
        with package_log(node):
            yield node
    except (ParameterException, PolicyError) as error:
        sys.exit(str(error))
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def run(make_node: Callable[[], Node]) -> None:
    """Make a node and spin it until it is interrupted; a lifecycle node may start itself.

    Further nodes of its process are its attribute `companions`.

    An error while the node is made, such as a wrong parameter, ends the process with its message.

    Raises:
        KeyboardInterrupt: The process was told to stop; the node has left the graph.
    """
    keep_freed_memory()
    with joined(make_node) as node:
        autostart = isinstance(node, LifecycleNode) and node.get_parameter('autostart').value
        if autostart and node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            node.trigger_activate()
        executor = SingleThreadedExecutor()
        for one in (node, *getattr(node, 'companions', ())):
            executor.add_node(one)
        wake_by(executor.wake)
        executor.spin()
