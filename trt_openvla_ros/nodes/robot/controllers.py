"""What all controllers have in common, and those that take poses or nothing."""

from __future__ import annotations

from builtin_interfaces.msg import Time as Stamp
from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import Header

from trt_openvla_ros.nodes.robot.messages import to_pose
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.exchange import Command, MOVING

_DELIVERY = 0.2  # [s] longest wait, at the end, until the last commands have arrived
_LOG = 1.0  # [s] between two lines of the log


class Controller:
    """Takes commands at a fixed rate; this one only logs where they lead.

    Attributes:
        heard: Whether the controller was heard since the last check; one without a status always
            is.
    """

    heard = True

    def __init__(self, node: Node, parameters: RobotParameters) -> None:
        """Be of a node."""
        self._node = node

    @property
    def receiver(self) -> str:
        """Where commands go, in words."""
        return 'the log alone'

    def begin(self, now: float) -> None:
        """Prepare the controller, when the robot is enabled."""

    def forget(self) -> None:
        """Forget what the controller said, because it is about to be prepared anew."""

    def check(self, now: float) -> str:
        """Say why the controller cannot be used; '' if it can. This never waits."""
        return ''

    def rivals(self) -> list[str]:
        """Name other nodes that command the same controller."""
        return []

    def send(self, command: Command, stamp: Stamp) -> None:
        """Take one command, and the time at which it was judged."""
        if command.state == MOVING and command.target is not None:
            place = ', '.join(f'{number:.3f}' for number in command.target.position)
            line = f'target at {place} m'
            self._node.get_logger().info(line, throttle_duration_sec=_LOG)

    def rest(self, pose: Pose | None) -> None:
        """Take the last command: stand still, at this pose; nothing comes after it."""

    def destroy(self) -> None:
        """Remove everything from the node."""


class Stream(Controller):
    """A controller that takes messages on a topic.

    It gets them from the moment that the robot is enabled until it is disabled, and then nothing:
    somebody else may take over.
    """

    kind: type = PoseStamped

    def __init__(self, node: Node, parameters: RobotParameters, topic: str) -> None:
        """Make the publisher."""
        super().__init__(node, parameters)
        self._frame, self._last = parameters.base_frame, parameters.final_commands
        self._live = False
        # One message deep: an older command is never worth sending.
        self._commands = node.create_publisher(self.kind, topic, 1)

    @property
    def receiver(self) -> str:
        """The topic of the commands."""
        return self._commands.topic_name

    def check(self, now: float) -> str:
        """Say that nobody listens."""
        if self._commands.get_subscription_count():
            return ''
        return f'nobody listens to {self.receiver}; start and activate the controller'

    def rivals(self) -> list[str]:
        """Name the other nodes that publish on the topic."""
        if self._node.count_publishers(self.receiver) < 2:
            return []
        names = [
            f'{info.node_namespace.rstrip("/")}/{info.node_name}'
            for info in self._node.get_publishers_info_by_topic(self.receiver)
        ]
        names.remove(self._node.get_fully_qualified_name())
        return sorted(names)

    def send(self, command: Command, stamp: Stamp) -> None:
        """Publish a command, if there is one.

        Its stamp is older than now if the process was held up meanwhile, and Servo then drops it.
        """
        if command.pose is not None:
            self._live = True
            self._publish(command, Header(stamp=stamp, frame_id=self._frame))

    def rest(self, pose: Pose | None) -> None:
        """Publish the last commands, each of which has a little time to arrive."""
        if not self._live:
            return
        self._live = False
        for _ in range(self._last):
            stamp = self._node.get_clock().now().to_msg()
            self._publish_rest(pose, Header(stamp=stamp, frame_id=self._frame))
            self._commands.wait_for_all_acked(Duration(seconds=_DELIVERY / self._last))

    def destroy(self) -> None:
        """Remove the publisher from the node."""
        self._node.destroy_publisher(self._commands)

    def _publish(self, command: Command, header: Header) -> None:
        self._publish_rest(command.pose, header)

    def _publish_rest(self, pose: Pose | None, header: Header) -> None:
        if pose is not None:
            self._commands.publish(to_pose(pose, header))


class CartesianPose(Stream):
    """A controller that drives to the newest pose and has no timeout, such as FZI's or CRISP's.

    The bridge is its timeout: the pose that it gets then stays the same.
    """

    def __init__(self, node: Node, parameters: RobotParameters) -> None:
        """Make the publisher of `target_topic`."""
        super().__init__(node, parameters, parameters.target_topic)
