"""Drivers of a camera, a pose, a status and others, each a process that can be killed or go wrong.

    python benchmarks/faults/devices.py KIND

SIGUSR1 makes a device go wrong, SIGUSR2 makes it well again; what that means stands with each.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
import signal
import sys
import time
from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped
import rclpy
from rclpy.action import ActionServer, GoalResponse
from rclpy.clock import Clock as SteadyClock
from rclpy.clock import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Bool

from trt_openvla_ros.nodes.robot.interfaces import load

_WAIT = 0.02  # [s] longest time until a signal counts
_JUMP = 10.0  # [s] by which the clock jumps
_FLOOD = (2160, 3840, 30.0)  # height, width [px], rate [Hz]


class Device(Node):
    """A node that is well or wrong."""

    def __init__(self, kind: str) -> None:
        """Be well."""
        super().__init__(f'driver_{kind}')
        self.wrong = False

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call a function again and again, whatever the time of ROS does."""
        self.create_timer(seconds, callback, clock=SteadyClock(clock_type=ClockType.STEADY_TIME))


class Camera(Device):
    """Publishes what the simulated camera sees, with its own stamp. Wrong: its first picture."""

    def __init__(self) -> None:
        """Begin."""
        super().__init__('camera')
        self._newest: Image | None = None
        self._images = self.create_publisher(Image, 'driver/image', qos_profile_sensor_data)
        self.create_subscription(Image, 'camera/image_raw', self._take, qos_profile_sensor_data)

    def _take(self, message: Image) -> None:
        if not self.wrong or self._newest is None:
            self._newest = message
        self._newest.header.stamp = self.get_clock().now().to_msg()
        self._images.publish(self._newest)


class Pose(Device):
    """Publishes the hand's pose, with its own stamp. Wrong: an old pose, with a new stamp."""

    restamps = True

    def __init__(self) -> None:
        """Begin."""
        super().__init__('pose')
        self._newest: PoseStamped | None = None
        self._poses = self.create_publisher(PoseStamped, 'driver/pose', 10)
        self.create_subscription(PoseStamped, 'hand/pose', self._take, 10)

    def _take(self, message: PoseStamped) -> None:
        if not self.wrong or self._newest is None:
            self._newest = message
        if self.restamps or not self.wrong:
            self._newest.header.stamp = self.get_clock().now().to_msg()
        self._poses.publish(self._newest)


class StuckPose(Pose):
    """As Pose. Wrong: the same message again and again, with its old stamp."""

    restamps = False


class Status(Device):
    """Passes Servo's status on. Wrong: Servo says that it halts for a collision."""

    def __init__(self) -> None:
        """Begin."""
        super().__init__('status')
        self._kind = load('moveit_msgs.msg.ServoStatus', 'the status of Servo')
        self._statuses = self.create_publisher(self._kind, 'driver/status', 10)
        self.create_subscription(self._kind, '/servo_node/status', self._take, 10)

    def _take(self, message: Any) -> None:
        if self.wrong:
            message = self._kind(code=self._kind.HALT_FOR_COLLISION, message='made up')
        self._statuses.publish(message)


class Time(Device):
    """Publishes /clock at 100 Hz. Wrong: it jumped back, or on, by 10 s."""

    jump = -_JUMP

    def __init__(self) -> None:
        """Begin at the machine's time."""
        super().__init__('clock')
        self._clocks = self.create_publisher(Clock, '/clock', 10)
        self.every(0.01, self._tick)

    def _tick(self) -> None:
        seconds, nanoseconds = divmod(
            time.time_ns() + round(1e9 * self.jump * self.wrong), 1_000_000_000
        )
        message = Clock()
        message.clock.sec, message.clock.nanosec = seconds, nanoseconds
        self._clocks.publish(message)


class TimeOn(Time):
    """As Time; it jumps forward."""

    jump = _JUMP


