"""robot.launch.py for real: the screen comes first, and what it starts is off."""

from importlib.util import find_spec

import pytest
from rcl_interfaces.srv import GetParameters
import rclpy
from test_launch import PATIENCE, pids, read, Robot

pytestmark = [
    pytest.mark.may_skip,
    pytest.mark.skipif(
        find_spec('launch_ros') is None,
        reason='launch_ros is not installed; it comes with ROS 2 and not from PyPI',
    ),
]


@pytest.fixture
def launch(domain, tmp_path):
    launched = []

    def start(*arguments):
        launched.append(Robot(domain, tmp_path, 'robot.launch.py', *arguments))
        return launched[-1]

    yield start
    for one in launched:
        one.interrupt()


def test_simulation_moves_when_it_was_enabled_and_told(launch, bench):
    robot = launch('preset:=sim', 'controller:=cartesian_pose', 'overlay:=true')
    log = read(robot, lambda log: 'loaded' in log)
    assert log.index('Nothing moves before both of these:') < log.index('process started')
    assert 'cartesian_pose to /cartesian_motion_controller/target_frame' in log
    cockpit = bench.cockpit()
    cockpit.position = None  # the simulation has poses of its own
    assert cockpit.state('disabled')
    cockpit.enable()
    cockpit.say('pick up the red block')
    cockpit.wait(lambda: any(r.state == 'moving' for r in cockpit.reports), 'motion')
    cockpit.enable(on=False)
    robot.interrupt()
    log = robot.log.read_text()
    assert log.count('process has finished cleanly') == 5, log
    names = ('sim_node', 'policy_node', 'robot_node', 'task_node', 'overlay_node')
    assert all(len(pids(log, name)) == 1 for name in names), log


def test_arguments_reach_the_nodes_that_have_them(launch, bench):
    picture = ('rotation:=180', 'center_crop:=true')
    robot = launch('preset:=sim', 'task:=false', 'overlay:=True', *picture)
    node = rclpy.create_node('test_robot_launch', context=bench.context)
    bench.spin(node)
    asked = GetParameters.Request(names=['rotation', 'center_crop', 'mirror'])
    for name in ('policy', 'overlay'):
        service = node.create_client(GetParameters, f'/{name}/get_parameters')
        assert service.wait_for_service(PATIENCE), robot.log.read_text()
        rotation, crop, mirror = service.call(asked, PATIENCE).values
        assert rotation.integer_value == 180
        assert (crop.string_value, mirror.string_value) == ('true', 'none')
    assert not pids(robot.log.read_text(), 'task_node')


@pytest.mark.parametrize(
    ('argument', 'named'),
    [
        ('preset:=roomba', "preset 'roomba' is not known"),
        ('preset:=franka', 'franka has no checkpoint of its own'),
        ('controller:=thoughts', 'thoughts'),
        ('dry_run:=maybe', 'maybe'),
        ('task:=maybe', 'maybe'),
        ('overlay:=', 'overlay'),
        ('rotation:=45', '45'),
        ('center_crop:=maybe', 'maybe'),
        ('image_transport:=pigeon', 'pigeon'),
        ('params_file:=missing.yaml', 'missing.yaml'),
    ],
)
def test_what_cannot_be_used_starts_nothing(launch, argument, named):
    robot = launch(argument)
    assert robot.process.wait(PATIENCE) == 1
    log = robot.log.read_text()
    assert named in log
    assert 'process started' not in log
