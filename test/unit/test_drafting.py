"""The drafter that continues an answer as the one before it went on."""

import random

import pytest

from trt_openvla_ros.engines.drafting import PreviousAnswer

COLON, COMMA, BOX, MOVE, POINTS, ACTION = 1, 2, 3, 4, 5, 6
BOUNDARIES = (COLON, COMMA, BOX, MOVE, POINTS, ACTION)


def answer(box=(100, 101, 102, 103), move=(40, 41, 42), points=(110, 111), act=(900, 901, 902)):
    """Write an answer in the order of a reasoning."""

    def listed(numbers):
        return [i for number in numbers for i in (number, COMMA)][:-1]

    head = [20, 21, 22, 23, 24, BOX, COLON]
    middle = [MOVE, COLON, *move, POINTS, COLON, *listed(points), ACTION, COLON]
    return [*head, *listed(box), *middle, *act]


def verify(drafter, wanted, key=None):
    """Give the drafts for an answer, as an engine that writes `wanted` asks for them."""
    drafter.begin(key)
    ids, drafts = [], []
    while len(ids) < len(wanted):
        draft = drafter.propose(list(ids))
        rest = wanted[len(ids) :]
        right = 0
        while right < min(len(draft), len(rest)) and draft[right] == rest[right]:
            right += 1
        drafts.append(draft)
        ids += rest[: right + 1]
    drafter.keep(ids)
    return drafts


def taught(*answers, most=63):
    drafter = PreviousAnswer(most, BOUNDARIES)
    for one in answers:
        verify(drafter, one)
    return drafter


def test_without_a_previous_answer_there_is_no_draft():
    drafter = PreviousAnswer(63, BOUNDARIES)
    drafter.begin()
    assert drafter.propose([]) == []
    assert drafter.propose([20, 21]) == []
    drafter.begin()
    drafter.keep([])
    drafter.begin()
    assert drafter.propose([]) == []


def test_the_same_answer_takes_few_passes():
    drafter = taught(*[answer()] * 8)
    assert len(verify(drafter, answer())) == 1
    assert len(verify(PreviousAnswer(63), answer())) == len(answer())


@pytest.mark.parametrize('most', [1, 7, 20])
def test_no_draft_is_longer_than_allowed(most):
    drafter = taught(*[answer()] * 8, most=most)
    assert max(map(len, verify(drafter, answer()))) == most


