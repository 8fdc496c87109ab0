"""The bridge as a lifecycle node: actions and poses in, checked commands to a controller out."""

from __future__ import annotations

import gc
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.nodes.lifecycle import PatientLifecycleNode
from trt_openvla_ros.nodes.parameters import declare, read, why_no_choice
from trt_openvla_ros.nodes.qos import warn_of_unused
from trt_openvla_ros.nodes.robot.drive import Drive
from trt_openvla_ros.nodes.robot.messages import to_pose
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.nodes.robot.plan import robot_plan
from trt_openvla_ros.nodes.robot.reports import bridge_status, to_report
from trt_openvla_ros.nodes.robot.topics import DIAGNOSTICS, ENABLE, GATE, STOP, TARGET
from trt_openvla_ros.nodes.run import run
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.exchange import Report


class RobotNode(PatientLifecycleNode):
    """The robot node. Active does not mean that anything moves: ~/enable does.

    Whatever ends it (deactivate, cleanup, a signal, an error of its own), the last that the
    controller gets is a zero twist or the pose that is held.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters; the arguments are those of rclpy's Node.

        Raises:
            ParameterException: A parameter has an impossible value.
        """
        # Before rclpy's part, because from Kilted on it destroys nodes that were only half made.
        self._drive: Drive | None = None
        self._ticking: Timer | None = None
        self._state, self._failure = 'unconfigured', ''
        super().__init__('robot', **kwargs)
        self.add_on_set_parameters_callback(self._check_parameters)
        declare(self, RobotParameters)
        self._frame = self.get_parameter('base_frame').value
        self._gates = self.create_publisher(GATE.type, GATE.name, GATE.qos)
        self._targets = self.create_publisher(TARGET.type, TARGET.name, TARGET.qos)
        self._diagnostics = self.create_publisher(
            DIAGNOSTICS.type, DIAGNOSTICS.name, DIAGNOSTICS.qos
        )
        self.create_service(ENABLE.type, ENABLE.name, self._on_enable)
        self.create_service(STOP.type, STOP.name, self._on_stop)
        # A steady clock: no watchdog may follow a clock that stands still or jumps.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._tell, clock=self._steady)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Connect to controller and gripper; on failure say why and stay unconfigured."""
        try:
            parameters = read(self, RobotParameters)
            self._drive = Drive(self, parameters, self._publish_report, self._publish_target)
            warn_of_unused(self)
        except Exception as error:  # noqa: BLE001 - rclpy would swallow the reason
            known = isinstance(error, PolicyError)
            self._failure = str(error) if known else traceback.format_exc()
            self.get_logger().error(f'not configured: {self._failure}')
            self._release('not configured')
            return TransitionCallbackReturn.FAILURE
        self._ticking = self.create_timer(
            1.0 / (parameters.rate * parameters.ticks), self._drive.tick, clock=self._steady
        )
        self._state, self._failure = 'inactive', ''
        self.get_logger().info(f'nothing moves before ~/enable\n{robot_plan(parameters)}')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Judge actions from now on; nothing moves before ~/enable."""
        self._drive.activate()
        self._state = 'active'
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold the robot, and command nothing from then on."""
        self._drive.disable('the node was deactivated')
        self._drive.active = False
        self._state = 'inactive'
        self._publish_report(self._drive.report())
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave controller and gripper."""
        self._release('the node was cleaned up')
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold the robot and leave it, in any state."""
        self._release('the node was shut down')
        self._state = 'finalized'
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold the robot after a transition that failed; the node can be configured again."""
        self._failure = 'a transition failed'
        self._release(self._failure)
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Hold the robot before the node is destroyed."""
        self._release('the process ends')
        super().destroy_node()

    def _release(self, reason: str) -> None:
        self._state = 'unconfigured'
        if self._drive is not None:
            drive, self._drive = self._drive, None
            drive.destroy(reason)
        if self._ticking is not None:
            self.destroy_timer(self._ticking)
            self._ticking = None

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            reason = why_no_choice(change.name, change.value, RobotParameters)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _on_enable(self, request: SetBool.Request, answer: SetBool.Response) -> SetBool.Response:
        if not request.data:
            if self._drive is not None:
                self._drive.disable('~/enable was called with false')
            answer.success, answer.message = True, 'disabled: nothing is commanded'
        else:
            reason = self._drive.enable() if self._drive else f'the node is {self._state}'
            answer.success, answer.message = not reason, reason or 'enabled'
        self.get_logger().info(
            answer.message if answer.success else f'not enabled: {answer.message}'
        )
        return answer

    def _on_stop(self, _: Trigger.Request, answer: Trigger.Response) -> Trigger.Response:
        if self._drive is not None:
            self._drive.stop('~/stop was called')
        answer.success, answer.message = True, 'stopped until ~/enable is called'
        self.get_logger().warning(answer.message)
        return answer

    def _header(self) -> Header:
        return Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame)

    def _publish_report(self, report: Report) -> None:
        self._gates.publish(to_report(report, self._header()))

    def _publish_target(self, target: Pose) -> None:
        self._targets.publish(to_pose(target, self._header()))

    def _tell(self) -> None:
        """Once a second: the gate's report, and diagnostics."""
        name, report = self.get_fully_qualified_name(), None
        statuses, facts = [], {}
        if self._drive is not None:
            report, facts = self._drive.report(), self._drive.latency()
            self._publish_report(report)
            statuses = self._drive.statuses(name)
        first = bridge_status(name, self._state, report, self._failure, facts)
        message = DiagnosticArray(status=[first, *statuses])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main() -> None:
    """Run the node until it is interrupted."""
    # What was imported never becomes garbage, and looking through it would delay a tick.
    gc.freeze()
    run(RobotNode)
