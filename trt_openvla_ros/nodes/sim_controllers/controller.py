"""What every simulated controller is: a node of the name that the real one has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import time
from typing import Any, NamedTuple

from geometry_msgs.msg import PoseStamped
import numpy as np
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from trt_openvla_ros.nodes.sim_messages import BASE_FRAME
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.sim.arm import Arm

THROTTLE = 2.0  # [s] between two warnings of one kind
_KIND = 20  # characters that tell the kind of a warning


class Option(NamedTuple):
    """A parameter of a controller: its default, as the real one has it unless it says why.

    A number has a range, from low to high.
    """

    default: Any
    meaning: str
    low: float = 0.0
    high: float = 100.0

    @property
    def descriptor(self) -> ParameterDescriptor:
        """What rclpy checks; nan is in no range."""
        found = ParameterDescriptor(description=self.meaning)
        if isinstance(self.default, float):
            found.floating_point_range = [
                FloatingPointRange(from_value=self.low, to_value=self.high)
            ]
        return found


class Controller(Node):
    """A node of its own in the process of the simulation, with topics and parameters of its own.

    Attributes:
        NAME: Name of the node.
        OPTIONS: Its parameters, which may be set while it runs.
    """

    NAME = ''
    OPTIONS: Mapping[str, Option] = {}

    def __init__(self, owner: Node, clock: Callable[[], int]) -> None:
        """Make the node.

        Args:
            owner: Node of the simulation.
            clock: Gives the time now [ns], which stamps are compared with.
        """
        # `-r __node:=sim`, which launch files give, names every node of a process; a rule of the
        # node itself goes first.
        super().__init__(
            self.NAME,
            context=owner.context,
            namespace=owner.get_namespace(),
            cli_args=['--ros-args', '-r', f'__node:={self.NAME}'],
        )
        self.clock = clock
        self._warned: dict[str, float] = {}
        for name, option in self.OPTIONS.items():
            self.declare_parameter(name, option.default, option.descriptor)

    def option(self, name: str) -> Any:
        """Give the present value of a parameter."""
        return self.get_parameter(name).value

    def warn(self, text: str) -> None:
        """Log a warning; one that begins alike at most every THROTTLE seconds."""
        # rclpy's throttle is one for all that a line of the source logs.
        kind, now = text[:_KIND], time.monotonic()
        if now - self._warned.get(kind, -THROTTLE) >= THROTTLE:
            self._warned[kind] = now
            self.get_logger().warning(text)

    def header(self) -> Header:
        """Make the header of what is published now, in the base frame."""
        return Header(stamp=Time(nanoseconds=self.clock()).to_msg(), frame_id=BASE_FRAME)

    def restart(self, arm: Arm) -> None:
        """Begin anew at the arm's pose, as when it is activated."""

    def update(self, arm: Arm, seconds: float) -> Pose | None:
        """Give the pose to command after so many seconds; None leaves the arm where it is."""
        raise NotImplementedError


def numbers_of(message: PoseStamped) -> tuple[np.ndarray, np.ndarray]:
    """Give [3] m and [4] x, y, z, w of a message, whatever they are."""
    place, turn = message.pose.position, message.pose.orientation
    return np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w])


def rotation_of(quaternion: np.ndarray) -> Rotation | None:
    """Normalise a quaternion [4] x, y, z, w; None if nothing can be made of it."""
    length = np.linalg.norm(quaternion)
    if not np.isfinite(length) or length < 1e-9:
        return None
    return Rotation.from_quat(quaternion / length)