CHANGES = {
    'a replaced number': ({}, {'box': (100, 150, 102, 103)}, 2),
    'a replaced word': ({}, {'move': (40, 45, 42)}, 2),
    'a word less': ({}, {'move': (40, 42)}, 2),
    'no word left of three': ({}, {'move': (40,)}, 2),
    'a word more': ({}, {'move': (40, 46, 41, 42)}, 3),
    'another box': ({}, {'box': (100, 101, 102, 103, 150)}, 3),
    'a box less': ({'box': (100, 101, 102, 103, 104, 105)}, {'box': (100, 101, 102, 103)}, 2),
    'all numbers': ({}, {'box': (150, 151, 152, 153)}, 5),
    'the action': ({}, {'act': (910, 901, 902)}, 2),
    'numbers that repeat': ({'box': (100,) * 4}, {'box': (100, 100, 150, 100)}, 2),
    'a number of another place': ({}, {'box': (103, 101, 102, 110)}, 3),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_draft_goes_on_at_the_same_place_after_a_change(change):
    before, after, most = CHANGES[change]
    drafter = taught(*[answer(**before)] * 8)
    assert len(verify(drafter, answer(**after))) <= most


def test_a_far_copy_of_the_last_ids_does_not_attract():
    # 7 8 9 stands at both ends; plain look-up of the last three ids would take either one.
    first = [7, 8, 9, 30, 31, 32, 33, 34, 35, 7, 8, 9, 50, 51, 52]
    drafter = taught(*[first] * 8)
    drafter.begin()
    assert drafter.propose([7, 8, 9])[:3] == [30, 31, 32]
    assert drafter.propose([7, 8, 9, *range(30, 36), 7, 8, 9])[:3] == [50, 51, 52]


def test_a_tag_finds_its_place_after_a_rewritten_part():
    drafter = taught(*[answer()] * 8)
    drafter.begin()
    begin = [60, 61, 62, 63, 64, 65, 66, 67, BOX, COLON]
    assert drafter.propose(begin)[:3] == [100, COMMA, 101]


def test_what_changes_at_each_step_is_not_drafted_far():
    drafter = PreviousAnswer(63, BOUNDARIES)
    draw = random.Random(0)
    for _ in range(20):
        verify(drafter, answer(points=[draw.randrange(100, 800) for _ in range(12)]))
    begin = answer(points=(5000,) * 12)
    at = begin.index(5000)
    drafter.begin()
    # Through all that stayed, and a number or two into the rest.
    assert at <= len(drafter.propose([])) <= at + 4
    assert len(drafter.propose(begin[: at + 2])) <= 4


def test_each_key_has_its_own_answer_and_a_new_key_the_newest():
    drafter = PreviousAnswer(63, BOUNDARIES)
    other = [70, 71, 72, 73]
    verify(drafter, answer(), 'one')
    verify(drafter, other, 'two')
    drafter.begin('one')
    assert drafter.propose([])[:5] == answer()[:5]
    drafter.begin('three')
    assert drafter.propose([]) == other


def test_old_keys_are_forgotten():
    drafter = PreviousAnswer(63)
    for key in range(40):
        verify(drafter, [key + 100], key)
    drafter.begin(0)
    assert drafter.propose([]) == [139]
    drafter.begin(35)
    assert drafter.propose([]) == [135]


def test_an_answer_that_failed_is_no_draft():
    drafter = taught(answer())
    drafter.begin()
    drafter.propose([])
    drafter.propose([70, 71])
    drafter.begin()
    assert drafter.propose([])[:5] == answer()[:5]


def test_ids_that_are_written_already_are_not_drafted_again():
    drafter = taught(*[answer()] * 8)
    drafter.begin(None, answer()[:9])
    assert drafter.propose([])[:4] == answer()[9:13]
    drafter.keep(answer()[9:])
    drafter.begin()
    assert drafter.propose([])[:4] == answer()[:4]


def test_drafts_get_short_when_answers_begin_to_differ():
    drafter = taught(*[answer()] * 400)
    drafter.begin()
    assert len(drafter.propose([])) == len(answer())
    draw = random.Random(0)
    for _ in range(200):
        verify(drafter, [draw.randrange(100, 800) for _ in range(30)])
    drafter.begin()
    assert len(drafter.propose([])) < 4


def test_what_the_model_chose_behind_a_wrong_id_is_the_next_draft():
    drafter = taught(*[answer()] * 8)
    wanted = answer(box=(150, 151, 152, 103))
    at = wanted.index(150)
    drafter.begin()
    draft = drafter.propose([])
    assert draft == answer()
    # The first wrong number leads the next one astray, and not the third.
    chosen = [*wanted[: at + 2], 155, COMMA, *wanted[at + 4 :], 0]
    drafter.observe(chosen)
    assert drafter.propose(wanted[: at + 1]) == [*chosen[at + 1 : -1]]


def test_guesses_behind_a_replaced_part_are_not_used():
    drafter = taught(*[answer()] * 8)
    wanted = answer(move=(40,))
    at = wanted.index(POINTS)
    drafter.begin()
    drafter.propose([])
    drafter.observe([*wanted[: at + 1], *range(700, 700 + len(answer()) - at)])
    assert drafter.propose(wanted[: at + 1])[:3] == [COLON, 110, COMMA]


def test_guesses_of_one_answer_are_not_used_for_another():
    drafter = taught(*[answer()] * 8)
    drafter.begin()
    drafter.observe([800] * len(drafter.propose([])))
    drafter.begin()
    assert drafter.propose([]) == answer()
