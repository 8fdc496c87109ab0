"""Boxes and points of a reasoning, in the notation of Embodied Chain-of-Thought."""

import time

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from trt_openvla_ros.policy.pointing import boxes_of, points_of
from trt_openvla_ros.policy.reasoning import parse_fields
from trt_openvla_ros.sim.expert import expert
from trt_openvla_ros.sim.goals import Goal
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.training.reasoning_text import reasoning_of


def boxes(text):
    return {
        name: (256 * corners - 0.5).tolist()
        for name, corners in boxes_of({'VISIBLE OBJECTS': text})
    }


def points(text):
    return (256 * points_of({'GRIPPER POSITION': text}) - 0.5).tolist()


def test_boxes_have_names_and_corners():
    # As the released training text has them.
    text = 'blue fork [25, 73, 51, 109], a silver bowl [100, 20, 180, 91], toy-fish [0, 0, 9, 255]'
    assert boxes(text) == {
        'blue fork': [25, 73, 51, 109],
        'a silver bowl': [100, 20, 180, 91],
        'toy-fish': [0, 0, 9, 255],
    }


def test_points_are_pairs_in_one_list():
    assert points('[117, 64, 117, 66, 118, 70]') == [[117, 64], [117, 66], [118, 70]]


@pytest.mark.parametrize(
    'text',
    [
        '', 'cup', 'cup [', 'cup [1, 2, 3]', 'cup [1, 2, 3, 4, 5]', 'cup [a, b, c, d]',
        'cup [9, 9, 1, 1]', 'cup [5, 5, 5, 9]', 'cup [1; 2; 3; 4]', 'cup [nan, 2, 3, 4]',
        'cup [1e5, 2, 3, 4]', 'cup [٣, 2, 3, 4]x', 'cup [300, 0, 400, 10]',
    ],
)  # fmt: skip
def test_what_is_no_box_is_left_out(text):
    found = boxes(text + ', ball [1, 2, 3, 4]')
    assert found == {'ball': [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('[10, 20, 30]', [[10, 20]]),
        ('[10, 20, 300, 20, 5, 5]', [[10, 20]]),
        ('[-1, 20]', []),
        ('none', []),
        ('[1, 2] and [3, 4]', [[3, 4]]),
    ],
)
def test_points_end_where_they_cannot_be_read(text, expected):
    assert points(text) == expected


def test_long_text_without_brackets_is_read_at_once():
    fields = dict.fromkeys(('VISIBLE OBJECTS', 'GRIPPER POSITION'), 'a ' * 500_000)
    begin = time.monotonic()
    assert boxes_of(fields) == []
    assert len(points_of(fields)) == 0
    assert time.monotonic() - begin < 5  # minutes, if each place were looked at from each other


def test_boxes_over_the_edge_are_cut():
    ((_, corners),) = boxes_of({'VISIBLE OBJECTS': 'cup [-20, 10, 400, 50]'})
    assert corners[0] == 0
    assert corners[2] == 1


def test_no_more_than_a_few_are_given():
    assert len(boxes_of({'VISIBLE OBJECTS': 'cup [1, 2, 3, 4], ' * 500})) <= 32
    assert len(points_of({'GRIPPER POSITION': str([1] * 5000)})) <= 32


@given(st.text(alphabet='ab ,[]-.0123456789:\n\x00', max_size=200))
def test_any_text_is_read(text):
    fields = parse_fields(f'VISIBLE OBJECTS: {text} GRIPPER POSITION: {text}')
    for _, corners in boxes_of(fields):
        assert ((corners >= 0) & (corners <= 1)).all()
    found = points_of(fields)
    assert found.shape[1:] == (2,)
    assert ((found >= 0) & (found <= 1)).all()


def test_the_words_of_the_teacher_point_at_what_is_there():
    world = World()
    world.reset(7)
    goal = Goal('pick', *world.things[0].name.split())
    action = expert(world.state, goal)
    fields = parse_fields(reasoning_of(world, world.state, goal, action))
    found = dict(boxes_of(fields))
    for thing in world.things:
        left, top, right, bottom = 256 * found[thing.name] - 0.5
        x, y = world.project(thing.position)
        assert left < x < right
        assert top < y < bottom
    now = 256 * points_of(fields)[0] - 0.5
    np.testing.assert_allclose(now, world.project(world.hand.position), atol=0.51)
