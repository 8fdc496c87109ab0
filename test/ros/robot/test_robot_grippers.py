"""Goals of grippers: few, and never waited for."""

from cockpit import METRES
from fake_controllers import FakeGripper
from geometry_msgs.msg import PoseStamped
import pytest
from std_msgs.msg import Float64MultiArray

OPEN, CLOSED = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
POSES = (PoseStamped, 'target_pose')
NAME = 'gripper_controller/gripper_cmd'


def goals(gripper):
    return [goal.command.position for _, goal in gripper.goals]


@pytest.mark.parametrize(
    ('outcome', 'told'),
    [
        ('reached', 'reached 0'),
        ('stalled', 'holding an object on the way to 0'),
        ('refused', 'refused 0'),
    ],
)
def test_goals_are_sent_on_change_alone(bench, outcome, told):
    gripper = FakeGripper(bench.context)
    gripper.outcome = outcome
    bench.spin(gripper)
    # A Franka takes half of the width of 0.08 m.
    cockpit = bench.start(POSES, gripper='gripper_command', gripper_open=0.04, max_effort=20.0)
    cockpit.enable()
    sent = []

    def act(step):
        sent.append(cockpit.act(step))
        cockpit.report(lambda r: r.sequence == sent[-1])

    for step in (OPEN, OPEN, CLOSED, CLOSED):
        act(step)
        cockpit.wait(lambda n=1 + (step is CLOSED): len(gripper.goals) == n, 'goal')

    assert goals(gripper) == [0.04, 0.0]
    assert gripper.goals[-1][1].command.max_effort == 20.0
    status = cockpit.status('gripper', lambda s: s.values[0].value != 'moving to 0')
    assert status.values[0].value == told
    cockpit.enable(on=False)
    cockpit.state('disabled')
    assert goals(gripper) == [0.04, 0.0]  # it does not drop what it holds


def test_parallel_gripper_gets_one_position(bench):
    gripper = FakeGripper(bench.context, parallel=True)
    bench.spin(gripper)
    cockpit = bench.start(
        POSES,
        gripper='parallel_gripper_command',
        gripper_closed=0.8,
        gripper_open=0.0,
        gripper_joint='knuckle',
    )
    cockpit.enable()

    cockpit.act_until(lambda: gripper.goals, 'goal', CLOSED)

    command = gripper.goals[0][1].command
    assert (list(command.position), list(command.name)) == ([0.8], ['knuckle'])
    assert list(command.effort) == []


def test_action_that_never_answers_delays_nothing_and_is_asked_again_when_it_is_back(bench):
    # Its server is there, and nobody runs it.
    dead = FakeGripper(bench.context)
    cockpit = bench.start(POSES, gripper='gripper_command', gripper_timeout=0.2)
    cockpit.enable()

    cockpit.rise(0.28, step=(0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0))

    gaps = [b[0] - a[0] for a, b in zip(cockpit.commands, cockpit.commands[1:], strict=False)]
    assert max(gaps) < 2.0  # 0.02 s, and what a busy machine adds; a wait would never end
    assert 'has not answered for' in cockpit.status('gripper').message
    dead.destroy_node()
    cockpit.status('gripper', lambda s: s.message == f'no server of /{NAME}')
    back = FakeGripper(bench.context)
    bench.spin(back)
    cockpit.state('holding')
    assert not back.goals  # nothing moves while the robot is held: a hand may be at the fingers
    cockpit.act_until(lambda: back.goals, 'goal', CLOSED)
    assert goals(back) == [0.04 * 0.0]


def test_gripper_on_a_topic_gets_numbers_on_change_and_when_it_listens(bench):
    cockpit = bench.start(
        POSES,
        gripper='float',
        gripper_message='float64_multi_array',
        gripper_target='fingers/commands',
        gripper_closed=0.01,
        gripper_open=0.035,
        gripper_mode='continuous',
        gripper_deadband=0.1,
    )
    cockpit.enable()
    cockpit.follows = True
    cockpit.act_until(lambda: cockpit.reports[-1].state == 'moving', 'motion', OPEN)
    heard = []
    cockpit.node.create_subscription(
        Float64MultiArray, 'fingers/commands', lambda m: heard.append(list(m.data)), 10
    )
    cockpit.act_until(lambda: heard, 'number', OPEN)
    assert heard == [pytest.approx([0.035])]

    # The first and the last differ by less than the deadband from what was sent before.
    cockpit.act_until(lambda: len(cockpit.reports) > 3, 'actions', (*OPEN[:6], 0.95))
    cockpit.act_until(lambda: len(heard) > 1, 'number', (*OPEN[:6], 0.5))
    count = len(cockpit.targets)
    cockpit.act_until(lambda: len(cockpit.targets) > count + 1, 'targets', (*OPEN[:6], 0.45))

    assert heard == [pytest.approx([0.035]), pytest.approx([0.0225])]

    # While nothing was commanded, anybody may have moved it.
    cockpit.enable(False)
    cockpit.enable()
    cockpit.act_until(lambda: len(heard) > 2, 'number', (*OPEN[:6], 0.5))
    assert heard[2] == pytest.approx([0.0225])


def test_gripper_that_the_data_set_does_not_move_gets_nothing(bench):
    gripper = FakeGripper(bench.context)
    bench.spin(gripper)
    cockpit = bench.start(POSES, gripper='gripper_command')
    cockpit.enable()

    cockpit.act_until(
        lambda: len(cockpit.targets) > 2, 'motion', meaning=METRES | {'gripper': 'none'}
    )

    assert gripper.goals == []
