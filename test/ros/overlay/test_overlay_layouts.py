"""The layouts for RViz and Foxglove, and the tables of docs/viewing.md, against the nodes."""

import json
from pathlib import Path
import re

import numpy as np
from rclpy.parameter import Parameter
from viewer import camera_pose
import yaml

from trt_openvla_ros.nodes.monitor.parameters import MonitorParameters
from trt_openvla_ros.nodes.monitor.topics import MONITOR_TOPICS
from trt_openvla_ros.nodes.monitor.watching import MonitorNode
from trt_openvla_ros.nodes.overlay.node import OverlayNode
from trt_openvla_ros.nodes.overlay.parameters import OverlayParameters
from trt_openvla_ros.nodes.overlay.topics import HAS_FOXGLOVE, OVERLAY_TOPICS
from trt_openvla_ros.nodes.robot.topics import ROBOT_SERVICES, ROBOT_TOPICS
from trt_openvla_ros.nodes.topics import POLICY_TOPICS, SIM_TOPICS
from trt_openvla_ros.settings import list_settings

ROOT = Path(__file__).parents[3]
NODES = {
    'policy': POLICY_TOPICS,
    'sim': SIM_TOPICS,
    'robot': (*ROBOT_TOPICS, *ROBOT_SERVICES),
    'overlay': OVERLAY_TOPICS,
}
OURS = {
    name if name.startswith('/') else f'/{name}'
    for node, rows in NODES.items()
    for name in (row.name.replace('~', f'/{node}') for row in rows)
}


def test_layouts_name_only_topics_of_ours():
    rviz = yaml.safe_load((ROOT / 'config' / 'overlay.rviz').read_text())
    shown = {
        display['Topic']['Value']
        for display in rviz['Visualization Manager']['Displays']
        if 'Topic' in display
    }
    assert {'/overlay/overlay', '/overlay/markers'} == shown
    foxglove = json.loads((ROOT / 'config' / 'foxglove_layout.json').read_text())
    named = set(re.findall(r'"(/[a-z_/]+)[".]', json.dumps(foxglove['configById'])))
    assert {'/camera/image_raw', '/overlay/annotations', '/robot/gate', '/diagnostics'} <= named
    assert named <= OURS

    def leaves(part):
        return [part] if isinstance(part, str) else leaves(part['first']) + leaves(part['second'])

    assert sorted(leaves(foxglove['layout'])) == sorted(foxglove['configById'])


def test_fields_in_the_layout_are_those_of_the_messages():
    kinds = {
        row.name.replace('~', f'/{node}').lstrip('/'): row.type
        for node, rows in NODES.items()
        for row in rows
    }
    text = (ROOT / 'config' / 'foxglove_layout.json').read_text()
    paths = re.findall(r'"/([a-z_/]+)\.([a-z_]+)(?:\[\d\])?"', text)
    assert len(paths) > 10
    for topic, field in paths:
        assert field in kinds[topic].get_fields_and_field_types(), f'{topic}.{field}'


def declared(node, cls):
    own = {'use_sim_time', 'start_type_description_service'}
    names = {name for name in node.get_parameters_by_prefix('') if '.' not in name} - own
    assert names == list_settings(cls).keys()


def topics_of(node, name):
    seen = dict(node.get_publisher_names_and_types_by_node(name, '/'))
    seen |= dict(node.get_subscriber_names_and_types_by_node(name, '/'))
    return {topic for topic in seen if topic not in ('/rosout', '/parameter_events')}


def graph_names(rows, name):
    return {
        row.name.replace('~', f'/{name}') if row.name[0] in '~/' else f'/{row.name}'
        for row in rows
    }


def test_overlay_has_the_topics_and_parameters_of_its_tables(watch):
    viewer = watch(remap={})
    viewer.look()
    expected = graph_names(OVERLAY_TOPICS, 'overlay')
    if not HAS_FOXGLOVE:
        expected -= {'/overlay/annotations'}
    viewer.wait(lambda: topics_of(viewer.node, 'overlay') == expected, 'all topics')


def test_parameters_are_those_of_the_tables(graph):
    for cls, parameters in ((OverlayNode, OverlayParameters), (MonitorNode, MonitorParameters)):
        node = cls(context=graph.context)
        declared(node, parameters)
        node.destroy_node()


def test_monitor_hears_the_topics_of_its_table(graph):
    node = MonitorNode(
        context=graph.context, parameter_overrides=[Parameter('watch_images', value=True)]
    )
    probe = graph.probe()
    expected = graph_names(MONITOR_TOPICS, 'monitor')
    probe.wait(
        lambda: (
            'monitor' in probe.node.get_node_names()
            and topics_of(probe.node, 'monitor') == expected
        ),
        'all topics',
    )
    node.destroy_node()


def test_presets_tell_the_overlay_what_they_tell_the_robot():
    for path in (ROOT / 'config' / 'robots').glob('*.yaml'):
        content = yaml.safe_load(path.read_text())
        shown = content.get('/**/overlay', {}).get('ros__parameters', {})
        assert shown.keys() <= list_settings(OverlayParameters).keys(), path
        robot = content['/**/robot']['ros__parameters']
        for name in ('pose_source', 'pose_topic', 'tool_frame', 'base_frame'):
            default = list_settings(OverlayParameters)[name].default
            assert shown.get(name, default) == robot.get(name, default), f'{path}: {name}'


def test_place_of_the_simulated_camera_is_that_of_the_world(mirror):

    content = yaml.safe_load((ROOT / 'config' / 'robots' / 'sim.yaml').read_text())
    given = content['/**/overlay']['ros__parameters']['camera_pose']
    np.testing.assert_allclose(given, camera_pose(mirror), atol=1e-7)
