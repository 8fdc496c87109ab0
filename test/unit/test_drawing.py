"""Drawing: marks stand where they must, and text fits where it is put."""

import dataclasses
from itertools import pairwise
import time

import numpy as np
from PIL import Image
import pytest

from trt_openvla_ros.drawing.content import Box, Content, Gate, Rule, Step
from trt_openvla_ros.drawing.lettering import clean, width_of, wrap
from trt_openvla_ros.drawing.marks import ACCENT, arrow, Dot, Label, Stroke
from trt_openvla_ros.drawing.overlay import draw, flat_marks
from trt_openvla_ros.drawing.paint import paint
from trt_openvla_ros.drawing.panel import panel_marks, WIDTH
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.sim.world import World

GREY = np.full((240, 320, 3), 128, np.uint8)
LONG = 'the gripper is above the red block and has to go a little to the left ' * 30
RICH = Content(
    instruction='pick up the red block ' * 8,
    reasoning={'PLAN': LONG, 'MOVE': 'move left', 'SUBTASK': 'grasp'},
    boxes=[Box('red block', np.array([20, 30, 80, 90])), Box('', np.array([0, 0, 319, 239]))],
    points=np.array([[10, 10], [50, 60], [300, 200]]),
    arrow=np.array([[100, 100], [200, 150]]),
    arrow_note='arrow: as the policy asks; no gate has checked it',
    step=Step(np.array([0.02, -0.01, 0, 0, 0.1, 0, 1]), np.zeros(7), 1, 1, 'open', True, 9),
    gate=Gate('holding', LONG, 2, [Rule(f'rule_{i}', i % 4, 2, 1, 'm') for i in range(9)]),
    timings={'total': 0.2, 'vision': 0.05, 'decode': 0.1},
    ages={'image': 0.1, 'pose': 5.0},
    stale=frozenset({'pose'}),
)


@pytest.fixture
def world():
    made = World()
    made.reset(7)
    yield made
    made.close()


def changed(before, after):
    """Places [N, 2] (x, y) at which two pictures differ."""
    return np.argwhere((before != after).any(2))[:, ::-1]


@pytest.mark.parametrize('scale', [1, 2, 3])
def test_dot_is_where_the_camera_sees_the_hand(world, scale):
    place = world.project(world.hand.position)
    picture = np.zeros((256, 256, 3), np.uint8)
    drawn = draw(picture, Content(arrow=np.stack([place, place])), 'none', 256 * scale)
    assert drawn.shape == (256 * scale, 256 * scale, 3)
    middle = changed(np.zeros_like(drawn), drawn).mean(0)
    np.testing.assert_allclose((middle + 0.5) / scale - 0.5, place, atol=0.3)


def test_arrow_reaches_from_its_start_to_its_tip(world):
    hand = world.hand.position
    ends = world.project(np.stack([hand, hand + np.array([0.1, -0.05, 0.0])]))
    drawn = draw(np.zeros((256, 256, 3), np.uint8), Content(arrow=ends), 'none', 0)
    places = np.argwhere((drawn == ACCENT).all(2))[:, ::-1]
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    reach = (places - ends[0]) @ along
    assert abs(reach.max() - np.linalg.norm(ends[1] - ends[0])) < 2
    assert -5 < reach.min() < 0  # the dot around its start
    assert np.abs((places - ends[0]) @ [-along[1], along[0]]).max() < 6


def test_box_is_drawn_on_its_corners():
    drawn = draw(GREY, Content(boxes=[Box('', np.array([50, 60, 150, 160]))]), 'none', 0)
    places = changed(GREY, drawn)
    np.testing.assert_allclose([*places.min(0), *places.max(0)], [50, 60, 150, 160], atol=2)
    assert (drawn[80:140, 70:130] == 128).all()


def test_picture_itself_is_not_touched():
    picture = GREY.copy()
    draw(picture, RICH)
    assert (picture == 128).all()


