"""The simulation, a policy node and, on the way, a robot node, each a process; and who watches.

Without a robot node the simulation takes the actions themselves, in lock-step. With one they go
through a controller, in real time: the robot node watches on a clock that nobody can stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import os
from pathlib import Path
import subprocess
import time
from typing import Any

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from geometry_msgs.msg import PoseStamped
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.conversions import stamp_of, to_rgb
from trt_openvla_ros.process import uninterrupted
from trt_openvla_ros.sim.world import MAX_STEPS
from trt_openvla_ros.srv import Reset

_PACKAGE = 'trt_openvla_ros'
_LOADING = 120.0  # [s] longest wait for the first action, and for every answer of a service
_THINKING = 15.0  # [s] longest wait for a further action; none comes if the model wrote none
_SETTLING = 2  # images until the last command was executed, through a controller
_QUIET = ('--log-level', 'warn')
# Ways from an action to the hand: parameters of the simulation, and of the robot node if there is
# one, beside those of its preset.
ROBOTS: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {
    'direct': (('rate:=0.0',), None),
    'servo': (('controller:=servo',), ('controller:=servo_twist',)),
    'cartesian': (('controller:=cartesian',), ('controller:=cartesian_pose',)),
}


@dataclass(frozen=True)
class Step:
    """An action, the image [H, W, 3] uint8 RGB that it answers, and the hand's place [3] m."""

    action: VlaAction
    image: np.ndarray
    hand: np.ndarray


@dataclass
class Episode:
    """One attempt, as it was seen.

    Attributes:
        seed: Seed of the scene.
        instruction, kind: Instruction, and kind of its goal.
        reached: Whether the goal was reached within MAX_STEPS actions, none of which took too
            long.
        actions: Number of actions.
        steps: Actions whose image was received; sensor data may be lost.
        end: Position [3] m of the hand at the end.
    """

    seed: int
    instruction: str
    kind: str
    reached: bool = False
    actions: int = 0
    steps: list[Step] = field(default_factory=list)
    end: np.ndarray = field(default_factory=lambda: np.zeros(3))


class ClosedLoop:
    """A client that runs and watches episodes in a running simulation.

    Attributes:
        node: Node of the client.
    """

    def __init__(self, processes: list[subprocess.Popen], has_robot: bool = False) -> None:
        """Connect; every later wait fails if one of the processes has ended."""
        self.node = rclpy.create_node('closed_loop')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._processes = processes
        self._has_acted = False
        self._actions: list[VlaAction] = []
        self._images: dict[int, Image] = {}
        self._hands: dict[int, np.ndarray] = {}
        subscribe = self.node.create_subscription
        subscribe(VlaAction, 'policy/action', self._actions.append, 10)
        subscribe(Image, 'camera/image_raw', self._on_image, qos_profile_sensor_data)
        subscribe(PoseStamped, 'hand/pose', self._on_pose, 10)
        self._reset = self.node.create_client(Reset, 'sim/reset')
        self._success = self.node.create_client(Trigger, 'sim/success')
        self._enable = self.node.create_client(SetBool, 'robot/enable') if has_robot else None

    def _on_image(self, message: Image) -> None:
        self._images[stamp_of(message)] = message

    def _on_pose(self, message: PoseStamped) -> None:
        place = message.pose.position
        self._hands[stamp_of(message)] = np.array([place.x, place.y, place.z])

    def episode(self, seed: int, instruction: str = '') -> Episode:
        """Reset to the scene of a seed, and watch until success or MAX_STEPS actions.

        Raises:
            RuntimeError: The simulation refused, or a process ended.
            TimeoutError: A service did not answer, not even a first action came, or the robot
                could not be enabled.
        """
        # The hand is about to be put elsewhere, which no controller may fight against; the robot
        # node's last commands come after its answer.
        self._let_move(False)
        self._see_images(_SETTLING if self._enable else 0)
        begin = self.node.get_clock().now().nanoseconds
        answer = self._call(self._reset, Reset.Request(seed=seed, instruction=instruction))
        if not answer.success:
            raise RuntimeError(f'the simulation refused: {answer.message}')
        episode = Episode(seed, answer.instruction, answer.kind)
        for seen in (self._actions, self._images, self._hands):
            seen.clear()
        if self._enable:
            self._see_images(_SETTLING)  # and so does the robot node see where the hand is now
            begin = self._let_move(True)
        while not episode.reached and episode.actions < MAX_STEPS:
            try:
                patience = _THINKING if self._has_acted else _LOADING
                self._spin_until(lambda: self._actions, 'action', patience)
            except TimeoutError:
                if not self._has_acted:
                    raise
                break
            self._has_acted = True
            for action in self._actions:
                stamp = stamp_of(action)
                # An action for an earlier image or instruction may still arrive.
                if stamp > begin and action.instruction == episode.instruction:
                    episode.actions += 1
                    if stamp in self._images and stamp in self._hands:
                        image = to_rgb(self._images.pop(stamp))
                        episode.steps.append(Step(action, image, self._hands[stamp]))
            self._actions.clear()
            episode.reached = self._call(self._success, Trigger.Request()).success
        if self._enable and not episode.reached:
            self._see_images(_SETTLING)
            episode.reached = self._call(self._success, Trigger.Request()).success
        episode.end = self._hands[max(self._hands)]
        return episode

    def _let_move(self, moves: bool) -> int:
        """Enable or disable the robot, if there is one, and give the time [ns] of the request.

        It may take a while until a robot can be enabled.
        """
        deadline = time.monotonic() + _LOADING
        while True:
            begin = self.node.get_clock().now().nanoseconds
            if not self._enable:
                return begin
            answer = self._call(self._enable, SetBool.Request(data=moves))
            if answer.success:
                return begin
            if time.monotonic() > deadline:
                raise TimeoutError(f'the robot was not enabled: {answer.message}')
            self._executor.spin_once(timeout_sec=0.2)

    def _see_images(self, count: int) -> None:
        self._images.clear()
        self._spin_until(lambda: len(self._images) >= count, 'image')

    def _call(self, client: Any, request: Any) -> Any:
        self._spin_until(client.service_is_ready, f'service {client.srv_name}')
        future = client.call_async(request)
        self._spin_until(future.done, f'answer of {client.srv_name}')
        return future.result()

    def _spin_until(
        self, condition: Callable[[], Any], what: str, patience: float = _LOADING
    ) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            self._executor.spin_once(timeout_sec=0.2)
            dead = [process for process in self._processes if process.poll() is not None]
            if dead:
                raise RuntimeError(f'{dead[0].args[0]} ended with code {dead[0].returncode}')
            if time.monotonic() > deadline:
                raise TimeoutError(f'no {what} within {patience:.0f} s')

    def close(self) -> None:
        """Destroy the client's node."""
        self._executor.shutdown()
        self.node.destroy_node()


