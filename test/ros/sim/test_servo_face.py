"""What MoveIt Servo in front of the simulated arm takes, and what it does not."""

from commander import Commander, pose, twist
import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters

from trt_openvla_ros.sim.arm import REACH_HIGH

moveit_msgs = pytest.importorskip(
    'moveit_msgs.msg', reason='no moveit_msgs; make test builds what tests need of it'
)
STATUS = moveit_msgs.ServoStatus
TWISTS, POSES = 'servo_node/delta_twist_cmds', 'servo_node/pose_target_cmds'
MIDDLE = (0.0, 0.0, 0.12)
SEED = 1


@pytest.fixture
def servo(play):
    player = play(controller='servo', seed=SEED, rate=5.0)
    commander = Commander(player)
    commander.listen_to_status()
    return commander


def status(servo):
    """The newest code, published after this call."""
    servo.statuses.clear()
    servo.player.wait(lambda: servo.statuses, 'status of Servo')
    return servo.statuses[-1].code


def test_twist_is_metres_per_second_in_the_frame_it_names(servo):
    servo.switch('TWIST')
    upright = servo.place()[2]
    servo.stream(TWISTS, twist((0.0, 0.0, 0.05)))
    servo.moves_at((0.0, 0.0, 0.05), 0.006)
    assert status(servo) == STATUS.NO_WARNING
    assert servo.place()[2] > upright
    # The hand's axes are those of the base as long as it is upright. Turned by a right angle
    # about z, its x is the base's y.
    servo.stream(POSES, None)
    servo.switch('POSE')
    half = np.sqrt(0.5)
    servo.stream(POSES, pose(MIDDLE, (0.0, 0.0, half, half)))
    servo.player.wait(lambda: servo.player.poses[-1].pose.orientation.z > 0.705, 'turned hand')
    servo.switch('TWIST')
    servo.stream(TWISTS, twist((0.05, 0.0, 0.0), frame='hand'))
    servo.moves_at((0.0, 0.05, 0.0), 0.006)


def test_nothing_counts_before_its_type_was_switched_to(servo):
    start = servo.place()
    servo.stream(TWISTS, twist((0.1, 0.0, 0.0)))
    servo.warned('Command type has not been set')
    servo.switch('POSE')
    servo.run(0.2)
    np.testing.assert_allclose(servo.place(), start, atol=1e-3)
    servo.switch('TWIST')
    servo.player.wait(lambda: servo.place()[0] > start[0] + 0.02, 'motion')


def test_command_is_stale_after_a_tenth_of_a_second_unless_it_is_from_the_future(servo):
    servo.switch('TWIST')
    servo.stream(TWISTS, twist((0.1, 0.0, 0.0)))
    servo.player.wait(lambda: servo.speed(0.1)[0] > 0.05, 'motion')
    servo.stream(TWISTS, None)
    last = servo.place()
    servo.run(0.3)
    stopped = servo.place()
    assert stopped[0] - last[0] < 0.1 * 0.2
    servo.run(0.2)
    np.testing.assert_allclose(servo.place(), stopped, atol=1e-3)
    # So is one from before 1970, by a clock that was never set.
    oldest = twist((0.1, 0.0, 0.0))
    oldest.header.stamp.sec = -1
    publisher = servo.node.create_publisher(type(oldest), TWISTS, 10)
    servo.player.wait(publisher.get_subscription_count, 'Servo')
    publisher.publish(oldest)
    servo.run(0.2)
    np.testing.assert_allclose(servo.place(), stopped, atol=1e-3)
    # Its status is no evidence that commands arrive.
    assert status(servo) == STATUS.NO_WARNING
    servo.ahead = 0.5
    servo.publish(TWISTS, twist((-0.1, 0.0, 0.0)))
    servo.player.wait(lambda: servo.place()[0] < stopped[0] - 0.03, 'motion')


