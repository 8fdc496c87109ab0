"""What MoveIt Servo, FZI's and CRISP's controllers get, message by message."""

import sys

from fake_controllers import FakeServo
from geometry_msgs.msg import PoseStamped, TwistStamped
from moveit_msgs.msg import ServoStatus
from moveit_msgs.srv import ServoCommandType
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trt_openvla_ros.nodes.robot import servo as servo_module

TWISTS = (TwistStamped, '/servo_node/delta_twist_cmds')
SERVO = {'controller': 'servo_twist', 'controller_timeout': 0.5}


def linear(command):
    vector = command[1].twist.linear
    return np.array([vector.x, vector.y, vector.z])


def angular(command):
    vector = command[1].twist.angular
    return np.array([vector.x, vector.y, vector.z])


def is_zero(command):
    return not (linear(command).any() or angular(command).any())


@pytest.fixture
def servo(bench):
    """Make a servo node; arguments are those of FakeServo."""

    def make(**options):
        node = FakeServo(bench.context, **options)
        bench.spin(node)
        return node

    return make


def test_servo_is_unpaused_told_its_type_and_gets_metres_per_second(bench, servo):
    double = servo()
    cockpit = bench.start(TWISTS, **SERVO)
    assert double.calls == []  # nothing is asked of Servo before somebody enables the robot
    cockpit.enable()
    cockpit.wait(lambda: len(double.calls) == 2, 'calls')
    assert double.calls == [('pause', False), ('type', ServoCommandType.Request.TWIST)]
    cockpit.report(lambda r: r.state == 'holding' and 'waiting for an action' in r.reason)
    assert all(map(is_zero, cockpit.commands))

    # An arm that goes at the metres and radians per second that it is told.
    cockpit.follows = True
    before = Rotation.from_quat(cockpit.quaternion)

    cockpit.act((0.0, 0.01, 0.02, 0.0, 0.0, 0.1, 1.0))

    cockpit.state('moving')
    cockpit.state('holding')
    cockpit.wait(lambda: is_zero(cockpit.commands[-1]), 'zero')
    # A busy machine sends twists late; a wrong unit or period would be wrong by a factor.
    np.testing.assert_allclose(cockpit.position, [0.3, 0.01, 0.22], atol=1.2e-2)
    turn = (Rotation.from_quat(cockpit.quaternion) * before.inv()).as_rotvec()
    np.testing.assert_allclose(turn, [0.0, 0.0, 0.1], atol=3e-2)
    assert cockpit.commands[-1][1].header.frame_id == 'base_link'


def test_twists_are_sent_again_and_again(bench, servo):
    servo()
    cockpit = bench.start(TWISTS, **SERVO)
    cockpit.enable()
    cockpit.act_until(lambda: cockpit.commands and not is_zero(cockpit.commands[-1]), 'motion')
    begin = len(cockpit.commands)
    cockpit.state('holding')
    cockpit.wait(lambda: is_zero(cockpit.commands[-1]), 'zero')
    cockpit.wait(lambda: len(cockpit.commands) > begin + 60, 'zeros')
    arrivals = np.array([at for at, _ in cockpit.commands[begin:]])
    stamps = np.array(
        [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for _, m in cockpit.commands[begin:]]
    )
    # At 50 Hz, with the stamps of when they were sent; a busy machine may be late now and then.
    assert 0.015 <= np.median(np.diff(stamps)) <= 0.03
    assert np.diff(stamps).max() < 1.0
    assert np.ptp(arrivals - stamps) < 1.0


def test_servo_gets_zero_twists_at_the_end_and_then_nothing(bench, servo):
    servo()
    cockpit = bench.start(TWISTS, final_commands=2, **SERVO)
    cockpit.enable()
    cockpit.act_until(lambda: cockpit.commands and not is_zero(cockpit.commands[-1]), 'motion')

    cockpit.enable(on=False)

    cockpit.wait(lambda: all(map(is_zero, cockpit.commands[-2:])), 'zeros')
    counts = []
    for _ in range(3):  # what was under way arrives meanwhile
        sequence = cockpit.act()
        cockpit.report(lambda r, n=sequence: r.sequence == n)
        counts.append(len(cockpit.commands))
    assert counts[1] == counts[2]


