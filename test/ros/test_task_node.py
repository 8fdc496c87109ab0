"""The task node as a process, and a client of its action: how goals end."""

import os
from pathlib import Path
import subprocess
import time

from action_msgs.srv import CancelGoal
from ament_index_python.packages import get_package_prefix
from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import Bool, String
from taskmaster import MOVING, STATUS, STILL, Taskmaster

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.msg import ActionMeaning

CODES = ExecuteInstruction.Result
PUT, PUSH = 'put the spoon on the towel', 'push the red block left'


@pytest.fixture(scope='module')
def process(domain):
    """One task node for all of these tests: none of them may leave anything behind."""
    executable = (
        Path(get_package_prefix('trt_openvla_ros')) / 'lib' / 'trt_openvla_ros' / 'task_node'
    )
    process = subprocess.Popen(
        [executable, '--ros-args', '-p', 'time_limit:=30.0'],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
    )
    yield process
    assert process.poll() is None
    process.kill()
    process.wait()


@pytest.fixture
def master(graph, process):
    """A client of the active task node, and its policy."""
    master = Taskmaster(graph.context)
    yield master
    master.close()


def test_goals_end_as_they_asked_and_always_with_a_blank_instruction(master):
    # By the number of steps.
    status, result = master.execute(PUT, max_steps=3)
    assert (status, result.error_code, result.steps) == (STATUS.STATUS_SUCCEEDED, CODES.NONE, 3)
    assert result.error_msg == 'done: 3 steps (max_steps)'
    assert 0 < result.elapsed.sec + 1e-9 * result.elapsed.nanosec < 5
    assert master.instructions == [PUT, '']

    # By a success topic, on which only what is true counts.
    handle = master.follow(PUSH, success_topic='success')
    master.wait(master.successes.get_subscription_count, 'subscription to success')
    master.successes.publish(Bool(data=False))
    steps = master.feedbacks[-1].steps
    master.wait(lambda: master.feedbacks[-1].steps > steps, 'more steps')
    master.successes.publish(Bool(data=True))
    status, result = master.result(handle)
    assert (status, result.error_code) == (STATUS.STATUS_SUCCEEDED, CODES.NONE)
    assert result.error_msg == 'done, as success said'
    master.wait(lambda: not master.successes.get_subscription_count(), 'end of listening')

    # By stillness, which a step in between begins anew.
    handle = master.follow(PUT, still_steps=8, max_steps=1000)
    master.step = STILL
    status, result = master.result(handle)
    assert (status, result.error_code) == (STATUS.STATUS_SUCCEEDED, CODES.NONE)
    assert result.error_msg == 'done: no motion for 8 steps'
    assert result.steps > 8

    # By the time.
    master.step = MOVING
    status, result = master.execute(PUT, time_allowance=0.3)
    assert (status, result.error_code) == (STATUS.STATUS_ABORTED, CODES.TIMEOUT)
    assert 'not done after 0.3 s' in result.error_msg

    # Steps that end before success was told.
    status, result = master.execute(PUT, max_steps=2, success_topic='success')
    assert (status, result.error_code) == (STATUS.STATUS_ABORTED, CODES.TIMEOUT)
    assert master.instructions[-1] == ''


def test_what_is_no_instruction_is_rejected_and_stops_no_other(master):
    handle = master.follow(PUT)
    for instruction in ('', ' \n', 'x' * 2001, 'put <s> away'):
        refused = master.send(instruction)
        master.wait(refused.ending.done, 'result')
        status, result = refused.ending.result().status, refused.ending.result().result
        assert (status, result.error_code) == (STATUS.STATUS_ABORTED, CODES.REJECTED)
        assert result.error_msg.startswith('instruction ')
    assert master.instructions == [PUT]
    assert master.cancel(handle).goals_canceling


