"""The bridge with all that it listens to and commands, from configure to cleanup."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
import time

from builtin_interfaces.msg import Time as Stamp
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import String

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.robot.controllers import CartesianPose, Controller
from trt_openvla_ros.nodes.robot.grippers import Gripper, GRIPPERS
from trt_openvla_ros.nodes.robot.inputs import RobotState, subscribe, Switch, to_incoming
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.nodes.robot.poses import POSES
from trt_openvla_ros.nodes.robot.reports import gate_status, Latency, part_status
from trt_openvla_ros.nodes.robot.servo import ServoPose, ServoTwist
from trt_openvla_ros.nodes.robot.topics import SAID, STEP
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.bridge import Bridge
from trt_openvla_ros.robot.exchange import Command, DISABLED, MOVING, Report, STOPPED

CONTROLLERS: dict[str, type[Controller]] = {
    'pose_log': Controller,
    'servo_twist': ServoTwist,
    'servo_pose': ServoPose,
    'cartesian_pose': CartesianPose,
}
_GRAPH = 0.5  # [s] between two looks for others who command the controller


class Drive:
    """Inputs, bridge, controller and gripper of one robot. All times are of the steady clock.

    Attributes:
        active: Whether the node is active; nothing is heard or commanded otherwise.
    """

    def __init__(
        self,
        node: Node,
        parameters: RobotParameters,
        on_report: Callable[[Report], None],
        on_target: Callable[[Pose], None],
    ) -> None:
        """Subscribe, and make the publishers of the commands.

        Args:
            node: Node of all of them.
            parameters: Its parameters.
            on_report: Function that takes the gate's report at each action and change of state.
            on_target: Function that takes each new target.

        Raises:
            ConfigError: Parameters contradict each other, or a package is not installed.
        """
        parameters.check()
        self._node, self._parameters = node, parameters
        self._on_report, self._on_target = on_report, on_target
        self.active = False
        self._bridge = Bridge(parameters.bridge)
        self._parts = ExitStack()
        with ExitStack() as made:
            live = not parameters.dry_run
            self._controller = CONTROLLERS[parameters.controller if live else 'pose_log'](
                node, parameters
            )
            made.callback(self._controller.destroy)
            self._gripper: Gripper = GRIPPERS[parameters.gripper if live else 'none'](
                node, parameters
            )
            made.callback(self._gripper.destroy)
            self._poses = POSES[parameters.pose_source](node, parameters, self._take_pose)
            made.callback(self._poses.destroy)
            self._switch = Switch(node, parameters, self._take_switch)
            made.callback(self._switch.destroy)
            self._robot = RobotState(node, parameters, time.monotonic())
            made.callback(self._robot.destroy)
            for topic, callback in ((STEP, self._take_action), (SAID, self._take_instruction)):
                made.callback(node.destroy_subscription, subscribe(node, topic, callback))
            self._parts = made.pop_all()
        self._restart()

    def _restart(self) -> None:
        self._bridge = Bridge(self._parameters.bridge)
        self._latency = Latency(time.monotonic())
        self._arrived: tuple[float, float] | None = None  # of an action without a command yet
        self._command: Command | None = None
        self._reported: Report | None = None  # in the last diagnostics
        self._ticks, self._looked_at = 0, 0.0
        self._said = ''  # trouble of the controller at the last tick
        self._rivals: list[str] = []

    def activate(self) -> None:
        """Begin anew, disabled, with all counts at zero."""
        self._restart()
        self.active = True

    def enable(self) -> str:
        """Let the robot move; return '' or the reason why it may not."""
        now = time.monotonic()
        if not self.active:
            return 'the node is not active; activate it first'
        self._look_for_rivals(now)
        trouble = self._trouble(now)
        idle = self._bridge.report(now).state in (DISABLED, STOPPED)
        if idle and self._rivals:
            return trouble
        if idle:
            self._controller.forget()
            self._bridge.hear_controller(self._trouble(now), now)
        reason = self._bridge.enable(now)
        if not reason and (idle or trouble):
            self._controller.begin(now)
            self._gripper.begin()
            # At once, so that no action passes before the controller has answered.
            self._bridge.hear_controller(self._trouble(now), now)
        return reason

    def disable(self, reason: str) -> None:
        """Hold the robot, and command nothing from then on."""
        now, pose = time.monotonic(), None
        try:
            self._bridge.stop(reason, now)
            pose = self._bridge.tick(now).pose
            self._bridge.disable(reason, now)
        finally:
            self._controller.rest(pose)

    def stop(self, reason: str) -> None:
        """Hold the robot until it is enabled again."""
        self._bridge.stop(reason, time.monotonic())

    def report(self) -> Report:
        """Give the present report."""
        return self._bridge.report(time.monotonic())

    def tick(self) -> None:
        """Watch everything, and command the controller."""
        if not self.active:
            return
        now = time.monotonic()
        self._poses.look()
        self._look_for_rivals(now)
        self._said = self._trouble(now)
        if self._said or self._controller.heard:
            self._bridge.hear_controller(self._said, now)
        stamp = self._node.get_clock().now().to_msg()
        before, self._command = self._command, self._bridge.tick(now)
        command, changed = self._command, before is None or before.state != self._command.state
        if before is not None and before.pose is not None and command.pose is None:
            self._controller.rest(None)
        self._ticks += 1
        if changed or self._ticks % self._parameters.ticks == 0:
            self._send(command, now, stamp)
        if command.target is not None and (before is None or command.target is not before.target):
            self._on_target(command.target)
        if changed:
            self._on_report(command.report)

    def statuses(self, name: str) -> list[DiagnosticStatus]:
        """Tell about gate, pose, controller and gripper, for /diagnostics."""
        report = self.report()
        gate = gate_status(name, report, self._reported)
        self._reported = report
        pose = {'source': self._poses.source, 'rejected': str(self._poses.rejected)}
        arm = {'receiver': self._controller.receiver, 'kind': self._parameters.controller}
        return [
            gate,
            part_status(name, 'pose', self._poses.trouble, pose),
            part_status(name, 'controller', self._said, arm),
            part_status(name, 'gripper', self._gripper.trouble, {'status': self._gripper.status}),
        ]

    def latency(self) -> dict[str, str]:
        """Give rate and latency of the actions, for /diagnostics."""
        return self._latency.facts(time.monotonic())

    def destroy(self, reason: str) -> None:
        """Hold the robot, and remove everything from the node."""
        self.active = False
        try:
            self.disable(reason)
        finally:
            self._parts.close()

    def _send(self, command: Command, now: float, stamp: Stamp) -> None:
        self._controller.send(command, stamp)
        self._gripper.command(command, now)
        if self._arrived is not None:
            age, since = self._arrived
            self._latency.note(age + now - since)
            self._arrived = None

    def _look_for_rivals(self, now: float) -> None:
        if now - self._looked_at < _GRAPH:
            return
        self._looked_at, self._rivals = now, self._controller.rivals()
        if self._rivals and self._bridge.report(now).state not in (DISABLED, STOPPED):
            self._bridge.stop(self._trouble(now), now)

    def _trouble(self, now: float) -> str:
        if self._rivals:
            return (
                f'{", ".join(self._rivals)} publishes on {self._controller.receiver} too; one '
                'node alone may command the arm'
            )
        clock = self._node.get_clock()
        if clock.ros_time_is_active and not clock.now().nanoseconds:
            return (
                'use_sim_time is true, but no message has come on /clock; start what publishes '
                'it, or set use_sim_time to false'
            )
        return self._robot.check(now) or self._controller.check(now)

    def _take_pose(self, pose: Pose, age: float, frame: str) -> None:
        self._bridge.hear_pose(pose, age, frame, time.monotonic())

    def _take_switch(self, pressed: bool) -> None:
        self._bridge.hear_deadman(pressed, time.monotonic())

    def _take_instruction(self, message: String) -> None:
        self._bridge.hear_instruction(message.data, time.monotonic())

    def _take_action(self, message: VlaAction) -> None:
        if not self.active:
            return
        now = time.monotonic()
        action = to_incoming(message, self._node.get_clock().now().nanoseconds)
        report = self._bridge.hear_action(action, now)
        if report.state == MOVING:
            self._arrived = action.image_age, now
        self._on_report(report)
