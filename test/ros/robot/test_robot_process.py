"""The robot node as a process: how it begins, and what it says last."""

import os
import signal

from fake_controllers import FakeServo
from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
import pytest

# What a busy machine would break is not tested here.
PARAMETERS = {
    'workspace': [0.0, -0.5, 0.0, 0.8, 0.5, 0.6],
    'stop_after': 0.0,
    'max_pose_age': 1.0,
}


@pytest.fixture
def cockpit(bench):
    return bench.cockpit()


def end(process, number):
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors


def test_last_pose_is_that_which_is_held(bench, cockpit, execute):
    cockpit.record(PoseStamped, 'target_pose')
    process = execute('robot_node', controller='cartesian_pose', **PARAMETERS)
    cockpit.connect()
    cockpit.enable()
    cockpit.rise(0.25)

    # Longer than max_tick_gap, which is 0.25 s.
    os.kill(process.pid, signal.SIGSTOP)
    count = len(cockpit.commands)
    resuming = cockpit.node.create_timer(0.5, lambda: os.kill(process.pid, signal.SIGCONT))
    cockpit.wait(lambda: len(cockpit.commands) > count + 20, 'commands')
    resuming.cancel()
    assert 'holding' in {report.state for report in cockpit.reports}
    places = [message.pose.position.z for _, message in cockpit.commands[count:]]
    assert np.ptp(places) < 0.05  # what was due meanwhile is not made up for

    cockpit.rise(0.28)
    end(process, signal.SIGTERM)

    cockpit.wait(lambda: not cockpit.node.count_publishers('target_pose'), 'end')
    cockpit.held()


def test_last_twist_is_zero(bench, cockpit, execute):
    bench.spin(FakeServo(bench.context))
    cockpit.record(TwistStamped, '/servo_node/delta_twist_cmds')
    process = execute('robot_node', controller='servo_twist', controller_timeout=0.5, **PARAMETERS)
    cockpit.connect()
    cockpit.enable()
    cockpit.follows = True
    cockpit.act_until(
        lambda: cockpit.commands and cockpit.commands[-1][1].twist.linear.z > 0.05, 'motion'
    )

    end(process, signal.SIGINT)

    last = cockpit.commands[-1][1].twist
    assert (last.linear.x, last.linear.y, last.linear.z) == (0.0, 0.0, 0.0)
    assert (last.angular.x, last.angular.y, last.angular.z) == (0.0, 0.0, 0.0)


def test_impossible_parameter_ends_it_with_the_reason(execute):
    process = execute('robot_node', workspace=[0.0, 1.0])

    _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert 'workspace is (0.0, 1.0); 6 numbers from -100 to 100 are needed' in errors
    assert 'Traceback' not in errors
