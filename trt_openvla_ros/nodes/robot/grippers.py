"""Grippers: actions of control_msgs, or a plain topic. Nothing here waits for a gripper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray

from trt_openvla_ros.nodes.robot.interfaces import load
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.robot.exchange import Command, MOVING

_THROTTLE = 5.0  # [s] between two warnings about goals


class Gripper:
    """Takes commands and sends on what changes; this one sends nothing anywhere.

    The bridge decides what a change is. While the robot does not move the gripper stays as it is:
    opening it would drop what it holds, and a person's hand may be at it.
    """

    def __init__(self, node: Node, parameters: RobotParameters) -> None:
        """Be of a node."""
        self._node = node
        self._closed, self._open = parameters.gripper_closed, parameters.gripper_open
        self._sent: float | None = None  # what was sent last, so that it is not sent again

    @property
    def status(self) -> str:
        """What became of the last command, in words."""
        return 'none'

    @property
    def trouble(self) -> str:
        """Reason for a warning; '' if there is none."""
        return ''

    def begin(self) -> None:
        """Send the next command in any case: before enable, anybody may have moved the gripper."""
        self._sent = None

    def command(self, command: Command, now: float) -> None:
        """Send what is new in a command, and what a server missed that came back."""

    def destroy(self) -> None:
        """Remove everything from the node."""

    def _position(self, opening: float) -> float:
        """Give the position, in the gripper's unit, of an opening from 0 to 1."""
        return self._closed + opening * (self._open - self._closed)


class TopicGripper(Gripper):
    """A number on a topic, sent when it changes and to every new listener."""

    def __init__(self, node: Node, parameters: RobotParameters) -> None:
        """Make the publisher of `gripper_target`."""
        super().__init__(node, parameters)
        self._array = parameters.gripper_message == 'float64_multi_array'
        kind = Float64MultiArray if self._array else Float64
        self._positions = node.create_publisher(kind, parameters.gripper_target, 1)
        self._listeners = 0

    @property
    def status(self) -> str:
        """What was sent, in words."""
        return self.trouble or ('nothing sent' if self._sent is None else 'sent')

    @property
    def trouble(self) -> str:
        """That nobody listens; '' if somebody does."""
        return '' if self._listeners else f'nobody listens to {self._positions.topic_name}'

    def command(self, command: Command, now: float) -> None:
        """Publish the position if it is new, or new to somebody."""
        listeners = self._positions.get_subscription_count()
        if listeners > self._listeners:
            self._sent = None
        self._listeners = listeners
        if command.state != MOVING or command.opening in (None, self._sent) or not listeners:
            return
        self._sent = command.opening
        position = self._position(command.opening)
        self._positions.publish(
            Float64MultiArray(data=[position]) if self._array else Float64(data=position)
        )

    def destroy(self) -> None:
        """Remove the publisher from the node."""
        self._node.destroy_publisher(self._positions)


