"""An observer of the loop, who takes no part in it: it records, and asks services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.srv import ChangeState
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from faults.recording import Action, Command, Place, Recording, Said
from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.srv import Reset

PATIENCE = 60.0  # [s] for what must happen; a machine with other work takes long to start nodes


class Observer:
    """Records all that a loop says, in a thread of its own.

    Attributes:
        seen: The recording.
        statuses: Newest message of each status in /diagnostics, by name.
        node: Its node.
    """

    def __init__(self, domain: int, command: tuple[type, str]) -> None:
        """Listen.

        Args:
            domain: ROS domain.
            command: Type and topic of the commands to the controller.
        """
        self.context = rclpy.Context()
        # A signal must end what was started; rclpy's own handlers would take the context first.
        rclpy.init(
            context=self.context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = rclpy.create_node('observer', context=self.context)
        self.seen, self.statuses = Recording(), {}
        self._changed = threading.Condition(threading.RLock())
        self._closing = threading.Event()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        seen = self.seen
        for kind, topic, take, qos in (
            (*command, self._keep(seen.commands, _command), 100),
            (VlaAction, 'policy/action', self._keep(seen.actions, _action), 10),
            (PoseStamped, 'driver/pose', self._keep(seen.poses, _place), 100),
            (PoseStamped, 'hand/pose', self._keep(seen.hands, _place), 100),
            (GateReport, 'robot/gate', self._keep(seen.reports, _said), latched),
            (Image, 'driver/image', self._take_image, qos_profile_sensor_data),
            (DiagnosticArray, '/diagnostics', self._take_diagnostics, 10),
        ):
            self.node.create_subscription(kind, topic, take, qos)
        client = self.node.create_client
        self._reset = client(Reset, 'sim/reset')
        self._enable, self._stop = client(SetBool, 'robot/enable'), client(Trigger, 'robot/stop')
        self._change = client(ChangeState, 'robot/change_state')
        self._said = self.node.create_publisher(String, 'instruction', 10)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    @property
    def state(self) -> str:
        """State that the robot node said last; '' before it said any."""
        return self.seen.reports[-1].state if self.seen.reports else ''

    def wait(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Wait until a condition is true, and give its value.

        Raises:
            TimeoutError: It is not within so many seconds.
        """
        deadline = time.monotonic() + patience
        with self._changed:
            while not (value := condition()):
                left = deadline - time.monotonic()
                if left <= 0:
                    reason = self.seen.reports[-1:] or 'nothing'
                    raise TimeoutError(f'no {what} within {patience:g} s; the gate says {reason}')
                self._changed.wait(min(left, 0.02))
            return value

    def watch(self, seconds: float) -> float:
        """Record for so long, and give the time at the end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._closing.wait(left)
        return time.monotonic()

    def enable(self, on: bool = True, patience: float = PATIENCE) -> str:
        """Ask for motion, or for its end, until the robot node grants it; give its last answer."""
        deadline = time.monotonic() + patience
        while True:
            asked = time.monotonic()
            answer = self.call(self._enable, SetBool.Request(data=on))
            if answer.success:
                if on:
                    self.seen.enabled.append(asked)
                return answer.message
            if on and 'disable' in answer.message:  # the pose that is held is far from the arm
                self.call(self._enable, SetBool.Request(data=False))
            if time.monotonic() > deadline:
                raise TimeoutError(f'not enabled within {patience:g} s: {answer.message}')
            self.watch(0.05)

    def stop(self) -> float:
        """Call ~/stop; give the time that the answer took [s]."""
        begun = time.monotonic()
        self.call(self._stop, Trigger.Request())
        return time.monotonic() - begun

    def reset(self, seed: int) -> str:
        """Set up the scene of a seed, where the hand is at its place; give the instruction."""
        return self.call(self._reset, Reset.Request(seed=seed)).instruction

    def change_state(self, transition: int) -> bool:
        """Take the robot node through a transition of its life cycle; tell whether it did."""
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(self._change, request).success

    def say(self, instruction: str) -> None:
        """Publish an instruction."""
        self._said.publish(String(data=instruction))

    def call(self, client: Any, request: Any) -> Any:
        """Ask a service; one that ended before it answered is asked again when it is back."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.wait(client.service_is_ready, f'service {client.srv_name}')
            future = client.call_async(request)
            with suppress(TimeoutError):
                self.wait(future.done, f'answer of {client.srv_name}', 10.0)
                return future.result()
            client.remove_pending_request(future)
        raise TimeoutError(f'{client.srv_name} does not answer')

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nothing be recorded meanwhile."""
        with self._changed:
            yield

    def close(self) -> None:
        """Leave."""
        self._closing.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def _keep(self, into: list, convert: Callable[[float, Any], Any]) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            now = time.monotonic()
            with self._changed:
                into.append(convert(now, message))
                self._changed.notify_all()

        return take

    def _take_image(self, message: Image) -> None:
        self.seen.images[_stamp(message)] = time.monotonic()

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        with self._changed:
            self.statuses.update({status.name: status for status in message.status})
            self._changed.notify_all()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            while not self._closing.is_set():
                self._executor.spin_once(timeout_sec=0.05)


def _stamp(message: Any) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def _pose(message: PoseStamped) -> tuple[float, ...]:
    place, turn = message.pose.position, message.pose.orientation
    return place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w


def _command(at: float, message: TwistStamped | PoseStamped) -> Command:
    if isinstance(message, PoseStamped):
        return Command(at, _stamp(message), _pose(message))
    one, other = message.twist.linear, message.twist.angular
    return Command(at, _stamp(message), (one.x, one.y, one.z, other.x, other.y, other.z))


def _action(at: float, message: VlaAction) -> Action:
    image = _stamp(message)
    return Action(at, image, image + message.image_age, message.sequence)


def _place(at: float, message: PoseStamped) -> Place:
    return Place(at, _stamp(message), _pose(message)[:3])


def _said(at: float, message: GateReport) -> Said:
    return Said(at, _stamp(message), message.state, message.reason)
