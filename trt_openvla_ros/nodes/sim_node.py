"""The tabletop as a node: it shows images, takes actions, and knows whether a goal was reached."""

from __future__ import annotations

from collections import deque
import time
from typing import Any

from builtin_interfaces.msg import Time as Stamp
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import String
from std_srvs.srv import Trigger

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.conversions import stamp_of
from trt_openvla_ros.nodes.parameters import declare, read, SimParameters
from trt_openvla_ros.nodes.qos import warn_of_unused
from trt_openvla_ros.nodes.run import run
from trt_openvla_ros.nodes.sim_controllers.running import RunningArm
from trt_openvla_ros.nodes.sim_messages import why_impossible
from trt_openvla_ros.nodes.sim_outputs import SimOutputs
from trt_openvla_ros.nodes.topics import ASKED, RESET, SUCCESS, TAKEN_ACTION
from trt_openvla_ros.policy.prompt import MAX_INSTRUCTION
from trt_openvla_ros.sim.goals import draw, Goal, parse_in, phrase
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.srv import Reset

_THROTTLE = 2.0  # [s] between two warnings of one kind
_PATIENCE = 1.0  # [s] until an image that nobody answered is shown again, in lock-step
_POLL = 0.1  # [s] between two looks at that
_MOST_UNANSWERED = 1000  # images that an action may still answer


