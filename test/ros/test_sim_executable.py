"""The simulation's executable, as a launch file or a user starts it."""

import os
from pathlib import Path
import signal
import subprocess

from ament_index_python.packages import get_package_prefix
from player import Player
import pytest


@pytest.fixture
def launch(domain):
    """Start the executable with parameters; it is ended when the test is."""
    prefix = Path(get_package_prefix('trt_openvla_ros'))
    processes = []

    def start(environment=None, **parameters):
        arguments = [x for name, value in parameters.items() for x in ('-p', f'{name}:={value}')]
        process = subprocess.Popen(
            [prefix / 'lib' / 'trt_openvla_ros' / 'sim_node', '--ros-args', *arguments],
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain), **(environment or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_it_shows_images_and_ends_on_interrupt(graph, launch):
    process = launch(seed=3, rate=20.0)
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
    ],
)
def test_what_cannot_work_ends_it_with_the_reason(launch, environment, parameters, reason):
    process = launch(environment, **parameters)

    _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert reason in errors
    assert 'Traceback' not in errors