@contextmanager
def closed_loop(
    checkpoint: Path | None, robot: str = 'direct', changes: Sequence[str] = ()
) -> Iterator[ClosedLoop]:
    """Start the simulation, the policy node and perhaps the robot node; stop them at the end.

    Args:
        checkpoint: Checkpoint for the policy node; if None, no policy node starts and the caller
            must act.
        robot: Way from an action to the hand, a key of ROBOTS.
        changes: Parameters of the robot node, `name:=value`, that win over its preset.
    """
    # Use a separate domain, so that the actions move nothing else on the network.
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    of_sim, of_robot = ROBOTS[robot]
    commands = [_command('sim_node', of_sim)]
    if checkpoint is not None:
        # In lock-step nothing moves meanwhile.
        age = 'max_image_age:=5.0' if of_robot is None else 'max_image_age:=1.0'
        policy = _command('policy_node', (f'checkpoint:={checkpoint}', age))
        commands.append([*policy, '-r', 'image:=camera/image_raw'])
    if of_robot is not None:
        preset = Path(get_package_share_directory(_PACKAGE)) / 'config' / 'robots' / 'sim.yaml'
        commands.append(_command('robot_node', (*of_robot, *changes), preset))
    # A signal raises KeyboardInterrupt here, and not a shutdown below a running wait.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    processes: list[subprocess.Popen] = []
    loop = None
    try:
        with uninterrupted():
            processes += [subprocess.Popen(command) for command in commands]
        loop = ClosedLoop(processes, of_robot is not None)
        yield loop
    finally:
        for process in processes:
            process.terminate()  # and not SIGINT, at which a Python that just starts complains
        for process in processes:
            process.wait(timeout=30)
        if loop is not None:
            loop.close()
        rclpy.try_shutdown()


def _command(name: str, parameters: Sequence[str], preset: Path | None = None) -> list[str]:
    executable = Path(get_package_prefix(_PACKAGE)) / 'lib' / _PACKAGE / name
    words = [str(executable), '--ros-args', *_QUIET]
    if preset is not None:
        words += ['--params-file', str(preset)]
    return [*words, *(word for one in parameters for word in ('-p', one))]
