"""Enable, disable, stop, deadman and silence, as an operator and a controller see them."""

from cockpit import METRES
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
import numpy as np
import pytest
from rosgraph_msgs.msg import Clock

from trt_openvla_ros.msg import GateRule

POSES = (PoseStamped, 'target_pose')


def height(command):
    return command[1].pose.position.z


def seconds(stamp):
    return stamp.sec + 1e-9 * stamp.nanosec


def longest_tick(cockpit):
    """Longest time [s] from one command to the next by their stamps: what the machine adds."""
    stamps = [seconds(message.header.stamp) for _, message in cockpit.commands]
    return np.diff(stamps).max()


def facts(status):
    return {pair.key: pair.value for pair in status.values}


def move(cockpit, by=0.03, **fields):
    """Enable, and act until the command is so much higher than the arm was."""
    cockpit.enable()
    cockpit.follows = True
    begin = cockpit.position[2]
    cockpit.act_until(
        lambda: cockpit.commands and height(cockpit.commands[-1]) > begin + by, 'motion', **fields
    )
    return cockpit


def settle(cockpit):
    """Wait until the newest commands are all alike, and give their height."""

    def last():
        return [height(command) for command in cockpit.commands[-10:]]

    cockpit.wait(lambda: len(last()) == 10 and np.ptp(last()) < 1e-9, 'held pose')
    return last()[0]


def test_nothing_is_commanded_before_enable(bench):
    cockpit = bench.start(POSES)
    assert cockpit.state('disabled').reason

    cockpit.act()

    report = cockpit.report(lambda r: r.sequence == 1)
    assert cockpit.rule('enabled', report).verdict == GateRule.HOLD
    assert cockpit.transit('deactivate')
    assert cockpit.commands == []
    cockpit.logged('cartesian_pose to target_pose, 50 Hz, in base_link')  # said before all this


def test_it_moves_by_the_steps_and_holds_when_the_policy_is_silent(bench):
    cockpit = move(bench.start(POSES))
    frames = {command.header.frame_id for _, command in cockpit.commands}

    report = cockpit.report(lambda r: r.state == 'holding')

    assert frames == {'base_link'} == {target.header.frame_id for target in cockpit.targets}
    assert 'no action passed' in report.reason
    arrived = seconds(
        next(r for r in cockpit.reports if r.sequence == report.sequence).header.stamp
    )
    settle(cockpit)
    # action_timeout is 0.5 s. It holds within one period of the watchdog, as the machine has them.
    waited = seconds(report.header.stamp) - arrived
    assert 0.49 <= waited <= 0.51 + longest_tick(cockpit)


@pytest.mark.parametrize('silence', ['silent', 'frozen', 'elsewhere'])
def test_it_holds_without_a_fresh_pose(bench, silence):
    cockpit = bench.start(POSES, max_pose_age=0.1)
    move(cockpit)
    cockpit.follows = False
    last = cockpit.node.get_clock().now().nanoseconds * 1e-9
    if silence == 'silent':
        cockpit.position = None
    elif silence == 'frozen':
        cockpit.pose_age = 5.0
    else:
        cockpit.frame = 'world'

    cockpit.act_until(lambda: cockpit.reports[-1].state != 'moving', 'hold')

    report = next(r for r in reversed(cockpit.reports) if r.state == 'holding')
    assert ('world' if silence == 'elsewhere' else 'pose') in report.reason
    # max_pose_age is 0.1 s, and one more pose may have been under way.
    assert seconds(report.header.stamp) - last <= 0.15 + 2 * longest_tick(cockpit)


def test_what_was_held_for_long_is_a_stop_that_enable_ends(bench):
    cockpit = move(bench.start(POSES, stop_after=0.3))

    cockpit.state('stopped')

    place = settle(cockpit)
    sequence = cockpit.act()
    cockpit.report(lambda r: r.state == 'stopped' and r.sequence == sequence)
    assert settle(cockpit) == place
    move(cockpit, 0.02)


def test_stop_is_latched(bench):
    cockpit = move(bench.start(POSES))

    assert cockpit.call('stop').success

    assert '~/stop' in cockpit.state('stopped').reason
    place = settle(cockpit)
    for _ in range(3):
        sequence = cockpit.act()
        cockpit.report(lambda r, number=sequence: r.sequence == number)
    assert settle(cockpit) == place
    move(cockpit, 0.02)


