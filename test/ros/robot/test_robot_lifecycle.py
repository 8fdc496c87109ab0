"""The robot node in its life cycle."""

from geometry_msgs.msg import PoseStamped
import pytest
from rclpy.exceptions import ParameterException

TARGETS = 'target_pose'


def test_twenty_cycles_leave_nothing_behind_and_nothing_enabled(bench):
    cockpit = bench.cockpit()
    cockpit.record(PoseStamped, TARGETS)
    bench.add()
    for cycle in range(20):
        assert cockpit.transit('configure')
        assert cockpit.transit('activate')
        if cycle % 10 == 9:
            cockpit.enable()
            cockpit.wait(lambda: cockpit.commands, 'held pose')
        assert cockpit.transit('deactivate')
        refused = cockpit.call('enable', data=True)
        assert not refused.success
        assert 'not active' in refused.message
        assert cockpit.transit('cleanup')
        cockpit.commands.clear()
    cockpit.wait(lambda: not cockpit.node.count_publishers(TARGETS), 'end of the publisher')
    assert cockpit.node.count_subscribers('policy/action') == 0
    assert cockpit.commands == []


def test_deactivate_holds_and_activate_enables_nothing(bench):
    cockpit = bench.start((PoseStamped, TARGETS), final_commands=2)
    cockpit.enable()
    cockpit.rise(0.23)

    assert cockpit.transit('deactivate')

    assert 'deactivated' in cockpit.state('disabled').reason
    cockpit.held()
    count = len(cockpit.commands)
    assert cockpit.transit('activate')
    cockpit.act()
    report = cockpit.report(lambda r: r.sequence and r.state == 'disabled')
    assert all(rule.count <= 1 for rule in report.rules)  # counted anew
    assert len(cockpit.commands) == count


@pytest.mark.parametrize(
    ('parameters', 'named'),
    [
        ({'deadman': 'topic'}, 'deadman_timeout is 0'),
        ({'deadman_timeout': 0.3}, 'nobody listens to a switch'),
        ({'pose_source': 'tf'}, 'tool_frame is empty'),
        ({'gripper': 'float', 'gripper_open': 0.0}, 'gripper_open and gripper_closed are both 0'),
        ({'workspace': [0.0, 0.0, 0.0, -1.0, 1.0, 1.0]}, 'workspace'),
    ],
)
def test_parameters_that_contradict_each_other_are_named(bench, parameters, named):
    cockpit = bench.cockpit()
    bench.add(**parameters)

    assert not cockpit.transit('configure')

    cockpit.logged(named)
    cockpit.wait(lambda: not cockpit.node.count_publishers(TARGETS), 'end of the publisher')


def test_nothing_moves_without_a_workspace(bench):
    cockpit = bench.start((PoseStamped, TARGETS), workspace=[0.0] * 6)
    answer = cockpit.call('enable', data=True)
    assert not answer.success
    assert 'workspace' in answer.message or 'pose' in answer.message


@pytest.mark.parametrize(('name', 'value'), [('rate', 5.0), ('controller', 'thoughts')])
def test_impossible_parameter_makes_no_node(bench, name, value):
    with pytest.raises(ParameterException, match=name):
        bench.add(**{name: value})
