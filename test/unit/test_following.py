"""A pose that stands still, with fresh stamps, while the command moves."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.bridge import Bridge, IncomingAction
from trt_openvla_ros.robot.meaning import Meaning
from trt_openvla_ros.robot.settings import BridgeSettings

METRES = Meaning(1.0, 1.0, 'euler_xyz', 'measured', 'base', 'open', 5.0)
ROOM = (-1.0, -1.0, 0.0, 1.0, 1.0, 1.0)
HOME = Pose(np.array([0.0, 0.0, 0.5]), Rotation.identity())


def drive(steps, follows, seconds=3.0, period=10, **settings):
    """Drive an arm at 50 Hz by a step each `period` ticks, in turns.

    Returns:
        The bridge, the last command, and the way of an arm that is driven by poses or by twists.
    """
    bridge = Bridge(BridgeSettings(workspace=ROOM, **settings))
    arm, way, driven, last, command = HOME, 0.0, 0.0, HOME, None
    for tick in range(round(seconds * 50)):
        now = 100.0 + 0.02 * tick
        bridge.hear_pose(arm, 0.0, 'base_link', now)
        if tick == 0:
            assert bridge.enable(now) == ''
        if tick % period == 0:
            row = np.array([[*steps[tick // period % len(steps)], 1.0]])
            bridge.hear_action(
                IncomingAction(row, METRES, tick + 1, 'base_link', 0.05, 0.01), now + 0.001
            )
        command = bridge.tick(now + 0.002)
        way, last = way + np.linalg.norm(command.pose.position - last.position), command.pose
        driven += 0.02 * np.linalg.norm(command.twist[:3])
        if follows:
            arm = command.pose
    return bridge, command, max(way, driven)


BACK_AND_FORTH = [(0.03, 0, 0, 0, 0, 0), (-0.03, 0, 0, 0, 0, 0)]
TURNING = [(0, 0, 0, 0, 0, 0.15), (0, 0, 0, 0, 0, -0.15)]


@pytest.mark.parametrize(('steps', 'rule'), [(BACK_AND_FORTH, 'leash'), (TURNING, 'leash_angle')])
def test_a_pose_that_stands_still_stops_the_command(steps, rule):
    # Each step alone is within the leash, and the next one starts from the pose that is stuck.
    bridge, command, way = drive(steps, follows=False)
    assert command.state == 'stopped'
    assert 'stands still' in command.reason
    assert way < 2 * 0.05 + 0.03
    ruling = next(r for r in bridge.report(200.0).rulings if r.rule == rule)
    assert ruling.count == 1
    assert not command.twist.any()


@pytest.mark.parametrize('period', [5, 10, 35])  # the last one is slower than action_timeout
@pytest.mark.parametrize('length', [0.03, 0.05, 0.06])
def test_steps_in_one_direction_stop_too(period, length):
    # The command waits at the end of the leash, and a twist would drive the arm on and on.
    _, command, way = drive([(length, 0, 0, 0, 0, 0)], follows=False, seconds=8.0, period=period)
    assert command.state == 'stopped'
    assert 'stands still' in command.reason
    assert way < 2 * 0.05 + 0.03


@pytest.mark.parametrize('steps', [BACK_AND_FORTH, TURNING])
def test_an_arm_that_follows_is_let_alone(steps):
    assert drive(steps, follows=True)[1].state == 'moving'


def test_nothing_is_wrong_with_a_pose_that_stands_still_while_nothing_is_commanded():
    assert drive([(0, 0, 0, 0, 0, 0)], follows=False)[1].state == 'moving'


def test_enabling_begins_anew():
    bridge, command, _ = drive(BACK_AND_FORTH, follows=False)
    now = 300.0
    bridge.tick(now)
    bridge.hear_pose(command.pose, 0.0, 'base_link', now)
    assert bridge.enable(now) == ''
    bridge.hear_pose(command.pose, 0.0, 'base_link', now + 0.02)
    assert bridge.tick(now + 0.02).state == 'holding'