def test_after_disable_come_the_last_poses_and_then_nothing(bench):
    cockpit = move(bench.start(POSES, final_commands=2))

    cockpit.enable(on=False)

    cockpit.state('disabled')
    cockpit.held()  # whoever comes next may command the arm
    count = len(cockpit.commands)
    sequence = cockpit.act()
    cockpit.report(lambda r: r.sequence == sequence)
    assert len(cockpit.commands) == count
    move(cockpit, 0.02)


def test_blank_instruction_holds_at_once(bench):
    cockpit = bench.start(POSES)
    cockpit.say()
    move(cockpit)

    cockpit.say(' ')

    cockpit.act_until(lambda: cockpit.reports[-1].state == 'holding', 'hold')
    assert 'blank' in cockpit.state('holding').reason
    place = settle(cockpit)
    cockpit.act()
    assert settle(cockpit) == place
    cockpit.say()
    move(cockpit, 0.02)


def test_unknown_meaning_is_denied(bench):
    cockpit = bench.start(POSES)
    cockpit.enable()
    begin = settle(cockpit)

    for _ in range(3):
        cockpit.act(meaning=METRES | {'translation_unit': 0.0, 'rotation_unit': 0.0})

    report = cockpit.report(lambda r: r.sequence == 3)
    rule = cockpit.rule('meaning', report)
    assert rule.verdict == GateRule.HOLD
    assert 'nobody knows' in rule.reason
    assert settle(cockpit) == begin


def test_chunk_that_is_no_list_of_steps_is_refused(bench):
    cockpit = bench.start(POSES)
    cockpit.enable()

    sequence = cockpit.act(chunk=[0.01] * 10)

    report = cockpit.report(lambda r: r.sequence == sequence)
    assert cockpit.rule('finite', report).verdict == GateRule.HOLD


def test_chunk_is_streamed_at_its_rate(bench):
    cockpit = bench.start(POSES, action_timeout=1.0)
    cockpit.enable()
    begin, cockpit.follows = settle(cockpit), True
    step = [0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0]

    cockpit.act(chunk=step * 4, meaning=METRES | {'control_rate': 10.0})

    cockpit.wait(lambda: height(cockpit.commands[-1]) > begin + 0.07, 'end of the chunk')
    assert settle(cockpit) == pytest.approx(begin + 0.08, abs=1e-2)


def test_dry_run_judges_and_commands_nobody(bench):
    cockpit = bench.start(POSES, dry_run=True, gripper='float', gripper_target='fingers')
    cockpit.enable()

    cockpit.act_until(lambda: cockpit.reports[-1].state == 'moving', 'motion')

    cockpit.wait(lambda: len(cockpit.targets) > 1, 'target')
    assert cockpit.node.count_publishers('target_pose') == 0
    assert cockpit.node.count_publishers('fingers') == 0
    cockpit.logged('target at')


def test_diagnostics_tell_state_rate_latency_and_what_each_rule_said(bench):
    cockpit = move(bench.start(POSES))
    cockpit.act((0.0, 0.0, 0.15, 0.0, 0.0, 0.0, 1.0))
    gate = cockpit.status('gate', lambda s: facts(s)['step'] == '1')
    assert '1 x step' in gate.message
    parts = {s.name.removeprefix('/robot: '): s for s in cockpit.statuses[-1].status}
    values = facts(parts['bridge'])
    assert values['state'] in ('moving', 'holding')
    assert float(values['image to command p50 [ms]']) > 50.0  # the images are 0.05 s old
    assert int(values['actions']) > 1
    assert (parts['controller'].message, parts['gripper'].message) == ('ok', 'ok')
    assert facts(parts['pose'])['source'] == 'topic /pose'
    cockpit.call('stop')
    stopped = cockpit.status('bridge', lambda s: facts(s)['state'] == 'stopped')
    assert stopped.level == DiagnosticStatus.ERROR
    assert '~/stop was called' in stopped.message


def test_ages_follow_the_clock_and_the_watchdog_does_not(bench):
    cockpit = bench.start(POSES, use_sim_time=True)
    refused = cockpit.call('enable', data=True)
    assert 'no message has come on /clock' in refused.message
    # Simulated time is the wall's here, until it stands still.
    clocks, running = cockpit.node.create_publisher(Clock, '/clock', 10), [True]

    def tick():
        if running:
            clocks.publish(Clock(clock=cockpit.node.get_clock().now().to_msg()))

    cockpit.node.create_timer(0.005, tick)
    move(cockpit)

    running.clear()
    cockpit.position, cockpit.follows = None, False

    cockpit.wait(lambda: cockpit.reports[-1].state == 'holding', 'hold', timeout=2.0)