def test_servo_gets_zero_twists_when_the_arm_ran_away(bench, servo):
    servo()
    cockpit = bench.start(TWISTS, **SERVO)
    cockpit.enable()
    cockpit.act_until(lambda: cockpit.commands and not is_zero(cockpit.commands[-1]), 'motion')

    cockpit.position = [*cockpit.position[:2], cockpit.position[2] + 0.15]

    cockpit.act_until(
        lambda: 'nothing is commanded' in cockpit.reports[-1].reason, 'end of the commands'
    )
    assert cockpit.reports[-1].state == 'stopped'
    cockpit.wait(lambda: all(map(is_zero, cockpit.commands[-3:])), 'zeros')


def test_servo_that_halts_holds_the_robot(bench, servo):
    double = servo()
    cockpit = bench.start(TWISTS, **SERVO)
    cockpit.enable()
    for name in ('HALT_FOR_COLLISION', 'JOINT_BOUND', 'INVALID'):
        double.code = ServoStatus.DECELERATE_FOR_COLLISION  # slower, and no reason to hold
        cockpit.act_until(lambda: cockpit.reports[-1].state == 'moving', 'motion')

        double.message, double.code = 'too near', getattr(ServoStatus, name)

        halts = f'Servo halts: {name} (too near)'
        report = cockpit.report(lambda r, halts=halts: halts in r.reason)
        assert report.state == 'holding'


def test_servo_that_was_silent_is_told_its_type_again_but_never_unpaused(bench, servo):
    double = servo()
    cockpit = bench.start(TWISTS, **SERVO)
    cockpit.enable()
    cockpit.follows = True
    cockpit.act_until(lambda: cockpit.commands and not is_zero(cockpit.commands[-1]), 'motion')

    double.silent = True
    cockpit.act_until(lambda: cockpit.reports[-1].state == 'holding', 'hold')
    cockpit.wait(lambda: '/servo_node/status is silent' in cockpit.reports[-1].reason, 'reason')

    double.silent = False
    cockpit.act_until(lambda: cockpit.reports[-1].state == 'moving', 'motion')
    switch = ('type', ServoCommandType.Request.TWIST)
    assert double.calls == [('pause', False), switch, switch]


def test_enable_begins_anew_with_a_servo_that_was_paused_until_the_stop(bench, servo):
    double = servo()
    cockpit = bench.start(TWISTS, **{**SERVO, 'stop_after': 0.3})
    cockpit.enable()
    cockpit.act_until(lambda: cockpit.commands and not is_zero(cockpit.commands[-1]), 'motion')

    double.paused = True
    cockpit.act_until(lambda: cockpit.reports[-1].state == 'stopped', 'stop')
    cockpit.enable()

    cockpit.act_until(lambda: cockpit.reports[-1].state == 'moving', 'motion')
    assert double.calls.count(('pause', False)) == 2


def test_servo_whose_units_are_not_told_is_refused(bench, servo):
    servo(units='')
    cockpit = bench.start(TWISTS, **SERVO)
    cockpit.enable()

    cockpit.report(lambda r: 'is not known' in r.reason)


def test_servo_in_unitless_is_refused(bench, servo):
    servo(units='unitless')
    cockpit = bench.start(TWISTS, **SERVO)
    cockpit.enable()

    report = cockpit.report(lambda r: 'unitless' in r.reason)

    assert 'set it to speed_units' in report.reason
    sequence = cockpit.act()
    report = cockpit.report(lambda r: r.sequence == sequence)
    assert cockpit.rule('controller', report).verdict
    assert all(map(is_zero, cockpit.commands))


