"""The bridge: what it executes, what ends it, and what it says."""

import numpy as np
import pytest
from robot_rig import DOWN, HOME, METRES, Rig, TICK
from scipy.spatial.transform import Rotation

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.safety.verdicts import Verdict

FREE = {'max_speed': 1.0, 'max_acceleration': 1000.0, 'max_angular_acceleration': 1e4}


def near(pose, position, tolerance=1e-6):
    np.testing.assert_allclose(pose.position, position, atol=tolerance)


def test_nothing_is_commanded_before_enable():
    rig = Rig()
    report = rig.act(0.01)
    command = rig.run()

    assert (report.state, report.verdict) == ('disabled', Verdict.HOLD)
    assert 'not enabled' in rig.ruling('enabled').reason
    assert command.pose is None
    assert command.opening is None
    assert not command.twist.any()


@pytest.mark.parametrize(
    ('settings', 'prepare', 'reason'),
    [
        ({}, lambda rig: None, 'no pose was heard'),
        ({'workspace': (0.0,) * 6}, Rig.hear_pose, 'the workspace has no volume'),
        ({}, lambda rig: rig.hear_pose(frame='odom'), "the pose is in 'odom'"),
        ({}, lambda rig: rig.hear_pose(age=0.4), 'the pose is 0.400 s old'),
        ({}, lambda rig: rig.hear_pose(age=-0.4), '0.400 s in the future'),
        ({}, lambda rig: rig.hear_pose(HOME.moved([1, 0, 0], np.zeros(3))), 'x is 1.300 m'),
        ({'keep_out_2': (0.2, -1, 0, 0.4, 1, 1)}, Rig.hear_pose, 'in keep-out box 2'),
        ({'max_tilt': 0.1, 'upright_axis': (1.0, 0.0, 0.0)}, Rig.hear_pose, 'beyond max_tilt'),
        ({'deadman_timeout': 0.2}, Rig.hear_pose, 'the deadman is not pressed'),
        ({'controller_timeout': 0.2}, Rig.hear_pose, 'the controller was not heard'),
    ],
)
def test_enable_is_refused_with_a_sentence(settings, prepare, reason):
    rig = Rig(**settings)
    prepare(rig)

    assert reason in rig.bridge.enable(rig.now)
    assert rig.run().state == 'disabled'


