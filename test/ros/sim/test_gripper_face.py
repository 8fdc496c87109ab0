"""The actions of gripper controllers in front of the simulated fingers."""

from action_msgs.msg import GoalStatus
from commander import Commander, pose
import numpy as np
import pytest
from sensor_msgs.msg import JointState

from trt_openvla_ros.sim.scene import HOLD, OPEN
from trt_openvla_ros.sim.world import World

control_msgs = pytest.importorskip(
    'control_msgs.action', reason='no control_msgs; make test builds what tests need of it'
)
SEED = 1


@pytest.fixture
def commander(play):
    def start(kind):
        return Commander(play(controller='cartesian', seed=SEED, rate=5.0, gripper=kind))

    return start


def command(position):
    goal = control_msgs.GripperCommand.Goal()
    goal.command.position = position
    return goal


def parallel(*positions):
    return control_msgs.ParallelGripperCommand.Goal(command=JointState(position=positions))


def test_free_fingers_reach_their_goal(commander):
    commander = commander('gripper_command')
    client = commander.gripper(control_msgs.GripperCommand)
    for position in (0.0, OPEN):
        handle = commander.send_goal(client, command(position))
        status, result = commander.result(handle)
        assert status == GoalStatus.STATUS_SUCCEEDED
        assert result.reached_goal
        assert not result.stalled
        assert result.position == pytest.approx(position, abs=0.01)


def test_grasp_of_an_object_stalls_and_is_aborted(commander):
    world = World()
    world.reset(SEED)
    thing = world.things[0].position
    world.close()
    commander = commander('gripper_command')
    commander.publish('cartesian_motion_controller/target_frame', pose(thing))
    commander.player.wait(lambda: np.allclose(commander.place(), thing, atol=5e-3), 'hand there')
    client = commander.gripper(control_msgs.GripperCommand)
    status, result = commander.result(commander.send_goal(client, command(0.0)))
    assert status == GoalStatus.STATUS_ABORTED
    assert result.stalled
    assert not result.reached_goal
    assert result.position == pytest.approx(HOLD, abs=3e-3)


def test_newer_goal_ends_the_older_and_cancel_holds(commander):
    commander = commander('parallel_gripper_command')
    client = commander.gripper(control_msgs.ParallelGripperCommand)
    assert not commander.send_goal(client, parallel()).accepted
    assert not commander.send_goal(client, parallel(0.01, 0.01)).accepted
    # Nothing reaches this position, so the goal runs until it stalls.
    first = commander.send_goal(client, parallel(-1.0))
    second = commander.send_goal(client, parallel(-1.0))
    status, result = commander.result(first)
    assert status == GoalStatus.STATUS_ABORTED
    assert not result.stalled
    future = second.cancel_goal_async()
    commander.player.wait(future.done, 'answer to the cancel')
    status, result = commander.result(second)
    assert status == GoalStatus.STATUS_CANCELED
    assert not result.state.position
    status, result = commander.result(commander.send_goal(client, parallel(OPEN)))
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.state.position[0] == pytest.approx(OPEN, abs=0.01)
