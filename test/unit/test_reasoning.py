from itertools import pairwise

import numpy as np
import pytest

from trt_openvla_ros.errors import OutputError
from trt_openvla_ros.policy.reasoning import parse_fields, ReasoningStream, split_answer

ACTION = [990, 991, 992, 993, 994, 995, 996]
FULL = (
    'put it there. PLAN: go, then grip. VISIBLE OBJECTS: cup [1, 2, 3, 4] SUBTASK REASONING: far. '
    'SUBTASK: go to it. MOVE REASONING: it is left. MOVE: move left GRIPPER POSITION: [5, 6]'
)


def decode(ids):
    return {1: ' TASK', 2: '', 3: f'{FULL} ACTION:', 4: ' hm'}[ids[0]] if ids else ''


def split(ids, reasons=True):
    return split_answer(ids, eos_id=2, count=7, decode=decode, reasons=reasons)


def test_parse_fields_finds_every_tag_in_order():
    assert parse_fields(FULL) == {
        'TASK': 'put it there.',
        'PLAN': 'go, then grip.',
        'VISIBLE OBJECTS': 'cup [1, 2, 3, 4]',
        'SUBTASK REASONING': 'far.',
        'SUBTASK': 'go to it.',
        'MOVE REASONING': 'it is left.',
        'MOVE': 'move left',
        'GRIPPER POSITION': '[5, 6]',
    }


def test_parse_fields_in_another_order_with_repeats_and_gaps():
    text = 'MOVE: up SUBTASK: b TASK: late MOVE: down'
    assert parse_fields(text) == {'MOVE': 'up', 'SUBTASK': 'b', 'TASK': 'late'}


@pytest.mark.parametrize('text', ['', '   ', 'no tags at all'])
def test_parse_fields_without_tags(text):
    assert parse_fields(text) == ({'TASK': text.strip()} if text.strip() else {})


def test_end_of_sequence_is_removed_before_the_action_is_taken():
    reasoning, ids = split([3, *ACTION, 2])
    assert reasoning == FULL
    np.testing.assert_array_equal(ids, ACTION)
    np.testing.assert_array_equal(split([3, *ACTION])[1], ACTION)


def test_truncated_reasoning_is_no_action():
    with pytest.raises(OutputError, match=r'without reaching an action.*max_new_tokens'):
        split([4, *ACTION])


@pytest.mark.parametrize('ids', [[], [2], ACTION[:6], [*ACTION[:6], 2, *ACTION]])
def test_too_few_tokens_are_no_action(ids):
    with pytest.raises(OutputError, match='of 7 action tokens'):
        split(ids, reasons=False)


def test_plain_answer_has_no_reasoning():
    reasoning, ids = split(ACTION, reasons=False)
    assert reasoning == ''
    np.testing.assert_array_equal(ids, ACTION)


def test_stream_grows_and_ends_before_the_tag():
    text = 'move the hand. PLAN: caf\u00e9 MOVE: go ACTION: xyz'
    told = []
    # As if each character were a token, and one of them two.
    stream = ReasoningStream(lambda ids: ''.join(map(chr, ids)), told.append)
    for count in range(1, len(text) + 1):
        if text[count - 1] == '\u00e9':
            stream([*map(ord, text[: count - 1]), 0xFFFD])
        stream([*map(ord, text[:count])])
    assert told[0] == 'm'
    assert told[-1] == 'move the hand. PLAN: caf\u00e9 MOVE: go'
    assert len(told) == len(set(told))
    assert not any('\ufffd' in part or 'ACTION' in part for part in told)
    assert all(later.startswith(earlier) for earlier, later in pairwise(told))