@pytest.mark.parametrize('panel', ['beside', 'over', 'none'])
@pytest.mark.parametrize('size', [(1, 1), (16, 9), (240, 320), (1080, 1920), (2000, 30)])
def test_every_size_is_drawn(panel, size):
    picture = np.zeros((*size, 3), np.uint8)
    drawn = draw(picture, RICH, panel, min_height=0 if max(size) > 100 else 480)
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] >= size[0]
    assert drawn.shape[1] >= size[1]


@pytest.mark.parametrize(
    ('size', 'largest'), [((1, 100_000), 9e6), ((100_000, 1), 5e5), ((8, 8), 480 * 820)]
)
def test_low_and_wide_pictures_and_columns_stay_small(size, largest):
    drawn = draw(np.zeros((*size, 3), np.uint8), RICH, max_pixels=9_000_000)
    assert drawn.shape[0] * drawn.shape[1] <= largest
    assert flat_marks(RICH, *size)


@pytest.mark.parametrize('height', [480, 512, 1080])
def test_lines_of_the_panel_fit_and_do_not_overlap(height):
    unit = height / 480
    width = WIDTH * unit
    marks = panel_marks(RICH, (0, 0, width, height), unit)
    lines = {}
    for label in (mark for mark in marks if isinstance(mark, Label)):
        size = round(label.size * unit)
        right = label.corner[0] + width_of(label.text, size)
        assert right <= width, label.text
        assert 0 < label.corner[1] <= height
        lines.setdefault(round(label.corner[1], 3), []).append((label.corner[0], right, size))
    bottoms = sorted(lines)
    for above, below in pairwise(bottoms):
        size = max(size for _, _, size in lines[below])
        assert below - above >= 1.2 * size
    for row in lines.values():
        row.sort()
        for one, other in pairwise(row):
            assert one[1] <= other[0], 'two numbers overlap'
    shown = ' '.join(mark.text for mark in marks if isinstance(mark, Label))
    for text in (
        'gate: holding',
        'stop rule_3',
        'grip',
        'open',
        'step 200 ms',
        'pose 5.00 s (old)',
    ):
        assert text in shown
    assert '…' in shown  # the reasoning does not fit


def test_verdicts_are_told_by_word_and_by_colour():
    marks = panel_marks(RICH, (0, 0, 340, 480), 1)
    colours = {
        mark.text.split()[0]: mark.colour
        for mark in marks
        if isinstance(mark, Label) and 'rule_' in mark.text
    }
    assert {'stop', 'hold'} <= colours.keys()
    assert len(set(colours.values())) == len(colours)


@pytest.mark.parametrize(
    ('units', 'numbers', 'words'),
    [
        ((1.0, 1.0), ['+20', '-10', '+0', '+0', '+100', '+0'], 'mm, mrad'),
        ((0.05, 0.5), ['+1', '-0', '+0', '+0', '+50', '+0'], 'mm, mrad'),
        ((0.0, 0.0), ['+0.02', '-0.01', '+0.00', '+0.00', '+0.10', '+0.00'], 'unknown unit'),
        ((1.0, 0.0), ['+20', '-10', '+0', '+0.00', '+0.10', '+0.00'], 'mm, unknown unit'),
    ],
)
def test_numbers_have_units_only_where_they_are_known(units, numbers, words):
    step = dataclasses.replace(RICH.step, translation_unit=units[0], rotation_unit=units[1])
    assert step.numbers == [*numbers, 'open']
    assert step.units == words


@pytest.mark.parametrize(
    ('gripper', 'value', 'word'),
    [
        ('open', 1, 'open'),
        ('open', 0, 'close'),
        ('closed', 1, 'close'),
        ('unknown', 1, '1.00'),
        ('none', 0.5, '0.50'),
        ('open', 850, '850.00'),
    ],
)
def test_gripper_is_named_only_where_it_is_known(gripper, value, word):
    assert Step(np.array([0] * 6 + [value]), np.zeros(7), gripper=gripper).hand == word


