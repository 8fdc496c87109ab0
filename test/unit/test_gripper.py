"""Openings: what the last number of a step becomes."""

import pytest

from trt_openvla_ros.robot.gripper import Gripper, to_opening
from trt_openvla_ros.robot.settings import BridgeSettings


def openings(asked, **settings):
    """Goals after each step that asks for an opening."""
    gripper = Gripper(BridgeSettings(**settings))
    goals = []
    for opening in asked:
        gripper.take(opening)
        goals.append(gripper.goal)
    return goals, gripper.changes


@pytest.mark.parametrize(
    ('meaning', 'opening'),
    [('open', 0.25), ('closed', 0.75), ('none', None), ('unknown', None)],
)
def test_sign(meaning, opening):
    assert to_opening(0.25, meaning) == opening


def test_hysteresis_closes_below_and_opens_above():
    goals, changes = openings([0.9, 0.5, 0.41, 0.39, 0.5, 0.59, 0.61])

    assert goals == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    assert changes == 3


@pytest.mark.parametrize(('first', 'goal'), [(0.45, 0.0), (0.55, 1.0)])
def test_first_step_takes_the_nearer_end(first, goal):
    assert openings([first]) == ([goal], 1)


def test_change_must_be_asked_for_in_a_row():
    goals, _ = openings([1, 0, 0, 1, 0, 0, 0, 1], gripper_confirm_steps=3)

    assert goals == [1, 1, 1, 1, 1, 1, 0, 0]


def test_sticky_gripper_keeps_a_change_as_google_robot_does():
    goals, changes = openings([1] * 20 + [0] + [1] * 16, gripper_sticky_steps=15)

    assert goals[19:] == [1] + [0] * 15 + [1, 1]
    assert changes == 3


def test_continuous_gripper_moves_in_steps_and_reaches_its_ends():
    goals, changes = openings([0.5, 0.51, 0.55, 0.99, 1.0], gripper_mode='continuous')

    assert goals == [0.5, 0.5, 0.55, 0.99, 1.0]
    assert changes == 4


def test_rate_limits_the_opening_and_not_the_goal():
    gripper = Gripper(BridgeSettings(max_gripper_rate=2.0))
    gripper.take(1.0)
    gripper.take(0.0)
    seen = []
    for _ in range(7):
        gripper.move(0.1)
        seen.append(round(gripper.opening, 9))

    assert seen == [0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0]
    assert (gripper.goal, gripper.changes) == (0.0, 2)
