"""The process of the overlay node: how it ends; and what it refuses at the start."""

import pytest
from rclpy.parameter import Parameter

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.nodes.overlay.node import OverlayNode


def test_executable_ends_when_it_is_told_to(execute, graph):
    process = execute('overlay_node')
    probe = graph.probe()
    probe.wait(lambda: 'overlay' in probe.node.get_node_names(), 'node')
    process.terminate()
    assert process.wait(20) == 0


def test_wrong_parameter_ends_the_process_with_a_reason(execute):
    process = execute('overlay_node', panel='behind')
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert error == "panel is 'behind'; it must be one of 'beside', 'over', 'none'\n"


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        ('camera_pose', [0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0], 'camera_pose: the quaternion'),
        ('camera_pose', [1.0], '7 numbers from -100 to 100 are needed'),
        ('font', '/nowhere.ttf', "font '/nowhere.ttf' cannot be read"),
        ('rotation', 45, 'rotation is 45; one of 0, 90, 180, 270 is needed'),
        ('image_transport', 'smoke', "image_transport is 'smoke'"),
        ('pose_topic', 'bad name', "pose_topic is 'bad name', which names no topic"),
        ('workspace', [0.2, 0.0, 0.0, 0.1, 1.0, 1.0], r'workspace is \[0.2.*lowest values come'),
        ('keep_out_3', [0.0, 0.0, 1.0, 1.0, 1.0, 0.0], 'keep_out_3 is'),
    ],
)
def test_what_makes_no_sense_is_refused(graph, name, value, words):
    with pytest.raises(ConfigError, match=words):
        OverlayNode(context=graph.context, parameter_overrides=[Parameter(name, value=value)])