class SimNode(Node):
    """One world. With a rate it goes on by itself; in lock-step each action is one step.

    An action names the image that it answers by the image's stamp. Each image is answered at most
    once. The node forgets images from before the reset, or from before the last answered one.
    Under a controller no action counts: the arm moves as the controller is told.

    Attributes:
        companions: Further nodes of the process, which the executor needs too.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Make the first scene; the arguments are those of rclpy's Node.

        Raises:
            ParameterException: A parameter has an impossible value.
            ConfigError: There is no OpenGL to render with, the controller cannot run, or a QoS
                override cannot be used.
            InputError: The parameter instruction names no goal of the scene.
        """
        self._world: World | None = (
            None  # for rclpy, which destroys half-made nodes from Kilted on
        )
        self._arm: RunningArm | None = None
        self.companions: list[Node] = []
        super().__init__('sim', **kwargs)
        declare(self, SimParameters)
        parameters = read(self, SimParameters)
        self._rate, self._publish_clock = parameters.rate, parameters.publish_clock
        self._world = World()
        self._past = 0  # [ns] simulated before this scene
        self._stamp = 0  # [ns] of the newest image
        # Stamps of images that wait for an action; of those that waited when something else was
        # asked; and of those that showed no other world than an answered one.
        self._unanswered: deque[int] = deque(maxlen=_MOST_UNANSWERED)
        self._outdated: frozenset[int] = frozenset()
        self._repeated: deque[int] = deque(maxlen=_MOST_UNANSWERED)
        self._listeners = 0  # subscribers that have heard the instruction
        self._said: deque[str] = deque(maxlen=100)  # our own, which have not come back yet
        self._outputs = SimOutputs(self, self._world, self._publish_clock)
        self._instructions = self._outputs.publisher(ASKED)
        warn_of_unused(self)
        tick, period = self._tick, 1.0 / self._rate if self._rate else _POLL
        if parameters.controller != 'direct':
            self._arm = RunningArm(self, self._world, parameters, self._now)
            self.companions = self._arm.nodes
            tick, period = self._go_on, 1.0 / parameters.controller_rate
        else:
            self.create_subscription(
                TAKEN_ACTION.type, TAKEN_ACTION.name, self._on_action, TAKEN_ACTION.qos
            )
        self.create_subscription(ASKED.type, ASKED.name, self._on_instruction, ASKED.qos)
        self.create_service(RESET.type, RESET.name, self._on_reset)
        self.create_service(SUCCESS.type, SUCCESS.name, self._on_success)
        self._begin(parameters.seed, parameters.instruction)
        # A steady clock, because this node makes the time that others take from /clock.
        self.create_timer(period, tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy_node(self) -> None:
        """Free the renderer, and destroy the controllers, before the node is destroyed."""
        if self._arm is not None:
            self._arm.destroy()
        if self._world is not None:
            self._world.close()
        super().destroy_node()

    def _begin(self, seed: int, instruction: str) -> None:
        """Make a scene and ask for something in it; an InputError changes nothing."""
        if instruction:
            parse_in(instruction, World.names(seed))
        self._past += round(1e9 * self._world.time)
        self._world.reset(seed)
        if self._arm is not None:
            self._arm.restart()
        if not instruction:
            rng = np.random.default_rng([seed, 1])
            instruction = phrase(draw(self._world.things, rng), rng)
        self._image = self._world.image()
        self._steps, self._opening = 0, 1.0
        self._ask(instruction, parse_in(instruction, World.names(seed)))
        self._unanswered.clear()
        self._say()

    def _ask(self, instruction: str, goal: Goal | None) -> None:
        self._instruction, self._goal = instruction, goal
        self._outdated = frozenset(self._unanswered)
        self._action: np.ndarray | None = None
        # The next tick shows the image, so a policy hears the instruction before.
        self._shown_at: float | None = None
        self.get_logger().info(f'instruction: {instruction!r}')

    def _say(self) -> None:
        self._said.append(self._instruction)
        self._instructions.publish(String(data=self._instruction))

    def _tick(self) -> None:
        if self._rate:
            if self._shown_at is not None:
                self._step()
            self._show()
        elif self._shown_at is None or time.monotonic() - self._shown_at > _PATIENCE:
            self._show()

    def _step(self) -> None:
        still = np.array([0.0] * VlaAction.GRIPPER + [self._opening])
        action = still if self._action is None else self._action
        self._action, self._opening = None, action[VlaAction.GRIPPER]
        self._world.step(action)
        self._steps += 1
        self._image = self._world.image()

    def _go_on(self) -> None:
        """Let the arm run until now, under its controller."""
        is_due = self._arm.run()
        stamp = self._next_stamp()
        self._outputs.publish_hand(stamp)
        if not is_due:
            return
        if self._shown_at is not None:
            self._world.judge()
            self._steps += 1
        self._greet()
        self._image = self._world.image()
        self._outputs.publish_view(self._image, stamp)
        self._shown_at = time.monotonic()

    def _greet(self) -> None:
        """Tell the instruction to new subscribers."""
        listeners = self._instructions.get_subscription_count()
        if listeners > self._listeners:
            self._say()
        self._listeners = listeners

    def _show(self) -> None:
        self._greet()
        stamp = self._next_stamp()
        self._outputs.publish_hand(stamp)
        self._outputs.publish_view(self._image, stamp)
        self._unanswered.append(self._stamp)
        self._shown_at = time.monotonic()

    def _now(self) -> int:
        """Time [ns] of this world's stamps."""
        if self._publish_clock:
            return self._past + round(1e9 * self._world.time)
        return self.get_clock().now().nanoseconds

    def _next_stamp(self) -> Stamp:
        self._stamp = max(self._now(), self._stamp + 1)
        return Time(nanoseconds=self._stamp).to_msg()

    def _on_action(self, message: VlaAction) -> None:
        answered = stamp_of(message)
        if self._was_under_way(message, answered):
            self.get_logger().debug('action ignored: it was under way when the scene changed')
            return
        reason = self._why_ignored(message)
        if reason:
            self.get_logger().warning(f'action ignored: {reason}', throttle_duration_sec=_THROTTLE)
            return
        self._action = np.array(message.action)
        if self._rate:
            while self._unanswered.popleft() != answered:
                pass
        else:
            # All unanswered images showed the same world: that before this step.
            self._repeated.extend(stamp for stamp in self._unanswered if stamp != answered)
            self._unanswered.clear()
            self._step()
            self._show()

    def _was_under_way(self, message: VlaAction, answered: int) -> bool:
        """Tell whether a policy began with this action before it could know better."""
        return answered in self._repeated or (
            answered in self._outdated and message.instruction != self._instruction
        )

    def _why_ignored(self, message: VlaAction) -> str:
        stamp = message.header.stamp
        if stamp_of(message) not in self._unanswered:
            return (
                f'no image with its stamp {stamp.sec}.{stamp.nanosec:09d} waits for an action; '
                'copy the stamp of an image since the reset that is newer than the last answered'
            )
        if message.instruction != self._instruction:
            return (
                f'it follows {message.instruction!r}, but the instruction is '
                f'{self._instruction!r}; publish yours again to both nodes (ros2 topic pub -w 2)'
            )
        return why_impossible(message)

    def _on_instruction(self, message: String) -> None:
        # As in the policy node: the newest instruction counts, and a blank one stops.
        if message.data in self._said:  # our own came back; those before it never will
            while self._said.popleft() != message.data:
                pass
            return
        instruction, goal = message.data if message.data.strip() else '', None
        if instruction == self._instruction:
            return
        if len(instruction) > MAX_INSTRUCTION:
            self.get_logger().warning(
                f'instruction ignored: it has {len(instruction)} characters; {MAX_INSTRUCTION} '
                'are allowed',
                throttle_duration_sec=_THROTTLE,
            )
            return
        if instruction:
            try:
                goal = parse_in(instruction, [thing.name for thing in self._world.things])
            except InputError as error:
                self.get_logger().warning(f'success will not be known: {error}')
        self._ask(instruction, goal)
        # The policy may not have heard it: `ros2 topic pub --once` waits for one subscriber.
        self._listeners = 0

    def _on_reset(self, request: Reset.Request, response: Reset.Response) -> Reset.Response:
        try:
            self._begin(request.seed, request.instruction)
        except InputError as error:
            response.message = str(error)
        else:
            names = ', '.join(thing.name for thing in self._world.things)
            response.success, response.message = True, f'on the table: {names}'
            response.kind = self._goal.kind
        response.instruction = self._instruction
        return response

    def _on_success(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._goal is not None and self._world.success(self._goal)
        if self._goal is None:
            verdict = 'no goal of this table, so success is unknown'
        else:
            verdict = 'reached' if response.success else 'not reached'
        response.message = f'{self._instruction!r}: {verdict}; {self._steps} steps since the reset'
        return response


def main() -> None:
    """Run the node until it is interrupted."""
    run(SimNode)
