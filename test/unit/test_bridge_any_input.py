"""No sequence of inputs lets a command out that is outside its limits.

BRIDGE_EXAMPLES=2000 tries many more; BRIDGE_SHRINK=1 looks for the shortest that fails.
"""

import math
import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, RuleBasedStateMachine
import numpy as np
from robot_rig import DOWN, HOME, METRES, Oracle, Rig
from scipy.spatial.transform import Rotation

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.meaning import Meaning

ROOM = (0.2, -0.1, 0.1, 0.4, 0.1, 0.3)
LIMITED = {
    'max_tilt': 0.4,
    'keep_out_1': (0.33, -0.05, 0.1, 0.37, 0.05, 0.25),
    'max_gripper_rate': 2.0,
    'gripper_mode': 'continuous',
    'deadman_timeout': 0.3,
}
STREAMING = {'latency_compensation': True, 'max_acceleration': 0.5, 'stop_after': 0.3}
QUICK = {
    'max_speed': 2.0,
    'max_acceleration': 1000.0,
    'max_angular_speed': 3.0,
    'max_angular_acceleration': 1e4,
    'interpolation': 'hold',
    'leash': 0.3,
    'leash_angle': 1.0,
    'stop_after': 0.0,
    'max_errors': 0,
    'controller_timeout': 0.5,
}
ODD = [math.nan, math.inf, -math.inf, 1e300, -1e9, 0.0]
numbers = st.one_of(st.floats(-0.3, 0.3), st.floats(-0.05, 0.05), st.sampled_from(ODD))
small = st.floats(-0.05, 0.05)
KNOWN = [
    METRES,
    Meaning(1.0, 1.0, 'rotation_vector', 'measured', 'base', 'closed', 20.0),
    Meaning(1.0, 1.0, 'euler_xyz', 'bridge', 'base', 'open', 5.0),
]


