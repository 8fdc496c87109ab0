"""Which actions move the simulated hand, and that no other does."""

import numpy as np
from player import STILL, UP
import pytest
from std_msgs.msg import String


@pytest.mark.parametrize(
    ('reason', 'change'),
    [
        ('not seven finite numbers', {'action': (*UP[:5], np.nan, 1.0)}),
        ('the gripper is 2.0', {'action': (*UP[:6], 2.0)}),
        ("follows 'dance'", {'instruction': 'dance'}),
        ('stamp 12.', {'sec': 12}),
        ('stamp -1.', {'sec': -1}),
    ],
)
def test_action_that_does_not_count_moves_nothing(play, reason, change):
    player = play()
    instruction = player.reset(1).instruction
    image = player.next_image()
    sec = image.header.stamp.sec
    image.header.stamp.sec = change.get('sec', sec)

    player.answer(image, change.get('instruction', instruction), change.get('action', UP))

    image.header.stamp.sec = sec
    player.warned(reason)
    again = player.next_image()
    assert again.header.stamp != image.header.stamp
    assert again.data == image.data
    assert '; 0 steps' in player.success().message
    # That it was the same world, either image may tell: a slow policy answers the first.
    player.answer(image, instruction, UP)
    moved = player.next_image(lambda message: message.data != image.data)
    assert player.pose_of(moved)[2] - player.pose_of(image)[2] > 0.02


def test_image_is_answered_once(play):
    player = play()
    instruction = player.reset(1).instruction
    first = player.next_image()
    player.answer(first, instruction, UP)
    second = player.next_image(lambda message: message.data != first.data)

    player.answer(first, instruction, UP)

    player.warned('newer than the last answered')
    assert player.next_image().data == second.data
    assert '; 1 steps' in player.success().message


def test_image_from_before_a_reset_is_not_answered(play):
    player = play()
    player.reset(1)
    old = player.next_image()
    instruction = player.reset(1).instruction

    player.answer(old, instruction, UP)

    player.warned('an image since the reset')
    assert player.next_image().data == old.data


def test_in_real_time_the_hand_waits_for_actions(play):
    player = play(rate=20.0)
    instruction = player.reset(1).instruction
    first = player.next_image()
    later = player.next_image()
    np.testing.assert_allclose(player.pose_of(later), player.pose_of(first), atol=1e-3)

    player.answer(player.next_image(), instruction, (0.0, 0.0, 0.03, 0.0, 0.0, 0.0, 0.0))

    moved = player.next_image(
        lambda m: player.pose_of(m)[2] - player.pose_of(first)[2] > 0.02,
    )
    # It stays there, and closed.
    player.joints.clear()
    player.wait(lambda: len(player.joints) > 5, 'joint states')
    assert {tuple(message.name) for message in player.joints} == {('finger_left', 'finger_right')}
    assert max(message.position[0] for message in player.joints) < 0.015
    np.testing.assert_allclose(
        player.pose_of(player.next_image()), player.pose_of(moved), atol=2e-3
    )


def test_in_real_time_an_older_image_than_the_last_answered_is_ignored(play):
    player = play(rate=20.0)
    instruction = player.reset(1).instruction
    older, newer = player.next_image(), player.next_image()
    player.answer(newer, instruction, STILL)

    player.answer(older, instruction, UP)

    player.warned('newer than the last answered')
    image = player.next_image()
    np.testing.assert_allclose(player.pose_of(image), player.pose_of(older), atol=1e-3)


@pytest.mark.parametrize('rate', [0.0, 20.0])
@pytest.mark.parametrize('change', ['reset', 'instruction'])
def test_action_that_was_under_way_when_the_scene_changed_is_no_news(play, rate, change):
    player = play(rate=rate)
    instruction = player.reset(1).instruction
    old = player.next_image()
    if change == 'reset':
        asked = player.reset(2).instruction
    else:
        asked = 'dance'
        player.words.publish(String(data=asked))
        player.warned(f'instruction: {asked!r}')
    assert asked != instruction

    player.answer(old, instruction, UP)

    # But what a policy begins with afterwards must be right.
    player.answer(player.next_image(), instruction, UP)
    player.warned(f'but the instruction is {asked!r}')
    assert not [log for log in player.logs if 'waits for an action' in log]


def test_answers_to_a_repeated_image_are_no_news(play):
    player = play()
    instruction = player.reset(1).instruction
    first = player.next_image()
    repeated = player.next_image()  # nobody answered within a second
    assert repeated.data == first.data
    player.answer(first, instruction, UP)
    player.next_image(lambda message: message.data != first.data)

    player.answer(repeated, instruction, UP)

    player.answer(first, instruction, UP)
    player.warned(f'stamp {first.header.stamp.sec}.{first.header.stamp.nanosec:09d}')
    assert sum('waits for an action' in log for log in player.logs) == 1
    assert '; 1 steps' in player.success().message
