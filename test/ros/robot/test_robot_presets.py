"""The presets: each configures a real node, and moves the simulated hand or says why not."""

import math
from pathlib import Path
import sys

import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from scipy.spatial.transform import Rotation
import yaml

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.nodes.overlay.node import OverlayNode
from trt_openvla_ros.nodes.policy_node import PolicyNode
from trt_openvla_ros.nodes.robot.launching import meaning_of, nodes_of
from trt_openvla_ros.nodes.robot.node import RobotNode
from trt_openvla_ros.nodes.robot.plan import plan
from trt_openvla_ros.nodes.robot.presets import folder, read_preset
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.bridge import Bridge
from trt_openvla_ros.robot.exchange import IncomingAction
from trt_openvla_ros.robot.meaning import find_meaning, read_meanings
from trt_openvla_ros.sim.world import HAND_HIGH, HAND_LOW, MAX_STEP

ROOT = Path(__file__).parents[3]
PRESETS = sorted(path.stem for path in (ROOT / 'config' / 'robots').glob('*.yaml'))
# Fine-tunes of one's own have a data set of one's own; BridgeData's has metres in the base frame.
OWN = {'franka': 'bridge_orig', 'ur': 'bridge_orig'}


def declared(node):
    return {name for name in node.get_parameters_by_prefix('') if '.' not in name}


def test_there_are_six():
    assert PRESETS == ['franka', 'google_robot', 'libero', 'sim', 'ur', 'widowx_bridge']


@pytest.mark.parametrize('name', PRESETS)
def test_nodes_take_what_a_preset_says(bench, monkeypatch, name):
    monkeypatch.syspath_prepend(str(ROOT / 'test' / 'stand_in'))  # tf2_ros, which wheels lack
    path = ROOT / 'config' / 'robots' / f'{name}.yaml'
    content = yaml.safe_load(path.read_text())
    arguments = ['--ros-args', '--params-file', str(path)]
    kinds = ((RobotNode, 'robot'), (PolicyNode, 'policy'), (OverlayNode, 'overlay'))
    for kind, key in kinds:
        node = kind(context=bench.context, cli_args=arguments)
        try:
            given = content[f'/**/{key}']['ros__parameters']
            assert given.keys() <= declared(node)
            for parameter, value in given.items():
                taken = node.get_parameter(parameter).value
                assert (list(taken) if isinstance(value, list) else taken) == value
            if key == 'robot':
                executor = SingleThreadedExecutor(context=bench.context)
                executor.add_node(node)
                assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
                assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
                executor.spin_once(timeout_sec=0.1)
                executor.shutdown()
        finally:
            node.destroy_node()
    sys.modules.pop('tf2_ros', None)


@pytest.mark.parametrize('name', PRESETS)
def test_policy_and_bridge_agree_on_frames(name):
    preset = read_preset(name)
    meaning = meaning_of(preset)
    frame = preset.robot.tool_frame if meaning and meaning.frame == 'end_effector' else ''
    assert preset.policy.action_frame == (frame or preset.robot.base_frame)
    assert preset.robot.max_pose_age < 1.0
    assert not preset.robot.dry_run


@pytest.mark.parametrize('name', PRESETS)
def test_preset_moves_the_simulated_hand(mirror, name):
    """The hand of the tabletop stands for the arm, in the middle of the preset's workspace.

    This shows that steps of the data set pass the preset's limits. The robot itself was not run.
    """
    preset = read_preset(name)
    robot = preset.robot
    key = preset.policy.unnorm_key or OWN[name]
    meaning = find_meaning(read_meanings(), key)
    assert meaning.has_units
    mirror.reset(3)
    middle = (np.array(robot.workspace[:3]) + np.array(robot.workspace[3:])) / 2
    shift = middle - (HAND_LOW + HAND_HIGH) / 2
    # A tool that points down, unless the hand of the simulation says otherwise.
    down = Rotation.identity() if name == 'sim' else Rotation.from_quat([1.0, 0.0, 0.0, 0.0])
    bridge = Bridge(robot.bridge)

    def measured():
        return Pose(mirror.hand.position + shift, down)

    now, tick = 0.0, 1.0 / (robot.rate * robot.ticks)

    def advance(seconds):
        nonlocal now
        command = None
        for _ in range(max(1, round(seconds / tick))):
            now += tick
            bridge.hear_pose(measured(), 0.0, robot.base_frame, now)
            bridge.hear_controller('', now)
            command = bridge.tick(now)
        return command

    advance(0.1)
    assert bridge.enable(now) == ''
    before = mirror.hand.position
    # 1 cm along x and towards the middle of the height, as the data set would write it.
    way = 0.01 / meaning.translation_unit
    step = np.array([[way, 0.0, -way, 0.0, 0.0, 0.0, 1.0]])
    period = 1.0 / meaning.control_rate
    for sequence in range(1, 6):
        action = IncomingAction(
            step, meaning, sequence, robot.base_frame, image_age=0.05, age=0.01
        )
        report = bridge.hear_action(action, now)
        assert report.state == 'moving', (report.reason, report.rulings)
        command = advance(period)
        for _ in range(4):  # the hand takes at most MAX_STEP along an axis in one step
            move = np.clip(
                command.pose.position - shift - mirror.hand.position, -MAX_STEP, MAX_STEP
            )
            mirror.step(np.array([*move, 0.0, 0.0, 0.0, 1.0]))
            if np.abs(move).max() < MAX_STEP:
                break
    went = mirror.hand.position - before
    # Command and hand lag; references that are measured lose what the hand has not gone yet.
    assert went[0] > 0.02
    assert went[2] < -0.02
    assert abs(went[1]) < 0.005