class Anything(RuleBasedStateMachine):
    """A bridge that gets every kind of input in every order."""

    @initialize(which=st.sampled_from([LIMITED, STREAMING, QUICK]))
    def begin(self, which):
        self.rig = Rig(workspace=ROOM, **which)
        self.oracle = Oracle(self.rig.settings)
        self.passed = self.pose_at = self.pressed_at = -math.inf
        self.stopped = False
        self.revive()

    def hear_pose(self, pose, age=0.0, frame='base_link'):
        self.rig.bridge.hear_pose(pose, age, frame, self.rig.now)
        if frame == 'base_link' and pose.is_finite and age >= -0.05:
            self.pose_at = max(self.pose_at, self.rig.now - max(age, 0.0))

    def tick(self):
        """Ask for a command, and let the oracle judge it."""
        rig, now = self.rig, self.rig.now
        command = rig.bridge.tick(now)
        self.oracle.check(command, now)
        if command.state == 'moving':
            assert now - self.passed <= rig.settings.action_timeout
            assert command.report.image_age <= rig.settings.max_image_age
            assert now - self.pose_at <= rig.settings.max_pose_age + 1e-9
            if rig.settings.deadman_timeout:
                assert now - self.pressed_at <= rig.settings.deadman_timeout
            assert not self.stopped
        else:
            assert command.reason
        if command.pose is not None:
            rig.arm = command.pose

    def act(self, report):
        if report.state == 'moving' and report.verdict < 2:
            self.passed = self.rig.now

    def revive(self):
        """Give the bridge all that it needs to move, and ask it to."""
        self.deadman(True)
        self.rig.bridge.hear_controller('', self.rig.now)
        self.rig.bridge.hear_instruction('lift the cup', self.rig.now)
        for _ in range(7):  # as old as the image of the next action
            self.rig.now += 0.02
            self.hear_pose(self.rig.arm)
            self.tick()
        self.enable()
        self.tick()

    @rule(
        way=st.tuples(*[st.sampled_from([-1, 0, 1])] * 6),
        length=st.sampled_from([0.02, 0.05, 0.2]),
        openings=st.lists(st.floats(0, 1), min_size=1, max_size=5),
        ticks=st.integers(1, 14),
        meaning=st.sampled_from(KNOWN),
    )
    def push(self, way, length, openings, ticks, meaning):
        """Work as it should, in one direction, until it meets a limit."""
        self.revive()
        step = length * np.array(way)
        for opening in openings:
            self.deadman(True)
            self.rig.bridge.hear_controller('', self.rig.now)
            self.act(self.rig.act(*step, opening, meaning=meaning))
            for _ in range(ticks):
                self.rig.now += 0.02
                self.hear_pose(self.rig.arm)
                self.tick()

    @rule(
        ticks=st.integers(1, 40),
        seconds=st.sampled_from([0.005, 0.02, 0.1]),
        missing=st.sampled_from(['pose', 'deadman', 'controller', 'action', 'all']),
    )
    def silence(self, ticks, seconds, missing):
        """Let one input, or all, be silent while the robot moves."""
        for tick in range(ticks):
            self.rig.now += seconds
            if missing not in ('pose', 'all'):
                self.hear_pose(self.rig.arm)
            if missing not in ('deadman', 'all'):
                self.deadman(True)
            if missing not in ('controller', 'all'):
                self.rig.bridge.hear_controller('', self.rig.now)
            if missing not in ('action', 'all') and tick % 5 == 0:
                self.act(self.rig.act(0.02, 0.01, -0.02))
            self.tick()

    @rule(
        chunk=st.lists(st.lists(numbers, min_size=6, max_size=7), min_size=1, max_size=4),
        meaning=st.sampled_from([*KNOWN, Meaning()]),
        frame=st.sampled_from(['base_link', 'camera']),
        ages=st.tuples(
            st.sampled_from([0.0, 0.1, 0.9, 5.0, -1.0, math.nan]), st.sampled_from([0.0, 3.0])
        ),
        back=st.sampled_from([0, 0, 0, 1, 5]),
        forced=st.sampled_from([0, 0, 2]),
    )
    def odd_action(self, chunk, meaning, frame, ages, back, forced):
        chunk = [[*row[:6], row[-1]] for row in chunk]
        number = max(0, self.rig.sequence + 1 - back)
        report = self.rig.act(
            chunk=chunk,
            meaning=meaning,
            frame=frame,
            image_age=ages[0],
            age=ages[1],
            sequence=number,
            out_of_range=forced,
        )
        self.act(report)
        self.tick()

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.1, 0.3, 5.0, -0.01, -3.0]))
    def wait(self, seconds):
        if seconds < -0.05:  # every time before is worth nothing now
            self.passed = self.pose_at = self.pressed_at = -math.inf
        before, self.rig.now = self.rig.now, self.rig.now + seconds
        self.tick_at(before)

    def tick_at(self, before):
        # A reading that is a little out of order counts as the one before.
        now = self.rig.now
        if before - 0.05 <= now < before:
            self.rig.now = before
        self.tick()

    @rule(bad=st.sampled_from([math.nan, math.inf, -math.inf]))
    def no_time(self, bad):
        self.passed = self.pose_at = self.pressed_at = -math.inf
        command = self.rig.bridge.tick(bad)
        assert command.state != 'moving'
        self.oracle.check(command, self.rig.now)

    @rule(
        place=st.tuples(numbers, numbers, numbers),
        turn=st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3)),
        age=st.sampled_from([0.0, 0.05, 1.0, -1.0, math.nan]),
        frame=st.sampled_from(['base_link', 'base_link', 'odom']),
    )
    def odd_pose(self, place, turn, age, frame):
        pose = Pose(HOME.position + np.array(place), Rotation.from_rotvec(turn) * DOWN)
        self.hear_pose(pose, age, frame)
        self.tick()

    def deadman(self, pressed):
        self.rig.bridge.hear_deadman(pressed, self.rig.now)
        self.pressed_at = self.rig.now if pressed else -math.inf

    def enable(self):
        reason = self.rig.bridge.enable(self.rig.now)
        self.stopped = self.stopped and reason != ''

    @rule(order=st.sampled_from(['enable', 'stop', 'disable', 'release', 'blank', 'collision']))
    def order(self, order):
        """Do what people and controllers do, at any time."""
        bridge, now = self.rig.bridge, self.rig.now
        if order == 'enable':
            self.enable()
        elif order == 'stop':
            bridge.stop('a test', now)
            self.stopped = True
        elif order == 'disable':
            bridge.disable('a test', now)
        elif order == 'release':
            self.deadman(False)
        elif order == 'blank':
            bridge.hear_instruction(' ', now)
        else:
            bridge.hear_controller('collision', now)
        self.tick()


Anything.TestCase.settings = settings(
    max_examples=int(os.environ.get('BRIDGE_EXAMPLES', '60')),
    stateful_step_count=12,
    derandomize='BRIDGE_EXAMPLES' not in os.environ,
    deadline=None,
    database=None,
    # Shrinking a failure would take minutes.
    phases=list(Phase) if 'BRIDGE_SHRINK' in os.environ else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
test_no_sequence_of_inputs_lets_a_command_out_of_its_limits = Anything.TestCase