def test_what_cannot_be_done_is_rejected_with_the_reason(master):
    for asked, reason in (
        ({'time_allowance': 31.0}, 'time_allowance is 31 s; from 0 to 30 s are allowed'),
        ({'time_allowance': -1.0}, 'time_allowance is -1 s'),
        ({'success_topic': 'no topic'}, "success_topic 'no topic' cannot be listened to"),
        ({'success_topic': '{foo}'}, 'unknown substitution: {foo}'),
        ({'success_topic': 'robot/gate'}, "'robot/gate' carries trt_openvla_ros/msg/GateReport"),
        ({'success_topic': 'instruction'}, 'carries std_msgs/msg/String, not std_msgs/msg/Bool'),
    ):
        status, result = master.execute(PUT, **asked)
        assert (status, result.error_code) == (STATUS.STATUS_ABORTED, CODES.REJECTED)
        assert reason in result.error_msg
        assert '/src/' not in result.error_msg
    assert master.instructions == []

    master.meaning = ActionMeaning()
    status, result = master.execute(PUT, still_steps=2)
    assert (status, result.error_code) == (STATUS.STATUS_ABORTED, CODES.REJECTED)
    assert 'still_steps needs to know how far a step goes' in result.error_msg
    assert master.instructions == [PUT, '']


def test_success_of_a_publisher_of_any_reliability_counts(master):
    handle = master.follow(PUT, success_topic='unreliable')
    successes = master.node.create_publisher(Bool, 'unreliable', qos_profile_sensor_data)
    master.wait(lambda: successes.publish(Bool(data=True)) or handle.ending.done(), 'success')
    status, result = master.result(handle)
    assert (status, result.error_code) == (STATUS.STATUS_SUCCEEDED, CODES.NONE)
    master.node.destroy_publisher(successes)


def test_cancel_stops_first_and_is_told_then(master):
    master.period = 0.2  # BridgeData's
    handle = master.follow(PUT)
    asked = time.monotonic()

    answer = master.cancel(handle)
    status, result = master.result(handle)

    assert time.monotonic() - asked < master.period
    assert answer.return_code == CancelGoal.Response.ERROR_NONE
    assert (status, result.error_code) == (STATUS.STATUS_CANCELED, CODES.CANCELLED)
    assert result.steps >= 1
    told = ('result', STATUS.STATUS_CANCELED)
    master.wait(lambda: told in master.events, 'event')
    assert master.events.index(('instruction', '')) < master.events.index(told)
    # A goal that ended cannot be cancelled again.
    assert master.cancel(handle).return_code == CancelGoal.Response.ERROR_GOAL_TERMINATED
    assert master.instructions == [PUT, '']


def test_newer_goal_takes_over_with_steps_of_its_own(master, graph):
    first = master.follow(PUT)
    other = Taskmaster(graph.context, acts=False)

    second = other.send(PUSH, max_steps=4)
    # The client of the old goal is the policy of the new one.
    master.wait(lambda: master.instructions[-2:] == [PUSH, ''], 'end of the newer goal')

    status, result = master.result(first)
    assert (status, result.error_code) == (STATUS.STATUS_ABORTED, CODES.PREEMPTED)
    assert result.error_msg == f'a newer goal took over: {PUSH!r}'
    status, result = other.result(second)
    assert (status, result.error_code) == (STATUS.STATUS_SUCCEEDED, CODES.NONE)
    assert result.steps == 4
    # Feedback and result of one client are not the other's.
    assert all(feedback.steps <= 4 for feedback in other.feedbacks)
    assert master.instructions == [PUT, '', PUSH, '']
    other.close()


def test_only_steps_of_this_goal_count_and_each_once(master):
    master.step = None
    handle = master.send(PUT, max_steps=2, success_topic='success')
    master.wait(lambda: master.instructions, 'instruction')
    master.step, master.period = MOVING, 1e9

    master.act(PUSH)  # under way for what was asked before
    master.act(PUT, inference_time=100.0)  # begun before this goal
    for _ in range(5):
        master.act(PUT, sequence=7)
    master.act(PUT, sequence=6)
    master.wait(lambda: master.feedbacks and master.feedbacks[-1].steps, 'step')
    assert master.feedbacks[-1].steps == 1
    master.act(PUT, sequence=8)

    _, result = master.result(handle)
    assert result.steps == 2


def test_last_step_has_its_time_before_the_blank_instruction(master):
    master.meaning = ActionMeaning(control_rate=2.0)
    master.period = 1e9
    handle = master.send(PUT, max_steps=1)
    master.wait(lambda: master.instructions, 'instruction')
    master.act(PUT)
    acted = time.monotonic()

    _, result = master.result(handle)

    assert 0.45 < time.monotonic() - acted < 2.0
    assert (result.error_code, result.steps) == (CODES.NONE, 1)


