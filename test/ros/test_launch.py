"""The launch files for real: two robots at once, each with its camera; and the simulation."""

from collections.abc import Callable
from importlib.util import find_spec
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

from geometry_msgs.msg import PoseStamped
import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import String

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.sim.world import World

pytestmark = [
    pytest.mark.may_skip,
    # Not `launch`: from the checkout's root that name finds the directory of the launch file.
    pytest.mark.skipif(
        find_spec('launch_ros') is None,
        reason='launch_ros is not installed; it comes with ROS 2 and not from PyPI',
    ),
]

LAUNCH_FILES = Path(__file__).parents[2] / 'launch'
PATIENCE = 120.0  # [s] for loading the libraries and the model on a busy machine
# `ros2 launch FILE name:=value ...`, in the main thread of a process, as launch wants it.
LAUNCH = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription

service = LaunchService(noninteractive=True)
arguments = [argument.split(':=', 1) for argument in sys.argv[2:]]
service.include_launch_description(
    IncludeLaunchDescription(sys.argv[1], launch_arguments=arguments)
)
sys.exit(service.run())
"""


class Robot:
    """One launch of a file in a process group of its own, as from a terminal of its own."""

    def __init__(self, domain: int, directory: Path, file: str, *arguments: str) -> None:
        self.log = directory / f'{len(list(directory.glob("*.log")))}.log'
        logs = str(directory / 'ros_log')
        with self.log.open('w') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-c', LAUNCH, str(LAUNCH_FILES / file), *arguments],
                cwd=directory,
                env=os.environ | {'ROS_DOMAIN_ID': str(domain), 'ROS_LOG_DIR': logs},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def interrupt(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


@pytest.fixture
def launch(domain, tmp_path):
    robots = []

    def start(*arguments: str, file: str = 'policy.launch.py') -> Robot:
        robots.append(Robot(domain, tmp_path, file, *arguments))
        return robots[-1]

    yield start
    for robot in robots:
        robot.interrupt()


@pytest.fixture
def node(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node('test_launch', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def spin_until(done: Callable[[], bool], node, robots: list[Robot]) -> None:
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + PATIENCE
    while not done():
        alive = all(robot.process.poll() is None for robot in robots)
        logs = '\n'.join(robot.log.read_text() for robot in robots)
        assert alive, logs
        assert 'process has died' not in logs, logs
        assert time.monotonic() < deadline, logs
        executor.spin_once(timeout_sec=0.2)
    executor.shutdown()


def test_two_robots_act_on_their_own_cameras(launch, node, golden_dir, tmp_path):
    # A name that YAML would read as a number.
    shutil.copytree(golden_dir / 'fused', tmp_path / '2024')
    for key in ('toy_arm', 'other_arm'):
        (tmp_path / f'{key}.yaml').write_text(
            '/**:\n  ros__parameters:\n'
            f'    checkpoint: nowhere\n    unnorm_key: {key}\n    max_image_age: 30.0\n'
        )
    robots = [
        launch(
            'namespace:=left',
            'checkpoint:=2024',
            'params_file:=toy_arm.yaml',
            'image_topic:=/camera/image_raw',
        ),
        launch(
            'namespace:=right',
            'checkpoint:=2024',
            f'params_file:={tmp_path}/other_arm.yaml',
            'image_topic:=wrist/image',
            'instruction_topic:=/say',
            'log_level:=warn',
        ),
    ]
    cameras = [
        node.create_publisher(Image, topic, qos_profile_sensor_data)
        for topic in ('/camera/image_raw', '/right/wrist/image')
    ]
    instructions = [node.create_publisher(String, t, 10) for t in ('/left/instruction', '/say')]
    actions: dict[str, VlaAction] = {}
    for name in ('left', 'right'):
        node.create_subscription(
            VlaAction,
            f'/{name}/policy/action',
            lambda message, name=name: actions.setdefault(name, message),
            10,
        )

    def publish() -> None:
        image = Image(height=48, width=64, encoding='rgb8', step=192, data=bytes(48 * 192))
        image.header.stamp = node.get_clock().now().to_msg()
        for camera in cameras:
            camera.publish(image)
        for name, publisher in zip(('left', 'right'), instructions, strict=True):
            if name not in actions:
                publisher.publish(String(data=f'{name} hand up'))

    node.create_timer(0.1, publish)
    spin_until(lambda: len(actions) == 2, node, robots)

    for name, key in (('left', 'toy_arm'), ('right', 'other_arm')):
        action = actions[name]
        assert (Path(action.checkpoint).name, action.unnorm_key) == ('2024', key)
        assert action.instruction == f'{name} hand up'
    for robot in robots:
        robot.interrupt()
        assert 'process has finished cleanly' in robot.log.read_text(), robot.log.read_text()
    assert '2024\n' in robots[0].log.read_text().split('loaded ')[-1]
    assert 'loaded' not in robots[1].log.read_text()  # which only warns


def test_parameters_file_that_is_missing_starts_nothing(launch):
    robot = launch('params_file:=missing.yaml')
    robot.process.wait(PATIENCE)
    assert 'missing.yaml' in robot.log.read_text()
    assert 'not configured' not in robot.log.read_text()


def test_demo_closes_the_loop_between_simulation_and_policy(launch, node, golden_dir, tmp_path):
    shutil.copytree(golden_dir / 'fused', tmp_path / '2024')
    config = json.loads((tmp_path / '2024' / 'config.json').read_text())
    config['norm_stats'] = {'toy_arm': config['norm_stats']['toy_arm']}
    (tmp_path / '2024' / 'config.json').write_text(json.dumps(config))
    instruction = f'move to the {World.names(3)[0]}'
    actions, heights = [], []
    node.create_subscription(VlaAction, '/policy/action', actions.append, 10)
    node.create_subscription(
        PoseStamped, '/hand/pose', lambda m: heights.append(m.pose.position.z), 10
    )

    demo = launch(
        'checkpoint:=2024', 'seed:=3', f'instruction:={instruction}', file='demo.launch.py'
    )

    # The weights are random, so the hand goes anywhere, but it goes.
    spin_until(lambda: actions and heights and np.ptp(heights) > 0.005, node, [demo])
    assert {action.instruction for action in actions} == {instruction}
    demo.interrupt()
    assert demo.log.read_text().count('process has finished cleanly') == 2, demo.log.read_text()


def read(robot: Robot, done: Callable[[str], bool]) -> str:
    """Wait until the log of a launch is as it should be; give it."""
    deadline = time.monotonic() + PATIENCE
    while not done(log := robot.log.read_text()):
        assert time.monotonic() < deadline, log
        time.sleep(0.05)
    return log


def pids(log: str, executable: str) -> list[int]:
    return [
        int(n) for n in re.findall(rf'\[{executable}-\d+\]: .*started with pid \[(\d+)\]', log)
    ]


def test_respawn_starts_a_node_again_that_was_killed(launch, node, golden_dir):
    robot = launch(f'checkpoint:={golden_dir}/fused', 'unnorm_key:=toy_arm', 'respawn:=True')
    first = pids(read(robot, lambda log: 'loaded' in log), 'policy_node')[0]
    os.kill(first, signal.SIGKILL)
    log = read(robot, lambda log: log.count('loaded') == 2)
    assert len(pids(log, 'policy_node')) == 2


@pytest.mark.parametrize(
    'argument', ['log_level:=loud', 'image_transport:=pigeon', 'image_topic:=bad topic']
)
def test_respawn_ends_with_a_node_that_refuses_its_arguments(launch, argument):
    robot = launch('respawn:=true', argument)
    robot.process.wait(PATIENCE)
    log = robot.log.read_text()
    assert len(pids(log, 'policy_node')) == 1, log
    assert argument.split('=')[1] in log


@pytest.mark.parametrize(
    ('file', 'argument'),
    [
        ('policy.launch.py', 'respawn:=maybe'),
        ('policy.launch.py', 'respawn:='),
        ('policy.launch.py', 'autostart:=maybe'),
        ('policy.launch.py', 'use_sim_time:=2'),
        ('policy.launch.py', 'rotation:=45'),
        ('demo.launch.py', 'rviz:=maybe'),
        ('demo.launch.py', 'seed:=first'),
    ],
)
def test_value_that_is_no_choice_starts_nothing(launch, file, argument):
    robot = launch(argument, file=file)
    assert robot.process.wait(PATIENCE) == 1
    log = robot.log.read_text()
    assert argument.split(':=')[1] in log
    assert 'process started' not in log


def test_arguments_win_over_the_file(launch, node, golden_dir, tmp_path):
    (tmp_path / 'other.yaml').write_text(
        '/**:\n  ros__parameters:\n    unnorm_key: other_arm\n    image_transport: raw\n'
    )
    texts = {'unnorm_key': 'toy_arm', 'image_transport': 'compressed', 'center_crop': 'true'}
    robot = launch(
        'params_file:=other.yaml',
        f'checkpoint:={golden_dir}/fused',
        *(f'{name}:={text}' for name, text in texts.items()),
        'autostart:=false',
        'rotation:=90',
    )
    service = node.create_client(GetParameters, '/policy/get_parameters')
    spin_until(service.service_is_ready, node, [robot])
    asked = service.call_async(GetParameters.Request(names=[*texts, 'autostart', 'rotation']))
    spin_until(asked.done, node, [robot])
    *given, autostart, rotation = asked.result().values
    assert [value.string_value for value in given] == [*texts.values()]
    assert (autostart.bool_value, rotation.integer_value) == (False, 90)
    assert 'loaded' not in robot.log.read_text()


@pytest.mark.parametrize('executable', ['sim_node', 'policy_node'])
def test_demo_ends_with_any_of_its_nodes(launch, golden_dir, executable):
    demo = launch(f'checkpoint:={golden_dir}/fused', file='demo.launch.py')
    log = read(demo, lambda log: pids(log, 'sim_node') and pids(log, 'policy_node'))
    os.kill(pids(log, executable)[0], signal.SIGKILL)
    demo.process.wait(PATIENCE)
    for name in ('sim_node', 'policy_node'):
        assert not Path(f'/proc/{pids(log, name)[0]}').exists()


@pytest.mark.skipif(shutil.which('rviz2') is not None, reason='rviz2 is installed')
def test_demo_without_rviz_says_so_and_starts_nothing(launch):
    demo = launch('rviz:=true', file='demo.launch.py')
    assert demo.process.wait(PATIENCE) == 1
    log = demo.log.read_text()
    assert 'rviz2 is not installed' in log
    assert 'process started' not in log