def test_screen_says_what_will_happen_before_anything_can_move(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in PRESETS:
        overrides = {'policy': {'checkpoint': 'my/checkpoint'} if name in OWN else {}}
        screen, nodes = nodes_of(name, overrides=overrides, beside=('task', 'overlay'))
        lines = screen.splitlines()
        assert len(lines) <= 30
        assert max(map(len, lines)) <= 96
        for word in ('policy', 'numbers', 'controller', 'limits', 'workspace', 'deadman'):
            assert any(line.startswith(word) for line in lines), word
        assert 'ros2 service call /robot/enable std_srvs/srv/SetBool "{data: true}"' in screen
        names = [node.name for node in nodes]
        assert names == [*(['sim'] if name == 'sim' else []), 'policy', 'robot', 'task', 'overlay']
    screen, nodes = nodes_of('widowx_bridge', namespace='left', beside=['task'])
    assert [node.executable for node in nodes] == ['policy_node', 'robot_node', 'task_node']
    assert 'a goal of /left/task/execute_instruction says an instruction too' in screen
    assert 'overlay' not in screen
    assert 'openvla/openvla-7b on torch; data set bridge_orig' in screen
    assert '1 is 1 m and 1 rad as euler_xyz' in screen
    assert 'servo_twist to /servo_node/delta_twist_cmds, 50 Hz' in screen
    assert '/left/robot/enable' in screen


def test_screen_warns_of_what_is_unknown_and_of_what_is_missing(tmp_path):
    file = tmp_path / 'arm.yaml'
    file.write_text(
        '/**/policy:\n  ros__parameters:\n    checkpoint: mine\n    unnorm_key: my_data\n'
        '/**/robot:\n  ros__parameters:\n    dry_run: true\n    use_sim_time: true\n'
        '    deadman: joy\n    deadman_timeout: 0.3\n'
    )
    screen, nodes = nodes_of('', str(file))
    assert 'NOBODY KNOWS the units of my_data' in screen
    assert 'workspace    NONE' in screen
    assert 'DRY RUN' in screen
    assert 'button 4 on joy, again within 0.3 s' in screen
    assert {node.params_file for node in nodes} == {str(file)}
    preset = read_preset(params_file=str(file))
    assert 'known when the checkpoint is loaded' in plan(preset, None)


def test_arguments_win_over_the_preset():
    overrides = {
        'policy': {'checkpoint': '2024', 'unnorm_key': 'droid', 'engine': ''},
        'robot': {'controller': 'pose_log', 'dry_run': 'true'},
        'overlay': {'rotation': '180', 'center_crop': 'true', 'mirror': ''},
    }
    screen, (policy, robot, overlay) = nodes_of('franka', overrides=overrides, beside=['overlay'])
    assert dict(overlay.parameters) == {'rotation': 180, 'center_crop': 'true'}
    assert dict(policy.parameters) == {'checkpoint': '2024', 'unnorm_key': 'droid'}
    assert dict(robot.parameters) == {'controller': 'pose_log', 'dry_run': True}
    assert '1 is 0.075 m and 0.15 rad' in screen


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('/**/robot: {ros__parameters: {wings: 2}}', 'unknown setting wings'),
        ('/**/robot: {ros__parameters: {rate: 5}}', 'rate is 5.0'),
        ('/**/task: {ros__parameters: {time_limit: 0}}', 'time_limit is 0'),
        ('/**/overlay: {ros__parameters: {panel: above}}', "panel is 'above'"),
        ('/**/robot: {ros__parameters: {deadman: joy}}', 'deadman_timeout is 0'),
        ('- 1', 'has no parameters'),
        ('{', 'is not YAML'),
        ('[' * 10_000, 'is not YAML'),
        ('a: 2001-99-99', 'is not YAML'),
    ],
)
def test_file_that_cannot_be_used_is_named(tmp_path, text, problem):
    file = tmp_path / 'arm.yaml'
    file.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        nodes_of('', str(file))


def test_unknown_preset_names_those_that_there_are():
    with pytest.raises(ConfigError, match='choose one of franka, google_robot, libero, sim, ur'):
        nodes_of('roomba')
    with pytest.raises(ConfigError, match='franka has no checkpoint of its own'):
        nodes_of('franka')


def test_installed_presets_are_those_of_the_sources():
    assert sorted(path.name for path in folder().glob('*.yaml')) == [f'{p}.yaml' for p in PRESETS]
    assert math.isfinite(read_preset('sim').robot.rate)
