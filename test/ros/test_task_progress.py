"""When a goal ends: the rules of the task node, without a graph."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.msg import ActionMeaning, GateReport, VlaAction
from trt_openvla_ros.nodes.task.goals import Goal
from trt_openvla_ros.nodes.task.parameters import TaskParameters
from trt_openvla_ros.nodes.task.progress import Progress
from trt_openvla_ros.nodes.task.stillness import Stillness

CODES = ExecuteInstruction.Result
LIMITS = TaskParameters()


def action(step=(0.0,) * 7, sequence=1, unit=1.0, opening=1.0, **fields):
    meaning = ActionMeaning(translation_unit=unit, rotation_unit=unit, control_rate=5.0)
    message = VlaAction(
        action=step, meaning=meaning, sequence=sequence, instruction='go', **fields
    )
    message.unlimited_action[6] = opening
    return message


def progress(max_steps=0, still_steps=0, time=60.0, topic=''):
    begun = Progress(Goal('go', time, max_steps, still_steps, topic), LIMITS, 0.0)
    begun.say(0.0)
    return begun


@pytest.mark.parametrize(
    ('step', 'unit', 'still'),
    [
        ((0.001, 0.001, 0.001, 0.005, 0.005, 0.005, 1.0), 1.0, True),
        ((0.0019, 0.001, 0.0, 0.0, 0.0, 0.0, 1.0), 1.0, False),  # 2.1 mm along no axis
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.011, 1.0), 1.0, False),
        # LIBERO's unit of translation is some centimetres.
        ((0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), 0.05, True),
        ((0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), 0.05, False),
        ((np.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), 1.0, False),
    ],
)
def test_stillness_is_in_metres_and_radians(step, unit, still):
    seen = Stillness(LIMITS)
    assert seen.see(action(step, unit=unit)) == ''
    assert seen.count == int(still)


def test_gripper_and_every_step_of_a_chunk_move():
    seen = Stillness(LIMITS)
    for opening, count in ((1.0, 1), (1.0, 2), (0.5, 0), (0.5, 1), (0.52, 2)):
        seen.see(action(opening=opening))
        assert seen.count == count
    seen.see(action(opening=0.52, chunk=[0.0] * 14))
    assert seen.count == 3
    seen.see(action(opening=0.52, chunk=[0.0] * 7 + [0.1] + [0.0] * 6))
    assert seen.count == 0
    seen.see(action(opening=0.52, chunk=[0.0] * 8))
    assert seen.count == 0


def test_steps_whose_unit_is_unknown_are_not_called_still():
    assert "the unit of 'my_arm' is unknown" in Stillness(LIMITS).see(
        action(unit=0.0, unnorm_key='my_arm')
    )


def test_last_chunk_has_the_time_of_all_its_steps():
    followed = progress(max_steps=1)
    assert followed.hear_action(action(chunk=[0.0] * 35), 1.0)
    assert followed.look(1.9) is None
    assert followed.look(2.01).code == CODES.NONE
    # Unless the policy is faster.
    followed = progress(max_steps=1)
    followed.hear_action(action(chunk=[0.0] * 35), 1.0)
    assert not followed.hear_action(action(sequence=2), 1.2)
    assert followed.look(1.2).code == CODES.NONE
    assert followed.steps == 1


def test_first_ending_counts():
    followed = progress(topic='done')
    followed.hear_success(False)
    assert followed.look(1.0) is None
    followed.hear_success(True)
    followed.hear_gate(GateReport(state='stopped'), 1.0)
    followed.hear_instruction('stay', 1.0)
    assert followed.look(100.0).code == CODES.NONE


def test_text_that_may_be_passed_on_is_another_nodes_if_no_instruction_follows():
    followed = progress()
    followed.hear_instruction('', 1.0, is_known=True)
    assert followed.look(1.9) is None
    followed.hear_instruction('go', 1.9)
    assert followed.look(3.0) is None
    followed.hear_instruction('stay', 3.0, is_known=True)
    assert followed.look(4.1).code == CODES.PREEMPTED
    assert followed.is_taken_over
    # Nothing can be passed on before the instruction was said.
    waiting = Progress(Goal('go', 60.0, 0, 0, ''), LIMITS, 0.0)
    waiting.hear_instruction('', 1.0, is_known=True)
    assert waiting.look(1.0).code == CODES.PREEMPTED
    assert not waiting.is_taken_over


EVENTS = st.one_of(
    st.tuples(st.just('act'), st.sampled_from(['go', 'stay']), st.integers(0, 5)),
    st.tuples(st.just('gate'), st.sampled_from(['holding', 'moving', 'stopped', 'disabled'])),
    st.tuples(st.just('success'), st.booleans()),
    st.tuples(st.just('say'), st.sampled_from(['go', 'stay', ' ']), st.booleans()),
    st.tuples(st.just('wait')),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(EVENTS, st.floats(0.0, 2.0)), max_size=40),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(['', 'done']),
)
def test_every_goal_ends_in_its_time_and_is_done_only_for_a_reason(events, most, still, topic):
    followed = progress(most, still, 10.0, topic)
    now, told, seen, gates = 0.0, False, set(), []
    for (kind, *what), later in events:
        now += later
        if followed.look(now) is not None:
            break
        if kind == 'act':
            counted = followed.hear_action(acting(*what), now)
            assert not (counted and (what[0] != 'go' or what[1] in seen))
            seen |= {what[1]} if counted else set()
        elif kind == 'gate':
            gates.append(what[0])
            followed.hear_gate(GateReport(state=what[0]), now)
        elif kind == 'success':
            told |= what[0]
            followed.hear_success(what[0])
        elif kind == 'say':
            followed.hear_instruction(what[0], now, what[1])
    ending = followed.look(max(now, 10.0))
    assert ending is not None
    assert ending.sentence
    assert followed.steps == len(seen)
    if ending.code == CODES.NONE:
        enough = most and followed.steps >= most and not still and not topic
        assert told or enough or (still and followed.steps >= still)
    if ending.code == CODES.STOPPED_BY_GATE:
        assert gates


def acting(instruction, sequence):
    message = action(sequence=sequence)
    message.instruction = instruction
    return message
