"""Plays a bag as `ros2 bag play --clock --delay` does, which has no wheels."""

from contextlib import contextmanager
from pathlib import Path
import time

from builtin_interfaces.msg import Time as Stamp
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String

KINDS = {'sensor_msgs/msg/Image': Image, 'std_msgs/msg/String': String}
TYPES = get_typestore(Stores.ROS2_JAZZY)
_TICK = 0.025  # [s] between two messages on /clock; the default of --clock


def record(path, messages):
    """Write a bag.

    Args:
        path: Directory that the bag gets.
        messages: (topic, seconds since 1970, pixels or text) of each, in this order of time.
    """
    header, stamp = TYPES.types['std_msgs/msg/Header'], TYPES.types['builtin_interfaces/msg/Time']
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for topic, seconds, content in messages:
            nanoseconds = round(1e9 * seconds)
            if isinstance(content, str):
                message = TYPES.types['std_msgs/msg/String'](data=content)
            else:
                height, width, _ = content.shape
                message = TYPES.types['sensor_msgs/msg/Image'](
                    header(stamp(*divmod(nanoseconds, 10**9)), 'camera'),
                    height, width, 'rgb8', 0, 3 * width, content.ravel(),
                )  # fmt: skip
            if topic not in connections:
                kind = message.__msgtype__
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            data = TYPES.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], nanoseconds, data)
    return path


class BagPlayer:
    """Publishes the messages of a bag at the pace at which they were recorded."""

    def __init__(self, context, path: Path, clock: bool):
        """Open the bag and announce its topics; `clock` adds /clock, in the time of the bag."""
        self.node = Node('rosbag2_player', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._clock = self.node.create_publisher(Clock, '/clock', 10) if clock else None
        with AnyReader([path]) as reader:
            self._messages = [(when, c.topic, data) for c, when, data in reader.messages()]
            self.publishers = {
                c.topic: self.node.create_publisher(KINDS[c.msgtype], c.topic, 10)
                for c in reader.connections
            }

    @classmethod
    @contextmanager
    def open(cls, *arguments):
        """Close the player behind the body of a with statement."""
        player = cls(*arguments)
        try:
            yield player
        finally:
            player._executor.shutdown()
            player.node.destroy_node()

    def play(self, delay, spin):
        """Publish everything.

        Args:
            delay: Time before the first message [s], which lets subscribers find the topics.
            spin: Function that lets the test go on for at most so long [s].
        """
        first = self._messages[0][0]
        begin = time.monotonic() + delay
        self._wait(begin, first, begin, spin)
        for when, topic, data in self._messages:
            self._wait(begin + (when - first) * 1e-9, first, begin, spin)
            self._tell(when)
            self.publishers[topic].publish(data)

    def _wait(self, until, first, begin, spin):
        while (now := time.monotonic()) < until:
            if now >= begin:
                self._tell(first + round(1e9 * (now - begin)))
            spin(min(_TICK, until - now))

    def _tell(self, when):
        if self._clock is not None:
            sec, nanosec = divmod(when, 10**9)
            self._clock.publish(Clock(clock=Stamp(sec=sec, nanosec=nanosec)))
