"""The simulation and a policy node in two processes, and a client that watches their topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import os
from pathlib import Path
import subprocess
import time
from typing import Any

from ament_index_python.packages import get_package_prefix
from geometry_msgs.msg import PoseStamped
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.conversions import to_rgb
from trt_openvla_ros.process import uninterrupted
from trt_openvla_ros.sim.world import MAX_STEPS
from trt_openvla_ros.srv import Reset

_PACKAGE = 'trt_openvla_ros'
_LOADING = 120.0  # [s] longest wait for the first action, and for every answer of a service
_THINKING = 15.0  # [s] longest wait for a further action; none comes if the model wrote none


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

    def __init__(self, processes: list[subprocess.Popen]) -> None:
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

    def _on_image(self, message: Image) -> None:
        self._images[_stamp(message)] = message

    def _on_pose(self, message: PoseStamped) -> None:
        place = message.pose.position
        self._hands[_stamp(message)] = np.array([place.x, place.y, place.z])

    def episode(self, seed: int, instruction: str = '') -> Episode:
        """Reset to the scene of a seed, and watch until success or MAX_STEPS actions.

        Raises:
            RuntimeError: The simulation refused, or a process ended.
            TimeoutError: A service did not answer, or not even a first action came.
        """
        begin = self.node.get_clock().now().nanoseconds
        answer = self._call(self._reset, Reset.Request(seed=seed, instruction=instruction))
        if not answer.success:
            raise RuntimeError(f'the simulation refused: {answer.message}')
        episode = Episode(seed, answer.instruction, answer.kind)
        for seen in (self._actions, self._images, self._hands):
            seen.clear()
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
                stamp = _stamp(action)
                # An action for an earlier image or instruction may still arrive.
                if stamp > begin and action.instruction == episode.instruction:
                    episode.actions += 1
                    if stamp in self._images and stamp in self._hands:
                        image = to_rgb(self._images.pop(stamp))
                        episode.steps.append(Step(action, image, self._hands[stamp]))
            self._actions.clear()
            episode.reached = self._call(self._success, Trigger.Request()).success
        episode.end = self._hands[max(self._hands)]
        return episode

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
def closed_loop(checkpoint: Path | None) -> Iterator[ClosedLoop]:
    """Start the simulation in lock-step and the policy node; stop both at the end.

    Args:
        checkpoint: Checkpoint for the policy node; if None, no policy node starts and the caller
            must act.
    """
    # Use a separate domain, so that the actions move nothing else on the network.
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    quiet = ['--ros-args', '--log-level', 'warn']
    executables = Path(get_package_prefix(_PACKAGE)) / 'lib' / _PACKAGE
    commands = [[str(executables / 'sim_node'), *quiet, '-p', 'rate:=0.0']]
    if checkpoint is not None:
        policy = [str(executables / 'policy_node'), *quiet, '-p', f'checkpoint:={checkpoint}']
        policy += ['-r', 'image:=camera/image_raw', '-p', 'max_image_age:=5.0']
        commands.append(policy)
    # A signal raises KeyboardInterrupt here, and not a shutdown below a running wait.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    processes: list[subprocess.Popen] = []
    loop = None
    try:
        with uninterrupted():
            processes += [subprocess.Popen(command) for command in commands]
        loop = ClosedLoop(processes)
        yield loop
    finally:
        for process in processes:
            process.terminate()  # and not SIGINT, at which a Python that just starts complains
        for process in processes:
            process.wait(timeout=30)
        if loop is not None:
            loop.close()
        rclpy.try_shutdown()


def _stamp(message: VlaAction | Image | PoseStamped) -> int:
    return Time.from_msg(message.header.stamp).nanoseconds