@pytest.mark.parametrize(
    'settings',
    [
        {'workspace': (1.0, 0, 0, 0.0, 1, 1)},
        {'keep_out_3': (1.0, 0, 0, 0.0, 1, 1)},
        {'tool_axis': (0.0, 0.0, 0.0)},
        {'gripper_close_below': 0.7},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings):
    with pytest.raises(ConfigError):
        Rig(**settings)


def test_step_is_executed_once_within_its_period():
    rig = Rig(**FREE).enabled()
    rig.act(0.04, 0.0, 0.02)

    near(rig.run(0.1).pose, [0.32, 0.0, 0.21])
    command = rig.run(0.1)

    near(command.pose, [0.34, 0.0, 0.22])
    assert (command.state, command.reason) == ('moving', '')
    near(command.target, [0.34, 0.0, 0.22])
    near(rig.run(0.1).pose, [0.34, 0.0, 0.22])
    assert not rig.command.twist.any()


def test_hold_commands_the_target_at_once():
    rig = Rig(**{**FREE, 'max_speed': 10.0, 'max_step': 0.5}, interpolation='hold').enabled()
    rig.act(0.04)

    near(rig.run().pose, [0.34, 0.0, 0.2])


def test_early_step_starts_from_the_interpolated_command_and_from_the_old_target():
    rig = Rig(**FREE).enabled()
    rig.act(0.04)
    before = rig.run(0.1).pose
    rig.act(0.0, 0.04)

    moved = rig.run().pose.position - before.position

    assert np.linalg.norm(moved) < 0.05 * TICK / 0.2 * 1.01  # no jump
    near(rig.run(0.2).pose, [0.34, 0.04, 0.2])


def test_each_number_is_applied_once():
    rig = Rig(**FREE).enabled()
    rig.act(0.04)
    rig.run(0.1)

    report = rig.act(0.04, sequence=rig.sequence)

    assert report.verdict is Verdict.HOLD
    assert rig.ruling('sequence').reason == 'action 1 came after action 1'
    assert rig.run(1.0).pose.position[0] < 0.33


@pytest.mark.parametrize('reference', ['target', 'measured'])
def test_reference_of_a_blocked_arm(reference):
    rig = Rig(**FREE, reference=reference, leash=0.2, max_step=0.1).enabled()
    for _ in range(3):
        rig.act(0.03)
        rig.run(0.2, follow=False)

    assert rig.command.target.position[0] == pytest.approx(
        0.3 + (0.09 if reference == 'target' else 0.03)
    )


def test_target_that_runs_away_is_bounded_and_starts_from_the_arm_again():
    rig = Rig(**FREE, leash=0.05).enabled()
    for number in range(3):
        # It is held by something, and trembles: a pose that never changes is another fault.
        rig.arm = HOME.moved([0.0, 1e-5 * number, 0.0], np.zeros(3))
        rig.hear_pose()
        rig.act(0.03)
        command = rig.run(0.2, follow=False)
        assert command.pose.position[0] <= 0.35 + 1e-9

    assert command.target.position[0] == pytest.approx(0.33)  # 0.36 was too far
    assert rig.ruling('leash').count >= 1
    assert command.state == 'moving'


@pytest.mark.parametrize(
    ('every', 'delay', 'lag'), [(1, 0, 0.0), (1, 3, 0.0), (5, 1, 0.05), (5, 3, 0.08)]
)
def test_arm_that_follows_twists_stays_inside_although_its_pose_is_late(every, delay, lag):
    rig = Rig(twist_gain=4.0, max_pose_age=0.3).enabled()
    velocity, places = np.zeros(3), [HOME.position]
    for tick in range(200):
        if tick % 10 == 0:
            rig.act(0.0, 0.05)
        rig.now += TICK
        twist = rig.bridge.tick(rig.now).twist[:3]
        velocity = velocity + (twist - velocity) * (min(1.0, TICK / lag) if lag else 1.0)
        places.append(places[-1] + velocity * TICK)
        if tick % every == 0:
            late = places[max(0, len(places) - 1 - delay)]
            rig.hear_pose(Pose(late, HOME.rotation), age=delay * TICK)

    farthest = max(place[1] for place in places)
    edge = rig.settings.workspace[4]
    assert edge - 0.01 < farthest < edge + 0.0015
    assert rig.bridge.report(rig.now).state == 'moving'


def test_arm_that_is_moved_by_hand_stops():
    rig = Rig().enabled()
    rig.act(0.02)
    rig.run(0.1)
    rig.arm = HOME.moved([0.0, 0.2, 0.0], np.zeros(3))
    rig.hear_pose()

    command = rig.run(follow=False)

    assert command.state == 'stopped'
    assert rig.ruling('leash').verdict is Verdict.STOP
    assert 'disable, and enable again' in rig.bridge.enable(rig.now)
    rig.bridge.disable('a test', rig.now)
    assert rig.bridge.enable(rig.now) == ''


def test_latency_compensation_starts_where_the_arm_was_at_the_image():
    for on, end in ((False, 0.06), (True, 0.05)):
        rig = Rig(**FREE, reference='measured', latency_compensation=on).enabled()
        rig.run(0.2)
        rig.act(0.04)
        rig.run(0.1)  # 0.02 m of it
        rig.act(0.04, image_age=0.05)  # 0.01 m of which the image saw

        near(rig.run(0.2).pose, [0.3 + end, 0.0, 0.2], 1e-4)


def test_chunk_streams_at_the_control_rate_and_a_new_one_replaces_it():
    rig = Rig(**FREE).enabled()
    rig.act(chunk=[[0.02, 0, 0, 0, 0, 0, 1], [0, 0.02, 0, 0, 0, 0, 1], [0, 0, 0.02, 0, 0, 0, 0]])

    near(rig.run(0.2).pose, [0.32, 0, 0.2])
    near(rig.run(0.2).pose, [0.32, 0.02, 0.2])
    assert rig.run(0.1).opening == 0.0
    near(rig.command.pose, [0.32, 0.02, 0.21])
    rig.act(chunk=[[-0.02, 0, 0, 0, 0, 0, 1]] * 2)
    near(rig.run(0.2).pose, [0.30, 0.02, 0.22])


def test_steps_of_a_chunk_whose_time_has_passed_are_left_out():
    rig = Rig(**FREE, latency_compensation=True).enabled()
    rig.run(0.5)
    steps = [[0.02, 0, 0, 0, 0, 0, 1], [0, 0.02, 0, 0, 0, 0, 1], [0, 0, 0.02, 0, 0, 0, 1]]

    rig.act(chunk=steps, image_age=0.45)

    # Two are over; the third leads to where all three would have led.
    near(rig.run(0.2).pose, [0.32, 0.02, 0.22])


@pytest.mark.parametrize(('share', 'gain'), [(1.0, 4.0), (0.7, 4.0), (0.7, 0.0)])
def test_twist_arrives_although_a_controller_loses_some_of_it(share, gain):
    rig = Rig(twist_gain=gain, reference='target').enabled()
    for tick in range(80):
        if tick % 10 == 0 and tick < 50:
            rig.act(0.03, 0.0, 0.0, 0.0, 0.0, 0.05)
        command = rig.run(TICK, follow=False)
        twist = share * command.twist * TICK
        rig.arm = rig.arm.moved(twist[:3], twist[3:])

    missing = 0.45 - rig.arm.position[0]
    if gain:
        assert abs(missing) < 0.01
    else:
        assert missing > 0.03  # what the controller lost stays lost
    assert not command.twist.any()


def test_turning_is_about_the_position():
    rig = Rig(**FREE, max_angular_speed=3.0).enabled()
    rig.act(0.0, 0.0, 0.0, 0.0, 0.0, 0.3)

    pose = rig.run(0.2).pose

    near(pose, HOME.position)
    expected = Pose(HOME.position, Rotation.from_rotvec([0, 0, 0.3]) * DOWN)
    assert pose.distance(expected)[1] < 1e-6
    assert METRES.rotation == 'euler_xyz'