class Deadman(Device):
    """A person who holds the switch. Wrong: it is released."""

    def __init__(self) -> None:
        """Hold."""
        super().__init__('deadman')
        self._switch = self.create_publisher(Bool, 'robot/deadman', 1)
        self.every(0.05, lambda: self._switch.publish(Bool(data=not self.wrong)))


class Flood(Device):
    """Publishes images of 4K at 30 Hz beside the camera, at `flood/image`, once it is wrong."""

    def __init__(self) -> None:
        """Do nothing yet."""
        super().__init__('flood')
        height, width, rate = _FLOOD
        self._image = Image(height=height, width=width, encoding='rgb8', step=3 * width)
        self._image.data = bytes(3 * height * width)
        self._images = self.create_publisher(Image, 'flood/image', qos_profile_sensor_data)
        self.every(1 / rate, self._publish)

    def _publish(self) -> None:
        if self.wrong:
            self._image.header.stamp = self.get_clock().now().to_msg()
            self._images.publish(self._image)


class Sink(Device):
    """Takes the images of the flood, and prints how many came in each second that had some."""

    def __init__(self) -> None:
        """Begin."""
        super().__init__('sink')
        self._count = 0
        self.create_subscription(Image, 'flood/image', self._take, qos_profile_sensor_data)
        self.every(1.0, self._tell)

    def _take(self, _: Image) -> None:
        self._count += 1

    def _tell(self) -> None:
        if self._count:
            print(f'{self._count} of 30 images in one second', flush=True)
        self._count = 0


class Rival(Device):
    """Commands the controller too, once it is wrong; it prints when its publisher was made [s]."""

    def __init__(self) -> None:
        """Do nothing yet."""
        super().__init__('rival')
        self._commands: Publisher | None = None
        self.every(0.02, self._command)

    def _command(self) -> None:
        if self.wrong and self._commands is None:
            topic = '/servo_node/delta_twist_cmds'
            self._commands = self.create_publisher(TwistStamped, topic, 1)
            print(f'{time.monotonic():.6f}', flush=True)
        elif not self.wrong and self._commands is not None:
            self.destroy_publisher(self._commands)
            self._commands = None
        if self._commands is not None:
            # Zero, from a node that means no harm.
            message = TwistStamped()
            message.header.stamp = self.get_clock().now().to_msg()
            message.header.frame_id = 'base_link'
            self._commands.publish(message)


class Gripper(Device):
    """A gripper whose action takes every goal and never answers."""

    def __init__(self) -> None:
        """Wait for goals, which are then forgotten."""
        super().__init__('gripper')
        kind = load('control_msgs.action.GripperCommand', 'a gripper')
        self._server = ActionServer(
            self,
            kind,
            '/silent_gripper/gripper_cmd',
            execute_callback=lambda handle: kind.Result(),
            handle_accepted_callback=lambda handle: None,
            goal_callback=self._judge,
        )

    def _judge(self, goal: Any) -> Any:
        # Not even the answer that the goal was accepted: the thread of the server is stuck.
        while rclpy.ok():
            time.sleep(0.1)
        return GoalResponse.REJECT


DEVICES: dict[str, type[Device]] = {
    'camera': Camera,
    'pose': Pose,
    'stuck_pose': StuckPose,
    'status': Status,
    'clock': Time,
    'clock_on': TimeOn,
    'deadman': Deadman,
    'flood': Flood,
    'sink': Sink,
    'rival': Rival,
    'gripper': Gripper,
}


def main() -> None:
    """Run one device until it is killed."""
    kind = sys.argv[1]
    state = {'wrong': False}
    for number, wrong in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
        signal.signal(number, lambda *_, wrong=wrong: state.update(wrong=wrong))
    rclpy.init()
    device, executor = DEVICES[kind](), SingleThreadedExecutor()
    executor.add_node(device)
    with suppress(ExternalShutdownException, KeyboardInterrupt):
        while rclpy.ok():
            device.wrong = state['wrong']
            executor.spin_once(timeout_sec=_WAIT)


if __name__ == '__main__':
    main()