class ActionGripper(Gripper):
    """An action of control_msgs. The server replaces an older goal by a newer one.

    A goal is sent when it changes, and again when the server comes back. A server that does not
    answer costs nothing: the next goal goes out all the same.
    """

    def __init__(self, node: Node, parameters: RobotParameters, kind: type) -> None:
        """Make the client of the action `gripper_target`."""
        super().__init__(node, parameters)
        self._kind, self._effort = kind, parameters.max_effort
        self._patience = parameters.gripper_timeout
        self._client = ActionClient(node, kind, parameters.gripper_target)
        self._name = node.resolve_topic_name(parameters.gripper_target)
        self._there = False
        self._goals = 0  # sent so far
        self._asked: float | None = None  # [s] when a goal was sent that has no answer yet
        self._now = 0.0
        self._outcome = 'nothing sent'

    @property
    def status(self) -> str:
        """What became of the last goal, in words."""
        return self.trouble or self._outcome

    @property
    def trouble(self) -> str:
        """That there is no server, or no answer; '' otherwise."""
        if not self._there:
            return f'no server of {self._name}'
        if self._asked is not None and self._now - self._asked > self._patience:
            return f'{self._name} has not answered for {self._now - self._asked:.1f} s'
        return ''

    def command(self, command: Command, now: float) -> None:
        """Send a goal if it is new, or if the server came back."""
        self._now = now
        there = self._client.server_is_ready()
        if there and not self._there:
            self._sent, self._asked = None, None
        self._there = there
        goal = command.gripper_goal if command.state == MOVING else None
        if goal is not None and there and self._sent != command.gripper_changes:
            self._sent = command.gripper_changes
            self._send(self._position(goal), now)

    def destroy(self) -> None:
        """Remove the client from the node."""
        self._goals += 1  # answers on their way are of no interest
        self._client.destroy()

    def _send(self, position: float, now: float) -> None:
        self._asked, self._outcome = now, f'moving to {position:g}'
        self._goals += 1
        self._client.send_goal_async(self._goal(position)).add_done_callback(
            self._if_newest(self._goals, position, self._on_answer)
        )

    def _if_newest(
        self, number: int, position: float, callback: Callable[[Future, float], None]
    ) -> Callable[[Future], None]:
        return lambda future: callback(future, position) if number == self._goals else None

    def _on_answer(self, future: Future, position: float) -> None:
        handle, self._asked = future.result(), None
        if handle.accepted:
            newest = self._if_newest(self._goals, position, self._on_result)
            handle.get_result_async().add_done_callback(newest)
        else:
            self._fail(f'refused {position:g}')

    def _on_result(self, future: Future, position: float) -> None:
        answer = future.result()
        if answer.status == GoalStatus.STATUS_SUCCEEDED or answer.result.reached_goal:
            self._outcome = f'reached {position:g}'
        elif answer.result.stalled:
            # ros2_controllers abort where fingers meet an object, unless allow_stalling is set.
            self._outcome = f'holding an object on the way to {position:g}'
        else:
            self._fail(f'did not reach {position:g} (goal status {answer.status})')

    def _fail(self, outcome: str) -> None:
        self._outcome = outcome
        log = self._node.get_logger()
        log.warning(f'{self._name} {outcome}', throttle_duration_sec=_THROTTLE)

    def _goal(self, position: float) -> Any:
        raise NotImplementedError


class CommandGripper(ActionGripper):
    """An action of type control_msgs/GripperCommand."""

    def __init__(self, node: Node, parameters: RobotParameters) -> None:
        """Make the client.

        Raises:
            ConfigError: control_msgs is not installed.
        """
        kind = load('control_msgs.action.GripperCommand', 'gripper gripper_command')
        super().__init__(node, parameters, kind)

    def _goal(self, position: float) -> Any:
        goal = self._kind.Goal()
        goal.command.position, goal.command.max_effort = position, self._effort
        return goal


class ParallelGripper(ActionGripper):
    """An action of type control_msgs/ParallelGripperCommand."""

    def __init__(self, node: Node, parameters: RobotParameters) -> None:
        """Make the client.

        Raises:
            ConfigError: control_msgs is not installed, or is older than this action.
        """
        name = 'control_msgs.action.ParallelGripperCommand'
        super().__init__(node, parameters, load(name, 'gripper parallel_gripper_command'))
        self._joint = parameters.gripper_joint

    def _goal(self, position: float) -> Any:
        # Exactly one position, or the controller of ros2_controllers refuses the goal.
        names = [self._joint] if self._joint else []
        effort = [self._effort] if self._effort else []
        return self._kind.Goal(command=JointState(name=names, position=[position], effort=effort))


GRIPPERS: dict[str, type[Gripper]] = {
    'none': Gripper,
    'gripper_command': CommandGripper,
    'parallel_gripper_command': ParallelGripper,
    'float': TopicGripper,
}