def test_fifty_goals_in_a_row_and_nothing_is_left_of_them(master):
    before = goals_so_far(master)
    for number in range(50):
        status, result = master.execute(f'{PUT} {number}', max_steps=1)
        assert (status, result.error_code) == (STATUS.STATUS_SUCCEEDED, CODES.NONE)
    assert master.instructions[::2] == [f'{PUT} {number}' for number in range(50)]
    assert set(master.instructions[1::2]) == {''}

    # And thirty of which each but the last is taken over at once.
    handles = [master.send(f'{PUSH} {number}', max_steps=1) for number in range(30)]
    master.wait(lambda: all(handle.ending.done() for handle in handles), 'results')
    codes = [handle.ending.result().result.error_code for handle in handles]
    assert set(codes[:-1]) <= {CODES.PREEMPTED, CODES.NONE}
    assert codes[-1] == CODES.NONE
    assert goals_so_far(master) == before + 80
    assert master.statuses[-1].message == 'active, waiting for a goal'
    assert master.statuses[-1].level == DiagnosticStatus.OK


def goals_so_far(master):
    master.statuses.clear()
    master.wait(lambda: master.statuses, 'status')
    values = {pair.key: pair.value for pair in master.statuses[-1].values}
    return int(values['done']) + int(values['preempted'])


def test_instruction_of_another_node_ends_the_goal_and_is_followed(master):
    handle = master.follow(PUT)
    master.words.publish(String(data=PUSH))
    answer = master.ending(handle)
    master.assert_aborted(answer, CODES.PREEMPTED, f'another node said the instruction {PUSH!r}')
    # What the node says of its state comes after all that it said before.
    master.told(lambda status: 'waiting' in status.message)
    assert master.instructions == [PUT, PUSH]
    # And so does a policy that follows another, whoever told it.
    handle = master.follow(PUT)
    master.act(PUSH)
    answer = master.ending(handle)
    master.assert_aborted(answer, CODES.PREEMPTED, f'the policy now follows {PUSH!r}')
    master.told(lambda status: 'waiting' in status.message)
    assert master.instructions == [PUT, PUSH, PUT]


def test_blank_instruction_of_another_node_ends_the_goal(master):
    reason = 'another node said a blank instruction'
    handle = master.follow(PUT)
    master.words.publish(String(data=' '))
    master.assert_aborted(master.result(handle), CODES.PREEMPTED, reason)
    # Also soon after the end of another goal, when a simulation may pass on the blank one of that.
    handle = master.follow(PUT)
    master.words.publish(String(data=''))
    master.assert_aborted(master.result(handle), CODES.PREEMPTED, reason)
    # Then it passes on this goal's instruction, too.
    handle = master.follow(PUT)
    master.words.publish(String(data=''))
    master.words.publish(String(data=PUT))
    steps = master.feedbacks[-1].steps
    begun = time.monotonic()
    master.wait(lambda: time.monotonic() - begun > 1.5, 'time')
    assert not handle.ending.done()
    assert master.feedbacks[-1].steps > steps
    master.cancel(handle)
    master.result(handle)


def test_deactivation_ends_the_goal_and_refuses_others(master):
    handle = master.follow(PUT)

    assert master.transit('deactivate')

    master.assert_aborted(master.result(handle), CODES.DEACTIVATED, 'node was deactivated')
    assert not master.send(PUT).accepted
    assert not master.transit('deactivate')
    assert master.transit('activate')
    assert master.execute(PUT, max_steps=1)[1].error_code == CODES.NONE
    # Cycles in which the server is made anew.
    for _ in range(10):
        handle = master.follow(PUT)
        assert master.transit('deactivate')
        master.assert_aborted(master.result(handle), CODES.DEACTIVATED, 'deactivated')
        assert master.transit('cleanup')
        # Otherwise the next goal may be sent to the server that was.
        master.wait(lambda: not master.client.server_is_ready(), 'end of the server')
        assert master.transit('configure')
        assert master.transit('activate')
        master.wait(master.actions.get_subscription_count, 'task node that counts actions')
        assert master.client.wait_for_server(timeout_sec=20)


def test_client_that_vanishes_leaves_a_goal_that_ends_in_time(master, graph):
    client = Taskmaster(graph.context, acts=False)
    client.send(PUT, time_allowance=1.0)
    client.executor.shutdown()
    client.node.destroy_node()

    master.wait(lambda: master.instructions[-2:] == [PUT, ''], 'end of the goal')

    assert master.execute(PUSH, max_steps=1)[1].error_code == CODES.NONE
