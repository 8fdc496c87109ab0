"""The simulation's executable, as a launch file or a user starts it."""

import signal

from player import Player
import pytest


def test_it_shows_images_and_ends_on_interrupt(graph, execute):
    process = execute('sim_node', seed=3, rate=20.0)
    player = Player(graph.context)
    player.next_image()
    assert player.reset(4).success
    player.close()

    process.send_signal(signal.SIGINT)

    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors
    assert 'Exception ignored' not in errors


@pytest.mark.parametrize(
    ('environment', 'parameters', 'reason'),
    [
        ({'MUJOCO_GL': 'crayons'}, {}, "cannot render with MUJOCO_GL='crayons'"),
        ({}, {'instruction': 'dance'}, "instruction 'dance' names no goal of this table"),
        ({}, {'rate': -1.0}, 'rate'),
        (
            {},
            {'qos_overrides./camera/image_raw.publisher.reliability': 'perfect'},
            'a parameter of qos_overrides./camera/image_raw cannot be used',
        ),
    ],
)
def test_what_cannot_work_ends_it_with_the_reason(execute, environment, parameters, reason):
    process = execute('sim_node', environment=environment, **parameters)

    _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert reason in errors
    assert 'Traceback' not in errors
