"""The monitor's screen and its line: pure functions of a snapshot."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console, Group

from trt_openvla_ros.drawing.content import Gate, Rule, Step
from trt_openvla_ros.nodes.monitor.screen import one_line, screen
from trt_openvla_ros.nodes.monitor.snapshot import Line, Meter, Report, Snapshot

FULL = Snapshot(
    title='/left 12:34:56',
    topics=[
        Line('image', 1, 29.97, 0.02),
        Line('pose', 1, 0.0, 7.5),
        Line('policy/action', 0, 0.0, 3.1),
        Line('robot/gate', 1),
        Line('/diagnostics', 0),
    ],
    latency={'total': (210.0, 260.0), 'vision': (40.0, 45.5), 'decode': (120.0, 130.0)},
    image_age=0.033,
    action_age=0.28,
    instruction='pick up the red block',
    reasoning={'MOVE': 'move left', 'PLAN': 'go there and then back again ' * 20},
    step=Step(np.array([0.02, -0.01, 0, 0, 0.1, 0, 1]), np.zeros(7), 1, 1, 'open', True, 9),
    gate=Gate(
        'holding',
        'outside of the workspace',
        2,
        [
            Rule('speed', 1, 0.4, 0.25, 'm/s', count=12),
            Rule('workspace', 2, reason='x is 0.3 m', count=3),
        ],
    ),
    reports=[
        Report(0, '/policy: policy', 'active'),
        Report(2, '/robot: bridge', 'holding: no pose'),
        *(Report(1, f'/other: {i}', 'so so') for i in range(5)),
    ],
)


def rendered(snapshot, width=80, height=24, colours=False):
    system = 'standard' if colours else None
    console = Console(width=width, height=height, force_terminal=colours, color_system=system)
    with console.capture() as capture:
        console.print(Group(*screen(snapshot, width, height)), end='')
    return capture.get()


def test_everything_fits_into_80_by_24():
    lines = rendered(FULL).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = '\n'.join(lines)
    for part in (
        '/left 12:34:56',
        'q quits',
        'image             30.0   0.02',
        'step          210.0    260.0',
        'vision         40.0     45.5',
        '“pick up the red block”',
        'move: move left',
        'action 9 [mm, mrad]  gripper open  limited',
        'x +20 y -10 z +0 roll +0 pitch +100 yaw +0',
        'gate holding verdict hold  outside of the workspace',
        'hold workspace x is 0.3 m',
        'counts: speed 12, workspace 3',
        'ERROR /robot: bridge: holding: no pose',
        'more of /diagnostics',
    ):
        assert part in text, text


@pytest.mark.parametrize(('width', 'height'), [(80, 24), (40, 10), (200, 60), (10, 3), (1, 1)])
def test_no_terminal_is_too_small(width, height):
    for snapshot in (FULL, Snapshot('now')):
        lines = rendered(snapshot, width, height).splitlines()
        assert len(lines) <= height
        assert max(map(len, lines), default=0) <= width


def test_dead_topics_are_red_and_say_why():
    lines = rendered(FULL, colours=True).splitlines()
    red = {line.split()[0].split('m', 1)[-1]: line for line in lines if '\x1b[1;31m' in line}
    text = ' '.join(red.values())
    for name, why in (
        ('pose', 'silent'),
        ('policy/action', 'gone'),
        ('robot/gate', 'no messages'),
    ):
        assert any(name in line and why in line for line in red.values()), text
    assert not any('image  ' in line or '/diagnostics ' in line for line in red.values())


def test_long_reasoning_is_cut_before_anything_else():
    reasoning = {'PLAN': 'word ' * 2000}
    text = rendered(dataclasses.replace(FULL, reasoning=reasoning))
    assert ' …' in text
    assert 'counts: speed 12' in text


def test_nothing_is_known_at_first():
    text = rendered(Snapshot('12:00:00'))
    assert 'no instruction' in text
    assert 'no action' in text
    assert 'no gate' in text


def test_text_from_the_network_cannot_command_the_terminal():
    evil = 'a\x1b]0;owned\x07\x1b[2Jb'
    snapshot = dataclasses.replace(
        FULL,
        title=evil,
        instruction=evil,
        reasoning={'PLAN': evil},
        gate=Gate(evil, evil, 1, [Rule(evil, 1, reason=evil, count=1)]),
        reports=[Report(2, evil, evil)],
    )
    for text in (rendered(snapshot), one_line(snapshot)):
        assert '\x1b' not in text
        assert '\x07' not in text


def test_one_line_has_rates_gate_and_what_is_dead():
    text = one_line(FULL)
    assert '\n' not in text
    for part in (
        'image 30.0 Hz',
        'step 210/260 ms',
        'image age 0.28 s',
        'gate holding hold (speed 12, workspace 3)',
        '"pick up the red block"',
        'ERROR /robot: bridge: holding: no pose',
        'DEAD: pose (silent), policy/action (gone), robot/gate (no messages)',
    ):
        assert part in text


def test_one_line_says_that_nobody_is_there():
    silent = [Line('image', 0), Line('pose', 0)]
    assert one_line(Snapshot('12:00:00', silent)) == '12:00:00 | no node is there yet'
    for there in (Line('image', 1, waited=0.5), Line('image', 0, 0.0, 3.0)):
        assert 'no node' not in one_line(Snapshot('12:00:00', [there, *silent]))


def test_rate_is_that_of_the_last_while():
    meter = Meter()
    assert meter.age(0.0) is None
    assert meter.rate(0.0) == 0
    for tick in range(100):
        meter.tick(0.1 * tick)
    assert meter.rate(9.9) == pytest.approx(10)
    assert meter.age(11.9) == pytest.approx(2)
    assert meter.rate(100.0) == 0
    meter.tick(100.0)
    assert meter.rate(100.0) == 0
