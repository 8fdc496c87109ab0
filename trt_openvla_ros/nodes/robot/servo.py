"""MoveIt Servo as a controller: its two topics, its services and its status.

Names and rules are those of moveit/moveit2 at 4d84106 (Jazzy; Kilted's are equal), in
moveit_ros/moveit_servo.
"""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import TwistStamped
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from trt_openvla_ros.nodes.qos import NEWEST
from trt_openvla_ros.nodes.robot.controllers import Stream
from trt_openvla_ros.nodes.robot.interfaces import load
from trt_openvla_ros.nodes.robot.messages import to_twist
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.nodes.robot.requests import Request, Requests
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.exchange import Command

# Status codes at which Servo does not do what it is told.
_HALTS = ('INVALID', 'HALT_FOR_SINGULARITY', 'HALT_FOR_COLLISION', 'JOINT_BOUND')
_UNITS = 'moveit_servo.command_in_type'
_LINEAR, _ROTATIONAL = 'moveit_servo.scale.linear', 'moveit_servo.scale.rotational'
_TIMEOUT = 'moveit_servo.incoming_command_timeout'
_PATIENCE = 2.0  # [s] for one answer of Servo


class ServoPose(Stream):
    """Poses for MoveIt Servo, which halts by itself 0.1 s after the last command.

    When the robot is enabled, Servo is unpaused and told the type of its commands. If Servo falls
    silent and comes back, it is told the type again, which it forgets when it is started anew. It
    is not unpaused then: a person may have paused it.
    """

    suffix, command_type = 'pose_target_cmds', 'POSE'

    def __init__(self, node: Node, parameters: RobotParameters) -> None:
        """Make publisher, clients and the subscription to Servo's status.

        Raises:
            ConfigError: moveit_msgs is not installed, or is that of Humble.
        """
        wanted = f'controller {parameters.controller}'
        status = load('moveit_msgs.msg.ServoStatus', wanted)
        command_type = load('moveit_msgs.srv.ServoCommandType', wanted)
        servo = parameters.servo.rstrip('/')
        super().__init__(node, parameters, f'{servo}/{self.suffix}')
        self._parameters = parameters
        self._halts = {getattr(status, name): name for name in _HALTS}
        self._requests = Requests(node, _PATIENCE)
        self._pause = self._requests.client(SetBool, f'{servo}/pause_servo')
        self._switch = self._requests.client(command_type, f'{servo}/switch_command_type')
        self._ask = self._requests.client(GetParameters, f'{servo}/get_parameters')
        kind = command_type.Request
        self._type = kind(command_type=getattr(kind, self.command_type))
        self._statuses = node.create_subscription(status, f'{servo}/status', self._take, NEWEST)
        self._code, self._message, self._came = 0, '', False
        self._begun: float | None = None  # [s] when the robot was enabled
        self._heard_at = 0.0  # [s] when a status came

    def begin(self, now: float) -> None:
        """Unpause Servo, tell it the type of command, and ask how it scales."""
        names = [_UNITS, _LINEAR, _ROTATIONAL, _TIMEOUT]
        self._begun = self._heard_at = now
        self._code = 0
        self._requests.begin(
            [
                Request(self._pause, SetBool.Request(data=False), _why_refused),
                Request(self._switch, self._type, _why_refused),
                Request(self._ask, GetParameters.Request(names=names), self._why_unfit),
            ],
            now,
        )

    def check(self, now: float) -> str:
        """Say why Servo cannot be used, or that it halts; '' if it follows."""
        self.heard, self._came = self._came, False
        quiet = now - self._heard_at
        if self.heard:
            self._heard_at = now
        trouble = super().check(now)
        if trouble or self._begun is None:
            self.heard = self.heard or self._begun is None  # it may be paused until then
            return trouble
        limit = self._parameters.controller_timeout
        if self.heard and limit and quiet > limit and not self._requests.trouble:
            self._requests.begin([Request(self._switch, self._type, _why_refused)], now)
        self._requests.go_on(now)
        if self._requests.trouble:
            return self._requests.trouble
        if limit and not self.heard and quiet > limit:
            return (
                f'{self._statuses.topic_name} is silent for {quiet:.1f} s: Servo is paused or '
                'ended; call ~/enable, which unpauses it'
            )
        if self._code in self._halts:
            return f'Servo halts: {self._halts[self._code]} ({self._message})'
        return ''

    def rest(self, pose: Pose | None) -> None:
        """Publish the last commands; Servo may be paused from now on."""
        super().rest(pose)
        self.forget()

    def forget(self) -> None:
        """Let a pause or a refusal be no reason not to begin again."""
        self._begun = None

    def destroy(self) -> None:
        """Remove everything from the node."""
        self._requests.destroy()
        self._node.destroy_subscription(self._statuses)
        super().destroy()

    def _take(self, message: Any) -> None:
        self._code, self._message, self._came = message.code, message.message, True

    def _why_unfit(self, answer: GetParameters.Response) -> str:
        """Say why Servo's own parameters make it unusable, and log what they limit."""
        units, linear, rotational, timeout = [*answer.values, *[ParameterValue()] * 4][:4]
        if self.command_type == 'TWIST' and units.string_value != 'speed_units':
            return (
                f'{_UNITS} is {units.string_value or "not known"}: Servo would multiply metres '
                'per second by its scale if it is unitless, as by default; set it to speed_units '
                'and start Servo again'
            )
        log = self._node.get_logger().warning
        mine = self._parameters
        for name, scale, speed, unit in (
            (_LINEAR, linear, mine.max_speed, 'm/s'),
            (_ROTATIONAL, rotational, mine.max_angular_speed, 'rad/s'),
        ):
            if 0 < scale.double_value < speed:
                log(
                    f'{name} is {scale.double_value:g} {unit}, and the gate allows {speed:g}: '
                    'Servo shortens faster steps without a word; raise the one or lower the other'
                )
        known = timeout.type == ParameterType.PARAMETER_DOUBLE
        if known and timeout.double_value < 2.0 / mine.rate:
            log(
                f'{_TIMEOUT} is {timeout.double_value:g} s, less than two periods of rate '
                f'{mine.rate:g} Hz: Servo may stop between two commands; raise one of them'
            )
        return ''


class ServoTwist(ServoPose):
    """Twists in m/s and rad/s for MoveIt Servo: zero where nothing is to move."""

    kind = TwistStamped
    suffix, command_type = 'delta_twist_cmds', 'TWIST'

    def _publish(self, command: Command, header: Header) -> None:
        self._commands.publish(to_twist(command.twist, header))

    def _publish_rest(self, pose: Pose | None, header: Header) -> None:
        self._commands.publish(to_twist([0.0] * 6, header))


def _why_refused(answer: Any) -> str:
    return '' if answer.success else f'Servo refused: {answer}'
