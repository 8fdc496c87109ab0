"""The last check of every command, wherever it is wanted."""

import itertools
import math

from hypothesis import given, HealthCheck, Phase, settings
from hypothesis import strategies as st
import numpy as np
from robot_rig import DOWN, HOME, Oracle
from scipy.spatial.transform import Rotation

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.bridge import Command
from trt_openvla_ros.robot.settings import BridgeSettings
from trt_openvla_ros.safety.governor import Governor
from trt_openvla_ros.safety.space import Space

TIGHT = BridgeSettings(
    workspace=(0.2, -0.1, 0.1, 0.4, 0.1, 0.3),
    keep_out_1=(0.33, -0.05, 0.1, 0.37, 0.05, 0.25),
    max_tilt=0.4,
    max_acceleration=1.0,
    max_angular_acceleration=3.0,
    leash=1.0,
)
far = st.floats(-0.5, 0.5)
angle = st.floats(-2, 2)


@settings(
    max_examples=60,
    phases=[Phase.generate],  # shrinking a failure would take minutes
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    goals=st.lists(
        st.tuples(st.tuples(far, far, far), st.tuples(angle, angle, angle), st.integers(1, 30)),
        min_size=1,
        max_size=6,
    ),
    gaps=st.lists(
        st.sampled_from([0.001, 0.01, 0.02, 0.02, 0.05, 0.2, 0.0, 1.0, -1.0]),
        min_size=1,
        max_size=9,
    ),
)
def test_no_goal_and_no_clock_takes_the_command_out_of_its_limits(goals, gaps):
    governor, oracle, now, n = Governor(TIGHT, Space(TIGHT)), Oracle(TIGHT), 5.0, 0
    governor.start(HOME, now)

    def check():
        pose, twist = governor.pose, governor.twist
        oracle.check(Command('moving', '', pose, twist, None, None, 0, pose, None), now)

    check()
    for place, turn, ticks in goals:
        goal = Pose(HOME.position + np.array(place), Rotation.from_rotvec(turn) * DOWN)
        for _ in range(ticks):
            now, n = now + gaps[n % len(gaps)], n + 1
            governor.follow(goal, now)
            governor.steer((np.array(place), np.array(turn)))
            check()


def run(governor, goal, seconds=2.0):
    times = np.arange(1, round(seconds / 0.01) + 1) * 0.01
    return [governor.follow(goal, now) for now in times]


def test_command_arrives_without_passing_its_goal():
    free = BridgeSettings(workspace=(-1.0, -1.0, -1.0, 1.0, 1.0, 1.0))
    governor = Governor(free, Space(free))
    governor.start(HOME, 0.0)
    goal = HOME.moved(np.array([0.1, 0.0, 0.05]), np.array([0.0, 0.0, 0.3]))

    poses = run(governor, goal)

    left = [goal.position[0] - pose.position[0] for pose in poses]
    assert min(left) > -1e-9
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(left))
    assert poses[-1].distance(goal) < (1e-9, 1e-9)
    assert not governor.velocity.any()
    assert not governor.turning.any()
    # 0.112 m at 0.25 m/s with 2 m/s^2 takes 0.45 + 0.125 s.
    first = next(i for i, pose in enumerate(poses) if pose.distance(goal)[0] < 1e-4)
    assert 0.55 < 0.01 * first < 0.7


def test_keep_out_box_ends_the_way_before_it():
    settings = BridgeSettings(
        workspace=(0.0, -1.0, 0.0, 1.0, 1.0, 1.0), keep_out_1=(0.4, -0.1, 0.1, 0.5, 0.1, 0.3)
    )
    governor = Governor(settings, Space(settings))
    governor.start(HOME, 0.0)

    end = run(governor, HOME.moved(np.array([0.3, 0.0, 0.0]), np.zeros(3)))[-1]

    assert 0.39 < end.position[0] < 0.4
    assert governor.braked


def test_tool_turns_no_farther_than_the_cone():
    settings = BridgeSettings(workspace=(0.0, -1.0, 0.0, 1.0, 1.0, 1.0), max_tilt=0.5)
    governor = Governor(settings, Space(settings))
    governor.start(HOME, 0.0)

    end = run(governor, HOME.moved(np.zeros(3), np.array([1.5, 0.0, 0.0])))[-1]

    tilt = math.acos(-end.rotation.apply([0, 0, 1])[2])
    assert 0.49 < tilt <= 0.5 + 1e-9


def test_twist_dies_away_at_the_limit_of_acceleration():
    free = BridgeSettings(workspace=(-1.0, -1.0, -1.0, 1.0, 1.0, 1.0), max_acceleration=1.0)
    governor = Governor(free, Space(free))
    governor.start(HOME, 0.0)
    for tick in range(1, 60):
        governor.follow(HOME, 0.01 * tick)
        twist = governor.steer((np.array([9.0, 0, 0]), np.zeros(3)))
    assert twist[0] == 0.25
    after = []
    for tick in range(60, 100):
        governor.follow(HOME, 0.01 * tick)
        after.append(governor.steer(None)[0])
    np.testing.assert_allclose(-np.diff(after[:20]), 0.01, rtol=1e-6)
    assert after[30] == 0.0