def test_servo_that_caps_below_the_gate_is_told_of(bench, servo):
    servo(linear=0.2, rotational=0.8, timeout=0.02)
    cockpit = bench.start(TWISTS, **SERVO)
    cockpit.enable()
    cockpit.logged('moveit_servo.scale.linear is 0.2 m/s, and the gate allows 0.25')
    cockpit.logged('moveit_servo.scale.rotational is 0.8 rad/s, and the gate allows 1')
    cockpit.logged('incoming_command_timeout is 0.02 s')


def test_servo_takes_poses_too(bench, servo):
    double = servo()
    topic = '/servo_node/pose_target_cmds'
    cockpit = bench.start((PoseStamped, topic), controller='servo_pose', controller_timeout=0.5)
    cockpit.enable()

    cockpit.rise(0.23)

    assert double.calls == [('pause', False), ('type', ServoCommandType.Request.POSE)]
    turn = cockpit.commands[-1][1].pose.orientation
    assert np.linalg.norm([turn.x, turn.y, turn.z, turn.w]) == pytest.approx(1.0, abs=1e-9)


def test_servo_that_is_not_there_is_named(bench, monkeypatch):
    monkeypatch.setattr(servo_module, '_PATIENCE', 0.2)
    cockpit = bench.start(TWISTS, **SERVO)  # the recorder listens, but nobody answers
    cockpit.enable()
    cockpit.wait(lambda: 'is not there' in cockpit.reports[-1].reason, 'reason')
    assert '/servo_node/pause_servo' in cockpit.reports[-1].reason


def test_poses_lead_from_one_target_to_the_next(bench):
    cockpit = bench.start((PoseStamped, 'target_pose'), max_acceleration=100.0)
    cockpit.enable()
    cockpit.follows = True
    step = (0.01, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0)

    cockpit.act_until(lambda: len(cockpit.targets) > 4, 'targets', step)

    commands = [m.pose.position for _, m in cockpit.commands]
    ways = np.diff([[p.x, p.y, p.z] for p in commands], axis=0)
    moving = ways[np.linalg.norm(ways, axis=1) > 1e-6]
    # At most the speed of the step, 0.0224 m in 0.2 s, over the longest gap of a busy machine.
    assert np.linalg.norm(moving, axis=1).max() < 0.0224
    assert np.allclose(moving[1:-1, 0], moving[1:-1, 2] / 2, atol=1e-3)


def test_nobody_who_listens_means_no_motion(bench):
    cockpit = bench.start()
    answer = cockpit.call('enable', data=True)
    assert not answer.success
    assert 'nobody listens to /target_pose' in answer.message


def test_second_commander_is_named_and_stops_the_robot(bench):
    cockpit = bench.start((PoseStamped, 'target_pose'))
    cockpit.enable()
    cockpit.state('holding')

    rival = cockpit.node.create_publisher(PoseStamped, 'target_pose', 1)

    reason = cockpit.state('stopped').reason
    assert '/cockpit publishes on /target_pose too' in reason
    answer = cockpit.call('enable', data=True)
    assert not answer.success
    assert '/cockpit' in answer.message
    cockpit.node.destroy_publisher(rival)
    cockpit.enable()


@pytest.mark.parametrize(
    ('package', 'parameters', 'named'),
    [
        ('moveit_msgs', {'controller': 'servo_twist'}, 'controller servo_twist needs moveit_msgs'),
        ('control_msgs', {'gripper': 'gripper_command'}, 'gripper gripper_command needs control'),
        ('tf2_ros', {'pose_source': 'tf', 'tool_frame': 'hand'}, 'pose_source tf needs tf2_ros'),
    ],
)
def test_package_that_is_missing_is_named_with_the_way_out(
    bench, monkeypatch, package, parameters, named
):
    for module in [name for name in sys.modules if name.split('.')[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    for module in (package, f'{package}.msg', f'{package}.action'):
        monkeypatch.setitem(sys.modules, module, None)
    cockpit = bench.cockpit()
    bench.add(**parameters)

    assert not cockpit.transit('configure')

    cockpit.logged(named)
    cockpit.logged(f'ros-$ROS_DISTRO-{package.replace("_", "-")}')
    assert cockpit.call('get_state').current_state.label == 'unconfigured'
