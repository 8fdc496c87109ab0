"""The tables of docs/robot.md against the node, and the launch file against what it starts."""

import ast
from pathlib import Path
import runpy

import pytest

from trt_openvla_ros.nodes.robot.node import RobotNode
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.nodes.robot.presets import read_preset
from trt_openvla_ros.nodes.robot.topics import ROBOT_SERVICES, ROBOT_TOPICS
from trt_openvla_ros.settings import list_settings

ROOT = Path(__file__).parents[3]
OWN = ('/rosout', '/parameter_events', '/robot/transition_event')


@pytest.fixture(scope='module')
def tables():
    return runpy.run_path(str(ROOT / 'docs' / 'tables.py'))


def test_topics_services_and_parameters_are_what_the_node_has(bench, tables):
    options = {
        'controller': 'pose_log',
        'joint_states_topic': 'joint_states',
        'ready_topic': 'ready',
        'deadman_timeout': 0.3,
    }
    topics, node = {}, None
    for deadman in ('topic', 'joy'):
        cockpit = bench.cockpit()
        node = bench.add(**options, deadman=deadman)
        assert cockpit.transit('configure'), cockpit.logs
        for of in (
            node.get_publisher_names_and_types_by_node,
            node.get_subscriber_names_and_types_by_node,
        ):
            topics |= {
                name.replace('/robot/', '~/'): types[0]
                for name, types in of('robot', '/')
                if name not in OWN
            }
        services = {
            name.replace('/robot/', '~/'): types[0]
            for name, types in node.get_service_names_and_types_by_node('robot', '/')
            if types[0].startswith('std_srvs/')
        }
        bench.drop(node)
    named = {
        t.name if t.name[0] in '~/' else f'/{t.name}': tables['interface'](t.type)
        for t in ROBOT_TOPICS
    }
    assert topics == named
    assert services == {s.name: tables['interface'](s.type) for s in ROBOT_SERVICES}


def test_parameters_have_the_defaults_of_the_table(bench):
    node = RobotNode(context=bench.context)
    bench.spin(node)
    own = {'use_sim_time', 'start_type_description_service'}
    settings = list_settings(RobotParameters)
    assert {n for n in node.get_parameters_by_prefix('') if '.' not in n} - own == settings.keys()
    for name, setting in settings.items():
        value = node.get_parameter(name).value
        assert (tuple(value) if setting.is_vector else value) == setting.default


def test_launch_file_passes_on_what_its_arguments_say():
    """Read and not run: launch has no wheels. test_robot_launch.py runs it where launch is."""
    tree = ast.parse((ROOT / 'launch' / 'robot.launch.py').read_text())
    assigned = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and (node.targets[0].id == 'ARGUMENTS' or node.targets[0].id.startswith('OF_'))
    }
    names = {name for name, _, _ in assigned['ARGUMENTS']}
    picture = {
        'image_transport': 'compressed',
        'center_crop': 'true',
        'jpeg_round_trip': 'false',
        'resize': 'lanczos3',
        'rotation': '180',
        'mirror': 'vertical',
    }
    overrides = {
        'policy': dict.fromkeys(assigned['OF_POLICY'], 'text') | picture,
        'robot': {'controller': 'pose_log', 'dry_run': 'true'},
        'overlay': {name: picture[name] for name in assigned['OF_OVERLAY']},
    }
    assert {*assigned['OF_POLICY'], *assigned['OF_ROBOT'], *assigned['OF_OVERLAY']} <= names
    assert overrides['robot'].keys() == set(assigned['OF_ROBOT'])
    preset = read_preset('ur', overrides=overrides)
    assert (preset.policy.checkpoint, preset.policy.engine) == ('text', 'text')
    assert preset.policy.remote_url == 'text'
    for parameters, given in ((preset.policy, picture), (preset.overlay, overrides['overlay'])):
        assert {name: str(getattr(parameters, name)) for name in given} == given
    assert preset.robot.dry_run
    for name, _, text in assigned['ARGUMENTS']:
        if name == 'preset':
            assert all(path.stem in text for path in (ROOT / 'config' / 'robots').glob('*.yaml'))