def test_recorded_step_has_bars_and_numbers_of_its_own():
    recorded = Step(np.array([0.03] * 6 + [0]), np.full(7, 0.5), 1, 1, 'open')
    step = dataclasses.replace(RICH.step, normalised=np.full(7, -0.5))
    marks = {}
    for name, one in (('alone', step), ('both', dataclasses.replace(step, recorded=recorded))):
        marks[name] = panel_marks(Content(step=one), (0, 0, 340, 480), 1)
    texts = {
        name: [mark.text for mark in found if isinstance(mark, Label)]
        for name, found in marks.items()
    }
    bars = {
        name: [mark.points for mark in found if isinstance(mark, Stroke) and mark.filled]
        for name, found in marks.items()
    }
    assert 'recorded' not in texts['alone']
    assert 'recorded' in texts['both']
    assert texts['both'].count('+30') == 6
    assert [len(found) for found in bars.values()] == [7, 14]
    for ours, other in zip(bars['both'][::2], bars['both'][1::2], strict=True):
        assert ours[:, 1].min() == other[:, 1].max()  # one hangs down, the other stands
        assert ours[:, 0].max() <= other[:, 0].min()


def test_step_that_there_is_not_is_shown_as_missing():
    missing = Step(np.full(7, np.nan), np.full(7, np.nan), 1, 1, 'open', recorded=RICH.step)
    assert missing.numbers == ['-'] * 7
    marks = panel_marks(Content(step=missing), (0, 0, 340, 480), 1)
    assert not any(isinstance(mark, Stroke) and mark.filled for mark in marks)


def test_marks_that_are_not_finite_are_left_out():
    canvas = GREY.copy()
    nan = np.array([np.nan, 1.0])
    paint(canvas, [Dot(nan, 3, ACCENT), Label(nan, 'x', 12), Stroke(np.array([nan]), ACCENT)], 1)
    paint(canvas, arrow(nan, np.array([1, 2]), 1), 1)
    assert (canvas == 128).all()
    paint(canvas, [Stroke(np.array([[0, 100], [1e12, 100]]), ACCENT, 3)], 1)
    assert (canvas[100, 5:, 0] == ACCENT[0]).all()


def test_label_moves_inside_at_every_edge():
    for corner in ([-50, -50], [1000, 1000]):
        canvas = GREY.copy()
        paint(canvas, [Label(np.array(corner), 'name', 20, ground=(0, 0, 0))], 1)
        assert (canvas == 0).all(2).sum() > 200


def test_words_are_broken_only_where_they_must_be():
    lines = wrap('put the spoon on the towel', 100, 13)
    assert ' '.join(lines) == 'put the spoon on the towel'
    assert all(width_of(line, 13) <= 100 for line in lines)
    assert ''.join(wrap('x' * 200, 100, 13)) == 'x' * 200
    assert wrap('', 100, 13) == ()


@pytest.mark.parametrize('letter', ['x', '红'])
def test_long_text_without_spaces_is_broken_at_once(letter):
    width_of.cache_clear()
    begin = time.monotonic()
    lines = wrap(letter * 100_000, 316, 13)
    assert time.monotonic() - begin < 2  # minutes, if lines were measured from the end of the text
    assert set(''.join(lines)) == {letter}
    assert all(width_of(line, 13) <= 316 for line in lines)
    assert all(width_of(line + letter, 13) > 316 for line in lines[:-1])


def test_control_characters_become_visible():
    assert (
        clean('a\x1b[31m\tb\n\x00') == 'a\N{REPLACEMENT CHARACTER}[31m b \N{REPLACEMENT CHARACTER}'
    )


def test_font_that_is_none_is_named(tmp_path):
    path = tmp_path / 'font.ttf'
    path.write_text('no font')
    with pytest.raises(ConfigError, match=r'font\.ttf'):
        draw(GREY, RICH, font=str(path))


def test_flat_marks_have_the_same_text():
    shown = [mark.text for mark in flat_marks(RICH, 480, 640) if isinstance(mark, Label)]
    assert any('move left' in text for text in shown)
    assert 'red block' in shown


def test_pictures_have_a_look_of_their_own(tmp_path):
    """A drawn picture can be saved, and its text is bright on dark."""
    drawn = draw(GREY, RICH)
    Image.fromarray(drawn).save(tmp_path / 'drawn.png')
    panel = drawn[:, 640:]
    assert panel.mean() < 60
    assert panel.max() == 255
