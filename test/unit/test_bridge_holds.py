"""What makes the bridge hold or stop, and when."""

import math

import numpy as np
import pytest
from robot_rig import HOME, Rig, TICK

from trt_openvla_ros.safety.verdicts import Verdict

FREE = {'max_speed': 1.0, 'max_acceleration': 1000.0, 'max_angular_acceleration': 1e4}


def near(pose, position, tolerance=1e-6):
    np.testing.assert_allclose(pose.position, position, atol=tolerance)


def hears(**silent):
    """Work for a second with some inputs silent; give the commands with their times."""
    rig = Rig(deadman_timeout=0.3, controller_timeout=0.3)
    rig.bridge.hear_deadman(True, rig.now)
    rig.bridge.hear_controller('', rig.now)
    rig.enabled()
    commands, begin = [], rig.now
    for tick in range(75):
        rig.now += TICK
        quiet = tick >= 25  # what is silent is so after half a second
        if not (quiet and silent.get('pose')):
            rig.hear_pose()
        if not (quiet and silent.get('deadman')):
            rig.bridge.hear_deadman(True, rig.now)
        if not (quiet and silent.get('controller')):
            rig.bridge.hear_controller('', rig.now)
        if tick % 10 == 0 and not (quiet and silent.get('policy')):
            old = 0.1 + quiet * silent.get('camera', 0) * (tick - 24) * TICK
            rig.act(0.005, 0.0, 0.002, image_age=old)
        commands.append((rig.now - begin, rig.bridge.tick(rig.now)))
        rig.arm = commands[-1][1].pose
    return commands


@pytest.mark.parametrize(
    ('what', 'limit', 'reason'),
    [
        ('pose', 0.5 + 0.1, 'the pose is'),
        ('deadman', 0.5 + 0.3, 'the deadman was not heard'),
        ('controller', 0.5 + 0.3, 'the controller was not heard'),
        ('policy', 0.42 + 0.5, 'no action passed for'),
    ],
)
def test_silence_holds_within_a_tick_of_its_limit(what, limit, reason):
    commands = hears(**{what: True})

    held = next(at for at, command in commands if command.state == 'holding')
    assert limit - TICK < held <= limit + 2 * TICK
    after = [command for at, command in commands if at >= held]
    assert all(command.state == 'holding' for command in after[:10])
    assert after[0].reason.startswith(reason)
    # At rest within the time of braking, at 2 m/s^2 from 0.03 m/s.
    assert not after[3].twist.any()
    assert after[-1].pose.distance(after[3].pose) == (0.0, 0.0)


def test_camera_that_is_silent_holds():
    commands = hears(camera=1)

    last = commands[-1][1]
    assert 'the image is 1.020 s old' in last.reason
    rig = Rig(max_image_age=0.3).enabled()
    rig.act(0.01, image_age=0.2)
    assert rig.run(0.1).state == 'moving'
    assert rig.run(TICK).reason == 'the age of the image is 0.320 s'


def test_nothing_silent_goes_on():
    assert all(command.state == 'moving' for _, command in hears())


def test_silence_that_lasts_is_a_stop_until_enabled_again():
    rig = Rig(stop_after=0.4).enabled()
    rig.act(0.02)
    rig.run(0.2)
    assert rig.run(0.5).state == 'holding'
    command = rig.run(0.4)

    assert command.state == 'stopped'
    assert 'no action passed for 0.5' in command.reason
    assert rig.ruling('policy').verdict is Verdict.STOP
    assert rig.act(0.02).state == 'stopped'
    assert rig.bridge.enable(rig.now) == ''
    assert rig.act(0.02).state == 'moving'


def test_waiting_for_the_first_action_is_no_fault():
    assert Rig(stop_after=0.1).enabled().run(3.0).state == 'holding'


def test_blank_instruction_holds_at_once_and_is_no_fault():
    rig = Rig(stop_after=0.1).enabled()
    rig.bridge.hear_instruction('lift the cup', rig.now)
    rig.act(0.02)
    rig.run(0.1)

    rig.bridge.hear_instruction(' ', rig.now)

    assert rig.run().state == 'holding'
    assert rig.act(0.02).reason == 'the instruction is blank'
    assert rig.run(2.0).state == 'holding'
    rig.bridge.hear_instruction('lift it', rig.now)
    assert rig.run().reason == 'waiting for an action'
    assert rig.act(0.02).state == 'moving'


def test_deadman_and_controller_hold_and_release():
    rig = Rig(deadman_timeout=0.5)
    rig.bridge.hear_deadman(True, rig.now)
    rig.enabled()
    for hear, hold, release in (
        (rig.bridge.hear_deadman, False, True),
        (rig.bridge.hear_controller, 'HALT_FOR_COLLISION', ''),
    ):
        rig.bridge.hear_deadman(True, rig.now)
        assert rig.act(0.01).state == 'moving'
        hear(hold, rig.now)
        assert rig.run().state == 'holding'
        hear(release, rig.now)
        assert rig.run().reason == 'waiting for an action'


