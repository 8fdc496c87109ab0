"""MoveIt Servo in front of the simulated arm.

Its rules are those of moveit/moveit2 at 4d84106 (Jazzy; Kilted is equal),
moveit_ros/moveit_servo/src/servo_node.cpp, servo.cpp and utils/command.cpp. The simulated arm has
no singularities and no joints to jog; the end of its reach stands for the bounds of joints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from std_srvs.srv import SetBool

from trt_openvla_ros.nodes.conversions import stamp_of
from trt_openvla_ros.nodes.robot.interfaces import load
from trt_openvla_ros.nodes.sim_controllers.controller import (
    Controller,
    numbers_of,
    Option,
    rotation_of,
)
from trt_openvla_ros.nodes.sim_messages import BASE_FRAME, HAND_FRAME
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.sim.arm import Arm, reaches, shortened

_TEXTS = {
    'NO_WARNING': 'No warnings',
    'INVALID': 'Invalid command',
    'JOINT_BOUND': 'At the end of the reach of the arm',
}


class Servo(Controller):
    """Takes twists or poses, one kind at a time, that are fresh by their stamps."""

    NAME = 'servo_node'
    OPTIONS = {  # noqa: RUF012 - nobody changes it
        'moveit_servo.command_in_type': Option(
            'speed_units',
            'speed_units takes m/s and rad/s; unitless, the default of the real one, multiplies '
            'by scale.',
        ),
        'moveit_servo.scale.linear': Option(
            0.6, 'Highest speed [m/s]; 0 sets no limit. The default of the real one is 0.4.'
        ),
        'moveit_servo.scale.rotational': Option(
            2.5, 'Highest angular speed [rad/s]; as above. The default of the real one is 0.8.'
        ),
        'moveit_servo.incoming_command_timeout': Option(
            0.1, 'Age by header.stamp at which a command is stale, and the arm halts [s].'
        ),
    }

    def __init__(self, owner: Node, clock: Callable[[], int]) -> None:
        """Make the node, not paused and without a type of command.

        Raises:
            ConfigError: moveit_msgs is not installed.
        """
        self._status_type = load('moveit_msgs.msg.ServoStatus', 'controller servo')
        command_type = load('moveit_msgs.srv.ServoCommandType', 'controller servo')
        super().__init__(owner, clock)
        self._types = command_type.Request
        # The real one begins with JOINT_JOG, which nobody asked for.
        self._type, self._paused = self._types.JOINT_JOG, False
        self._newest: dict[int, Any] = {}  # by type of command; there as long as it counts
        self._code, self._was_moving = self._status_type.NO_WARNING, False
        self._statuses = self.create_publisher(self._status_type, '~/status', 10)
        for kind, message, topic in (
            (self._types.TWIST, TwistStamped, '~/delta_twist_cmds'),
            (self._types.POSE, PoseStamped, '~/pose_target_cmds'),
        ):
            self.create_subscription(message, topic, self._hearing(kind), 10)
        self.create_service(command_type, '~/switch_command_type', self._on_switch)
        self.create_service(SetBool, '~/pause_servo', self._on_pause)

    def restart(self, arm: Arm) -> None:
        """Forget commands from before."""
        self._newest.clear()

    def update(self, arm: Arm, seconds: float) -> Pose | None:
        """Follow the newest command of the type that was switched to, and publish the status."""
        if self._paused:
            return None  # and says nothing
        wanted = None
        if self._type in self._newest:
            self._newest = {self._type: self._newest[self._type]}
            wanted = self._follow(self._newest[self._type], arm, seconds)
        elif self._newest:
            self._newest.clear()
            self.warn('Command type has not been set, cannot accept input')
        self._was_moving = wanted is not None
        names = {getattr(self._status_type, name): text for name, text in _TEXTS.items()}
        self._statuses.publish(self._status_type(code=self._code, message=names[self._code]))
        return wanted

    def _follow(self, message: Any, arm: Arm, seconds: float) -> Pose | None:
        age = 1e-9 * (self.clock() - stamp_of(message))
        if age >= self.option('moveit_servo.incoming_command_timeout'):
            del self._newest[self._type]  # the status stays what it was
            return None
        self._code = self._status_type.NO_WARNING
        if not self._was_moving:
            arm.rest()
        try:
            if isinstance(message, TwistStamped):
                return self._by_twist(message, arm, seconds)
            return self._by_pose(message, arm, seconds)
        except ValueError as error:
            self.warn(f'Invalid command: {error}')
            self._code = self._status_type.INVALID
            del self._newest[self._type]
            return None

    def _by_twist(self, message: TwistStamped, arm: Arm, seconds: float) -> Pose:
        axes = self._frame(message.header.frame_id, arm).rotation
        linear, angular = message.twist.linear, message.twist.angular
        speed = np.array([[linear.x, linear.y, linear.z], [angular.x, angular.y, angular.z]])
        if not np.isfinite(speed).all():
            raise ValueError(f'the twist {speed.ravel().tolist()} is not finite')
        move, turn = axes.apply(speed) * seconds
        if self.option('moveit_servo.command_in_type') == 'unitless':
            move = move * self.option('moveit_servo.scale.linear')
            turn = turn * self.option('moveit_servo.scale.rotational')
        wanted = arm.commanded.moved(*self._capped(move, turn, seconds))
        if self._ends(wanted, arm).any():
            return arm.commanded  # a twist halts every joint
        return wanted

    def _by_pose(self, message: PoseStamped, arm: Arm, seconds: float) -> Pose:
        frame = self._frame(message.header.frame_id, arm)
        place, quaternion = numbers_of(message)
        rotation = rotation_of(quaternion)
        if rotation is None or not np.isfinite(place).all():
            raise ValueError(f'{place.tolist()}, {quaternion.tolist()} is no pose')
        target = Pose(frame.position + frame.rotation.apply(place), frame.rotation * rotation)
        move, turn = self._capped(*arm.commanded.step_to(target), seconds)
        wanted = arm.commanded.moved(move, turn)
        # A pose halts only the joints that are at their ends, so the path bends.
        halted = self._ends(wanted, arm)
        return Pose(np.where(halted, arm.commanded.position, wanted.position), wanted.rotation)

    def _capped(
        self, move: np.ndarray, turn: np.ndarray, seconds: float
    ) -> tuple[np.ndarray, np.ndarray]:
        caps = (
            self.option('moveit_servo.scale.linear'),
            self.option('moveit_servo.scale.rotational'),
        )
        move, turn = (
            shortened(step, cap * seconds) if cap > 0 else step
            for step, cap in zip((move, turn), caps, strict=True)
        )
        return move, turn

    def _ends(self, wanted: Pose, arm: Arm) -> np.ndarray:
        """Tell for each axis whether the pose leads out of the arm's reach."""
        outward = ~reaches(wanted.position) & (wanted.position != arm.commanded.position)
        if outward.any():
            self._code = self._status_type.JOINT_BOUND
        return outward

    def _frame(self, name: str, arm: Arm) -> Pose:
        if name == BASE_FRAME:
            return Pose(np.zeros(3), Rotation.identity())
        if name == HAND_FRAME:
            return arm.measured
        raise ValueError(f'there is no transform from frame {name!r} to {BASE_FRAME!r}')

    def _hearing(self, kind: int) -> Callable[[Any], None]:
        def hear(message: Any) -> None:
            self._newest[kind] = message

        return hear

    def _on_switch(self, request: Any, response: Any) -> Any:
        known = (self._types.JOINT_JOG, self._types.TWIST, self._types.POSE)
        if request.command_type in known:
            self._type = request.command_type
        else:
            self.warn(f'Unknown command type {request.command_type} requested')
        response.success = request.command_type == self._type
        return response

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused, response.success = request.data, True
        response.message = 'Servoing disabled' if request.data else 'Servoing enabled'
        return response
