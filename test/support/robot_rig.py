"""A bridge with a clock, an arm and an oracle that knows nothing of how the bridge works."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.bridge import Bridge, IncomingAction
from trt_openvla_ros.robot.meaning import Meaning
from trt_openvla_ros.robot.settings import BridgeSettings

METRES = Meaning(1.0, 1.0, 'euler_xyz', 'target', 'base', 'open', 5.0, 'a test')
# The tool points down, as a gripper over a table does.
DOWN = Rotation.from_euler('xyz', [math.pi, 0.0, 0.0])
HOME = Pose(np.array([0.3, 0.0, 0.2]), DOWN)
ROOM = (0.0, -0.4, 0.0, 0.8, 0.4, 0.6)
TICK = 0.02  # [s]


class Rig:
    """A bridge, its clock, and an arm that is always where it was commanded to be."""

    def __init__(self, **settings):
        """Make a bridge with a workspace; settings are those of the bridge."""
        self.settings = BridgeSettings(**{'workspace': ROOM, **settings})
        self.bridge = Bridge(self.settings)
        self.now, self.sequence, self.arm = 10.0, 0, HOME
        self.command = None

    def enabled(self):
        """Enable, with the arm at HOME."""
        self.hear_pose()
        assert self.bridge.enable(self.now) == ''
        return self

    def hear_pose(self, pose=None, age=0.0, frame='base_link'):
        self.bridge.hear_pose(pose or self.arm, age, frame, self.now)

    def act(self, *numbers, chunk=None, meaning=METRES, **changes):
        """Send a step: x, y, z, roll, pitch, yaw, gripper, the last ones 0 and the gripper 1."""
        self.sequence += 1
        row = [*numbers, *[0.0] * (6 - len(numbers)), 1.0][:7] if len(numbers) < 7 else numbers
        steps = np.array([row] if chunk is None else chunk, np.float64)
        facts = {'sequence': self.sequence, 'frame': 'base_link', 'image_age': 0.1, 'age': 0.0}
        action = IncomingAction(steps, meaning, **(facts | changes))
        return self.bridge.hear_action(action, self.now)

    def run(self, seconds=TICK, follow=True):
        """Tick for some time; the arm follows the command, or stands still."""
        for _ in range(max(1, round(seconds / TICK))):
            self.now += TICK
            self.command = self.bridge.tick(self.now)
            if follow and self.command.pose is not None:
                self.arm = self.command.pose
            self.hear_pose()
        return self.command

    def ruling(self, name):
        """What a rule says now."""
        return next(r for r in self.bridge.report(self.now).rulings if r.rule == name)


class Oracle:
    """Checks every command by its own arithmetic, from the settings and the times alone."""

    def __init__(self, settings: BridgeSettings) -> None:
        """Take the limits."""
        self.s = settings
        self.low, self.high = np.array(settings.workspace[:3]), np.array(settings.workspace[3:])
        self.last = None  # time, command
        self.velocity = (np.zeros(3), np.zeros(3))
        self.entered = None  # state, position

    def check(self, command, now: float) -> None:
        """Raise AssertionError if a command must not go out."""
        twist = command.twist
        assert np.isfinite(twist).all()
        assert np.linalg.norm(twist[:3]) <= self.s.max_speed * (1 + 1e-9)
        assert np.linalg.norm(twist[3:]) <= self.s.max_angular_speed * (1 + 1e-9)
        if command.state == 'disabled':
            assert command.pose is None
            assert command.opening is None
            assert not twist.any()
        if command.pose is None:
            assert not twist.any()
            self.last, self.entered = None, None
            self.velocity = (np.zeros(3), np.zeros(3))
            return
        self._check_place(command.pose)
        if self.last is not None:
            self._check_change(self.last[1], command, now - self.last[0])
        self._check_rest(command)
        self.last = now, command

    def _check_place(self, pose: Pose) -> None:
        place = pose.position
        assert np.isfinite(place).all()
        assert np.isfinite(pose.quaternion).all()
        assert (place >= self.low - 1e-6).all()
        assert (place <= self.high + 1e-6).all()
        assert not self._is_kept_out(place)
        if self.s.max_tilt:
            axis = pose.rotation.apply(self.s.tool_axis)
            tilt = math.acos(np.clip(axis @ np.array(self.s.upright_axis), -1, 1))
            assert tilt <= self.s.max_tilt + 1e-6

    def _is_kept_out(self, place: np.ndarray) -> bool:
        low, high = np.array(self.s.keep_out_1[:3]), np.array(self.s.keep_out_1[3:])
        return bool((place > low + 1e-6).all() and (place < high - 1e-6).all())

    def _check_change(self, before, command, seconds: float) -> None:
        way = command.pose.position - before.pose.position
        turn = (command.pose.rotation * before.pose.rotation.inv()).as_rotvec()
        for part in np.linspace(0, 1, 5):
            assert not self._is_kept_out(before.pose.position + part * way)
        if not (0.0 < seconds <= self.s.max_tick_gap):
            # The clock jumped or stands: nothing moves.
            assert np.linalg.norm(way) < 1e-9
            assert np.linalg.norm(turn) < 1e-7
            if seconds != 0.0:
                self.velocity = (np.zeros(3), np.zeros(3))
                assert np.linalg.norm(command.twist) < 1e-12
            return
        velocity = way / seconds, turn / seconds
        change = command.twist - before.twist
        for one, old, part, top, most in zip(
            velocity,
            self.velocity,
            (change[:3], change[3:]),
            (self.s.max_speed, self.s.max_angular_speed),
            (self.s.max_acceleration, self.s.max_angular_acceleration),
            strict=True,
        ):
            slack = 1e-9 / seconds + 1e-6
            assert np.linalg.norm(one) <= top + slack
            assert np.linalg.norm(one - old) <= most * seconds + 2 * slack
            assert np.linalg.norm(part) <= most * seconds + slack
        self.velocity = velocity
        if before.opening is not None and command.opening is not None:
            assert 0.0 <= command.opening <= 1.0
            if self.s.max_gripper_rate:
                moved = abs(command.opening - before.opening)
                assert moved <= self.s.max_gripper_rate * seconds + 1e-9

    def _check_rest(self, command) -> None:
        """A robot that holds stays near where it began to, and keeps its gripper."""
        state = 'moving' if command.state == 'moving' else 'still'
        if self.entered is None or state == 'moving' or self.entered[0] != state:
            self.entered = state, command.pose.position, command.opening
        if state == 'still':
            brake = self.s.max_speed**2 / (2 * self.s.max_acceleration)
            away = np.linalg.norm(command.pose.position - self.entered[1])
            assert away <= 2 * self.s.leash + brake + 1e-6
            assert command.opening == self.entered[2]