def test_hold_is_at_the_measured_pose_with_the_gripper_unchanged():
    rig = Rig(**FREE).enabled()
    rig.act(0.04, 0, 0, 0, 0, 0, 0.0)
    rig.run(0.1, follow=False)
    assert rig.command.opening == 0.0

    rig.bridge.hear_controller('JOINT_BOUND', rig.now)

    near(rig.run(0.2, follow=False).pose, HOME.position)
    assert rig.command.opening == 0.0


def test_hold_brakes_where_it_is_if_the_pose_is_lost_or_doubtful():
    rig = Rig().enabled()
    rig.act(0.05)
    rig.run(0.1)
    rig.now += 0.15  # no pose
    held = rig.bridge.tick(rig.now)

    assert held.state == 'holding'
    assert rig.run(0.5, follow=False).pose.distance(held.pose)[0] < 0.25**2 / (2 * 2.0)


@pytest.mark.parametrize('jump', [-5.0, 5.0, math.nan, math.inf])
def test_clock_that_jumps_holds_until_all_is_heard_again(jump):
    rig = Rig().enabled()
    rig.act(0.05)
    before = rig.run(0.1)

    rig.now += jump if math.isfinite(jump) else 0.0
    command = rig.bridge.tick(rig.now if math.isfinite(jump) else jump)

    assert command.state == 'holding'
    assert command.pose.distance(before.pose) == (0.0, 0.0)
    assert rig.ruling('clock').count == 1
    rig.run(0.2)
    assert rig.act(0.01).state == 'moving'


def test_stop_is_latched_and_disable_commands_nothing():
    rig = Rig().enabled()
    rig.act(0.02)
    rig.run(0.1)
    rig.bridge.stop('the red button', rig.now)

    command = rig.run(1.0)
    assert (command.state, command.reason) == ('stopped', 'the red button')
    assert command.pose is not None
    assert rig.act(0.02).state == 'stopped'
    rig.bridge.disable('asked to', rig.now)
    assert rig.run().pose is None


def test_stop_commands_nothing_once_the_arm_was_moved_by_something_else():
    rig = Rig(leash=0.05).enabled()
    rig.act(0.02)
    rig.run(0.1)
    rig.bridge.stop('a person said so', rig.now)
    assert rig.run(0.3).pose is not None

    rig.arm = HOME.moved(np.array([0.0, 0.3, 0.0]), np.zeros(3))
    rig.hear_pose()
    command = rig.run(follow=False)

    assert (command.state, command.pose) == ('stopped', None)
    assert not command.twist.any()
    assert command.reason.endswith('far from the pose that was held: nothing is commanded')
    assert rig.bridge.enable(rig.now) == ''
    near(rig.run().pose, rig.arm.position)


def test_arm_that_runs_away_gets_a_twist_that_dies_away():
    rig = Rig(leash=0.05).enabled()
    rig.act(0.05)
    before = rig.run(0.2, follow=False).twist
    rig.arm = HOME.moved(np.array([0.3, 0.0, 0.0]), np.zeros(3))
    rig.hear_pose()

    twists = [before]
    while (command := rig.run(follow=False)).pose is not None:
        assert command.state == 'stopped'
        twists.append(command.twist)

    assert 'does not follow the command' in command.reason
    assert not twists[-1].any()
    change = np.linalg.norm(np.diff(twists, axis=0)[:, :3], axis=1)
    assert 3 < len(twists) < 20
    assert change.max() <= rig.settings.max_acceleration * TICK + 1e-9


def test_steps_add_up_after_the_clock_went_back_in_a_stop():
    rig = Rig(**FREE).enabled()
    rig.act(0.01)
    rig.run(0.2)
    rig.bridge.stop('a test', rig.now)
    rig.now -= 5.0
    rig.run(0.1)
    assert rig.bridge.enable(rig.now) == ''
    begin = rig.arm.position[0]

    for _ in range(3):
        rig.act(0.02)
        rig.run(0.2)

    assert rig.command.target.position[0] == pytest.approx(begin + 0.06)


def test_chunk_that_outlasts_the_silence_of_the_policy_is_executed_to_its_end():
    rig = Rig(action_timeout=0.3, max_image_age=5.0, **FREE).enabled()

    rig.act(chunk=[[0.01, 0, 0, 0, 0, 0, 1]] * 8)
    assert rig.run(1.6).state == 'moving'
    assert rig.run(0.2).reason.startswith('no action passed for')

    near(rig.command.pose, HOME.position + np.array([0.08, 0.0, 0.0]), 1e-3)
