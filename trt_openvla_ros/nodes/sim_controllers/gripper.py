"""The gripper controllers of ros2_controllers in front of the simulated fingers.

Their rules are those of ros-controls/ros2_controllers (Jazzy) at ed360c9: both kinds are alike but
for the type of the action. Here a position is the distance of each finger from the middle [m].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState

from trt_openvla_ros.nodes.robot.interfaces import load
from trt_openvla_ros.nodes.sim_controllers.controller import Controller, Option
from trt_openvla_ros.nodes.sim_messages import JOINTS
from trt_openvla_ros.sim.scene import OPEN
from trt_openvla_ros.sim.world import World


class Gripper(Controller):
    """An action server with one goal at a time; a newer goal ends the older one.

    Attributes:
        TYPE: Full name of the action's type.
    """

    NAME = 'gripper_controller'
    TYPE = ''
    OPTIONS = {  # noqa: RUF012 - nobody changes it
        'goal_tolerance': Option(0.01, 'Distance from the goal at which it is reached [m].'),
        'stall_velocity_threshold': Option(
            0.001, 'Speed below which the fingers do not move [m/s].'
        ),
        'stall_timeout': Option(1.0, 'Time without motion after which they are stalled [s].'),
        'allow_stalling': Option(
            False, 'A stall is a success. By default, whoever grasps an object gets ABORTED.'
        ),
    }

    def __init__(self, owner: Node, clock: Callable[[], int]) -> None:
        """Make the node and the server.

        Raises:
            ConfigError: control_msgs is not installed.
        """
        self._kind = load(self.TYPE, f'gripper {self.TYPE.rpartition(".")[2]}')
        super().__init__(owner, clock)
        self._goal: ServerGoalHandle | None = None
        self._outcome = Future()  # of that goal: stalled, reached
        self._wanted: float | None = None  # [m], if the fingers were not told yet
        self._position, self._target, self._still = OPEN, OPEN, 0.0
        self._server = ActionServer(
            self,
            self._kind,
            '~/gripper_cmd',
            execute_callback=self._run,
            goal_callback=self._judge,
            handle_accepted_callback=self._accept,
            cancel_callback=self._on_cancel,
        )

    def destroy_node(self) -> None:
        """End the goal, so that nothing waits for it."""
        self._finish(False, False)
        self._server.destroy()
        super().destroy_node()

    def drive(self, world: World, seconds: float) -> None:
        """Tell the fingers the newest goal, and see what became of it after so many seconds."""
        if self._wanted is not None:
            self._target, self._wanted, self._still = self._wanted, None, 0.0
            world.grip(float(np.clip(self._target, 0.0, OPEN)))
        moved = abs(world.finger_width - self._position)
        self._position = world.finger_width
        is_still = moved <= self.option('stall_velocity_threshold') * seconds
        self._still = self._still + seconds if is_still else 0.0
        if self._goal is None:
            return
        if abs(self._target - self._position) < self.option('goal_tolerance'):
            self._finish(False, True)
        elif self._still > self.option('stall_timeout'):
            self._finish(True, False)

    def release(self) -> None:
        """Forget the goal, because the fingers were opened by somebody else."""
        self._finish(False, False)
        self._wanted, self._position, self._target = None, OPEN, OPEN

    def _judge(self, goal: Any) -> GoalResponse:
        positions = self._positions(goal)
        if len(positions) != 1:
            self.warn(f'Goal with {len(positions)} position values; 1 is expected')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _accept(self, handle: ServerGoalHandle) -> None:
        self._finish(False, False)
        self._goal, self._outcome = handle, Future()
        position = float(self._positions(handle.request)[0])
        # A real controller passes anything on to the hardware.
        self._wanted = position if np.isfinite(position) else self._position
        handle.execute()

    async def _run(self, handle: ServerGoalHandle) -> Any:
        stalled, reached = await self._outcome
        if handle.is_cancel_requested:
            handle.canceled()
            return self._kind.Result()
        if not stalled and not reached:
            # The real one has it cancelled, which a server of rclpy cannot do by itself.
            handle.abort()
            return self._kind.Result()
        if reached or self.option('allow_stalling'):
            handle.succeed()
        else:
            handle.abort()
        return self._result(stalled, reached)

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if handle == self._goal:
            self._wanted = self._position
            self._finish(False, False)
        return CancelResponse.ACCEPT

    def _finish(self, stalled: bool, reached: bool) -> None:
        if self._goal is not None:
            self._goal = None
            self._outcome.set_result((stalled, reached))

    def _positions(self, goal: Any) -> Sequence[float]:
        raise NotImplementedError

    def _result(self, stalled: bool, reached: bool) -> Any:
        raise NotImplementedError


class GripperCommand(Gripper):
    """position_controllers/GripperActionController, which Jazzy has and Kilted does not."""

    TYPE = 'control_msgs.action.GripperCommand'

    def _positions(self, goal: Any) -> Sequence[float]:
        return [goal.command.position]

    def _result(self, stalled: bool, reached: bool) -> Any:
        return self._kind.Result(position=self._position, stalled=stalled, reached_goal=reached)


class ParallelGripperCommand(Gripper):
    """parallel_gripper_action_controller/GripperActionController."""

    TYPE = 'control_msgs.action.ParallelGripperCommand'

    def _positions(self, goal: Any) -> Sequence[float]:
        return goal.command.position

    def _result(self, stalled: bool, reached: bool) -> Any:
        state = JointState(name=JOINTS[:1], position=[self._position], effort=[0.0])
        return self._kind.Result(state=state, stalled=stalled, reached_goal=reached)
