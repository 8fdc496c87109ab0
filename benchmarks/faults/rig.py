"""The loop to break: simulation, drivers, policy node and robot node, each a process."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
import os
from pathlib import Path
import signal
import socket
import tempfile
import time
from types import TracebackType

from ament_index_python.packages import get_package_share_directory
from geometry_msgs.msg import PoseStamped, TwistStamped

from faults.judge import judge, Limits, Violation
from faults.observer import Observer, PATIENCE
from faults.processes import device, executable, Processes
from faults.recording import moves
from trt_openvla_ros.nodes.robot.presets import read_preset
from trt_openvla_ros.robot.settings import BridgeSettings

# Receiver of the commands: its name in the simulation, and type and topic of the commands.
_RECEIVERS = {
    'servo_twist': ('servo', TwistStamped, '/servo_node/delta_twist_cmds'),
    'cartesian_pose': ('cartesian', PoseStamped, '/cartesian_motion_controller/target_frame'),
}
_SPEED = 0.03  # [m/s] from which the hand is said to be on its way
_ACTIONS = 2  # actions of an episode before a fault, so that it meets a motion under way
_PORT = 20000  # of the server of actions, plus the ROS domain


@dataclass(frozen=True)
class Setup:
    """How a loop is built.

    Attributes:
        controller: Parameter of the robot node.
        devices: Further devices, by kind; camera and pose are always there.
        remote: Whether the policy node asks a server.
        robot: Parameters of the robot node, `name:=value`, that win over its preset.
        rules: Remappings of the robot node, `from:=to`.
    """

    controller: str = 'servo_twist'
    devices: tuple[str, ...] = ()
    remote: bool = False
    robot: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @property
    def has_clock(self) -> bool:
        """Whether time comes from /clock."""
        return any(name.startswith('clock') for name in self.devices)


class Rig:
    """A running loop. The robot node has the preset `sim`, changed as the setup says.

    Attributes:
        processes: sim, camera, pose, policy, robot, further devices, and server if remote.
        observer: Who watches.
        limits: Limits for the judge.
        instruction: Instruction of the episode.
    """

    def __init__(self, setup: Setup, domain: int, logs: Path | None = None) -> None:
        """Start everything.

        Raises:
            TimeoutError: Something did not come up.
        """
        self.setup = setup
        # Of the loop and of the observer alike: nothing outside of this machine may be moved.
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        kind, message, topic = _RECEIVERS[setup.controller]
        environment = {'ROS_DOMAIN_ID': str(domain)}
        share = Path(get_package_share_directory('trt_openvla_ros'))
        if 'flood' in setup.devices:  # as docs/node.md advises for large images
            profile = share / 'config' / 'fast_dds_images.xml'
            environment['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(profile)
        self.processes = Processes(
            environment, logs or Path(tempfile.mkdtemp(prefix='reliability_'))
        )
        self.observer: Observer | None = None
        self.instruction = ''
        self._seed, self._port = 0, _PORT + domain
        self._preset = share / 'config' / 'robots' / 'sim.yaml'
        self._checkpoint = share / 'models' / 'tiny_openvla'
        self.limits = self._limits()
        try:
            self.observer = Observer(domain, (message, topic))
            self._start(kind)
            self._connect()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Rig:
        """Give itself."""
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self.close()

    def _start(self, kind: str) -> None:
        time_of = ['-p', 'use_sim_time:=true'] if self.setup.has_clock else []
        for name in self.setup.devices:
            self.processes.start(name, device(name, '--ros-args', *_quiet()))
        common = ['--ros-args', *_quiet(), *time_of]
        rates = ['-p', f'controller:={kind}', '-p', 'controller_rate:=50.0']
        self.processes.start('sim', [executable('sim_node'), *common, *rates])
        for name in ('camera', 'pose'):
            stuck = name == 'pose' and 'stuck_pose' in self.setup.devices
            if not stuck:
                self.processes.start(name, device(name, *common))
        source = ['-p', f'checkpoint:={self._checkpoint}']
        if self.setup.remote:
            words = ['--checkpoint', str(self._checkpoint), '--port', str(self._port)]
            self.processes.start('server', [executable('deploy_server'), *words])
            self.observer.wait(self._is_served, f'server on port {self._port}', 3 * PATIENCE)
            source = ['-p', 'engine:=remote', '-p', f'remote_url:=http://127.0.0.1:{self._port}']
        policy = [*common, *source, '-p', 'max_image_age:=1.0', '-r', 'image:=driver/image']
        self.processes.start('policy', [executable('policy_node'), *policy])
        # The file goes first: rcl lets a parameter for every node lose against a later file.
        robot = ['--ros-args', *_quiet(), '--params-file', str(self._preset), *time_of]
        for word in self._changes():
            robot += ['-p', word]
        for rule in self.setup.rules:
            robot += ['-r', rule]
        self.processes.start('robot', [executable('robot_node'), *robot])

    def _is_served(self) -> bool:
        with socket.socket() as client:
            client.settimeout(1.0)
            return client.connect_ex(('127.0.0.1', self._port)) == 0

    def _changes(self) -> list[str]:
        # Servo tells its status, so its silence has a limit.
        status = ['controller_timeout:=0.2'] if 'servo' in self.setup.controller else []
        # The pose passes two processes in Python, on a machine where others want the processor.
        poses = ['pose_topic:=driver/pose', 'max_pose_age:=0.2']
        known = [f'controller:={self.setup.controller}', *poses, *status]
        return [*known, *self.setup.robot]

    def _limits(self) -> Limits:
        changes = dict(word.split(':=') for word in self._changes())
        made = read_preset('sim', overrides={'robot': changes}).robot
        settings: BridgeSettings = made.bridge
        ramp = settings.max_speed / settings.max_acceleration
        way = settings.leash / settings.max_speed if 'pose' in self.setup.controller else 0.0
        return Limits(
            **{
                name: getattr(settings, name)
                for name in (
                    *('max_speed', 'max_angular_speed', 'max_image_age', 'max_action_age'),
                    *('max_pose_age', 'action_timeout', 'workspace'),
                )
            },
            rate=made.rate,
            settle=ramp + way,
            by_stamps=not self.setup.has_clock,
        )

    def _connect(self) -> None:
        seen = self.observer.seen
        self.observer.wait(lambda: seen.poses and seen.images, 'pose and image')
        self.observer.wait(lambda: seen.reports, 'report of the robot node')
        self.wait_for_actions()

    def wait_for_poses(self) -> None:
        """Wait for the next pose.

        Raises:
            TimeoutError: None comes.
        """
        seen, begun = self.observer.seen, time.monotonic()
        self.observer.wait(lambda: seen.poses and seen.poses[-1].at > begun, 'pose')

    def wait_for_actions(self) -> None:
        """Wait for the next action, and repeat the instruction as a person would.

        Raises:
            TimeoutError: None comes.
        """
        observer, count = self.observer, len(self.observer.seen.actions)
        for _ in range(12):
            with suppress(TimeoutError):
                observer.wait(lambda: len(observer.seen.actions) > count, 'action', 5.0)
                return
            if self.instruction:
                observer.say(self.instruction)
            else:
                self.instruction = observer.reset(self._seed)
        raise TimeoutError(f'no action; the processes wrote to {self.processes.logs}')

    def begin(self, seed: int | None = None) -> None:
        """Begin an episode in a new scene, and wait until the hand is on its way.

        Args:
            seed: Seed of the scene; by default the next one, until one is found in which the hand
                moves.

        Raises:
            TimeoutError: It does not move in any of ten scenes.
        """
        observer = self.observer
        for _ in range(10):
            self._seed = self._seed + 1 if seed is None else seed
            observer.enable(False)
            self.instruction = observer.reset(self._seed)
            observer.seen.clear()
            observer.enable()
            try:
                observer.wait(self.is_on_its_way, 'motion', 6.0)
            except TimeoutError:
                ended = self.processes.ended()
                if ended:
                    raise RuntimeError(f'{", ".join(ended)} ended by itself') from None
            else:
                return
        raise TimeoutError('the hand does not move in any scene')

    def is_on_its_way(self) -> bool:
        """Tell whether the last commands move, and the policy has acted for a while."""
        seen = self.observer.seen
        if len(seen.actions) < _ACTIONS or self.observer.state != 'moving':
            return False
        last = seen.commands[-4:]
        if len(last) < 4 or not moves(last)[1:].all():
            return False
        if len(last[0].numbers) == 6:
            return sum(number**2 for number in last[-1].numbers[:3]) > _SPEED**2
        way = sum(
            (a - b) ** 2 for a, b in zip(last[-1].numbers[:3], last[0].numbers, strict=False)
        )
        return way > (_SPEED * 3.0 / self.limits.rate) ** 2

    def moves_again(self, patience: float = PATIENCE) -> bool:
        """Wait until the hand is on its way; tell whether it is in time."""
        try:
            self.observer.wait(self.is_on_its_way, 'motion', patience)
        except TimeoutError:
            return False
        return True

    def break_device(self, name: str) -> float:
        """Let a device go wrong; give the time."""
        return self.processes.send(name, signal.SIGUSR1)

    def mend_device(self, name: str) -> float:
        """Let a device be well again; give the time."""
        return self.processes.send(name, signal.SIGUSR2)

    def judge(self) -> list[Violation]:
        """Judge what was seen since the begin of the episode."""
        with self.observer.paused():
            return judge(self.observer.seen, self.limits)

    def close(self) -> None:
        """End all processes, and the observer."""
        self.processes.close()
        if self.observer is not None:
            self.observer.close()


def _quiet() -> tuple[str, str]:
    return '--log-level', 'warn'