@pytest.mark.parametrize(
    ('topic', 'message'),
    [
        (TWISTS, twist((0.1, 0.0, 0.0), frame='')),
        (TWISTS, twist((0.1, 0.0, 0.0), frame='somewhere')),
        (TWISTS, twist((np.nan, 0.0, 0.0))),
        (TWISTS, twist((0.1, 0.0, 0.0), (0.0, np.inf, 0.0))),
        (POSES, pose(MIDDLE, frame='somewhere')),
        (POSES, pose((0.0, np.nan, 0.1))),
        (POSES, pose(MIDDLE, (0.0, 0.0, 0.0, 0.0))),
    ],
)
def test_invalid_command_moves_nothing_and_the_next_does(servo, topic, message):
    start = servo.place()
    servo.switch('TWIST' if topic == TWISTS else 'POSE')
    servo.stream(topic, message)
    servo.player.wait(lambda: status(servo) == STATUS.INVALID, 'status INVALID')
    np.testing.assert_allclose(servo.place(), start, atol=1e-3)
    good = twist((0.0, 0.0, 0.1)) if topic == TWISTS else pose(start + np.array((0.0, 0.0, 0.03)))
    servo.stream(topic, good)
    servo.player.wait(lambda: servo.place()[2] > start[2] + 0.02, 'motion')
    assert status(servo) == STATUS.NO_WARNING


def test_linear_and_angular_speed_are_capped_apart(servo):
    names = ['moveit_servo.scale.linear', 'moveit_servo.scale.rotational']
    answer = servo.call(
        GetParameters, 'servo_node/get_parameters', GetParameters.Request(names=names)
    )
    linear, rotational = (value.double_value for value in answer.values)
    servo.switch('POSE')
    servo.stream(POSES, pose((-0.15, -0.2, 0.12)))
    servo.player.wait(lambda: servo.place()[1] < -0.19, 'hand at the side')
    servo.switch('TWIST')
    servo.stream(POSES, None)
    servo.ahead = 10.0  # so that a busy machine does not halt the hand now and then
    servo.player.poses.clear()
    servo.publish(TWISTS, twist((0.0, 100.0, 0.0), (0.0, 0.0, 0.1)))
    servo.player.wait(lambda: servo.player.poses[-1:] and y_of(servo) > 0.1, 'hand at the other')
    poses = [m for m in servo.player.poses if -0.15 < m.pose.position.y < 0.1]
    times = np.array([m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in poses])
    places = np.array([m.pose.position.y for m in poses])
    assert np.median(np.diff(places) / np.diff(times)) == pytest.approx(linear, rel=0.15)
    turned = 2 * (poses[-1].pose.orientation.z - poses[0].pose.orientation.z)
    assert turned / (places[-1] - places[0]) == pytest.approx(0.1 / linear, rel=0.15)
    assert rotational > 0.1


def y_of(servo):
    return servo.player.poses[-1].pose.position.y


def test_paused_servo_is_silent_and_still(servo):
    servo.switch('TWIST')
    servo.stream(TWISTS, twist((0.1, 0.0, 0.0)))
    servo.player.wait(lambda: servo.speed(0.1)[0] > 0.05, 'motion')
    servo.pause(True)
    servo.run(0.1)
    servo.statuses.clear()
    start = servo.place()
    servo.run(0.3)
    assert not servo.statuses
    np.testing.assert_allclose(servo.place(), start, atol=1e-3)
    servo.pause(False)
    servo.player.wait(lambda: servo.place()[0] > start[0] + 0.02, 'motion')


def test_arm_halts_with_a_status_at_the_end_of_its_reach(servo):
    servo.switch('TWIST')
    servo.stream(TWISTS, twist((0.5, 0.1, 0.0)))
    servo.player.wait(lambda: status(servo) == STATUS.JOINT_BOUND, 'status JOINT_BOUND')
    servo.run(0.1)
    end = servo.place()
    servo.run(0.2)
    # A twist halts along every axis, within what one period of the controller is, and leads back.
    np.testing.assert_allclose(servo.place(), end, atol=8e-3)
    assert (servo.place() < REACH_HIGH).all()
    servo.stream(TWISTS, twist((-0.2, 0.0, 0.0)))
    servo.player.wait(lambda: servo.place()[0] < end[0] - 0.02, 'way back')
    assert status(servo) == STATUS.NO_WARNING


def test_pose_is_gone_to_and_reset_begins_anew(servo):
    servo.switch('POSE')
    servo.stream(POSES, pose(MIDDLE, (0.0, 0.0, 0.0, 7.0)))
    servo.player.wait(lambda: np.allclose(servo.place(), MIDDLE, atol=2e-3), 'hand there')
    servo.stream(POSES, None)
    servo.run(0.2)  # until the last one is stale; the reset does not make it so
    assert servo.player.reset(SEED + 1).success
    first = servo.player.next_image()
    np.testing.assert_allclose(
        servo.player.pose_of(servo.player.next_image()), servo.player.pose_of(first), atol=1e-3
    )
    assert 'steps since the reset' in servo.player.success().message
