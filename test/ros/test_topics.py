"""Names, quality of service, compression, and two robots in one graph."""

from io import BytesIO

import numpy as np
from PIL import Image as PilImage
import pytest
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

PUT, PUSH = 'put the spoon on the towel', 'push the red block left'


def test_two_namespaces_do_not_hear_each_other(graph, golden):
    probes = {}
    for name, key in (('left', 'toy_arm'), ('right', 'other_arm')):
        graph.add(namespace=name, unnorm_key=key, max_image_age=0.0)
        probes[name] = graph.probe(namespace=name)
        assert probes[name].transit('configure')
        assert probes[name].transit('activate')
        probes[name].connect()
    left, right = probes['left'], probes['right']
    left.instruct(PUT)
    # Only the left one has an instruction yet.
    right.send(golden.image('case00'))
    left.act(golden.image('case20'))
    right.instruct(PUSH)
    for _ in range(2):
        right.act(golden.image('case10'))
        left.act(golden.image('case20'))

    for probe, case, key, count in (
        (left, 'case20', 'toy_arm', 3),
        (right, 'case11', 'other_arm', 2),
    ):
        assert len(probe.actions) == count
        for action in probe.actions:
            assert action.header.stamp in probe.sent
            assert action.instruction == golden.instruction(case)
            expected = golden.action(case, key)
            np.testing.assert_allclose(action.action, expected, rtol=0, atol=1e-12)
    # One topic for all robots, as diagnostic tools expect it.
    assert left.status().name == '/left/policy: policy'
    assert right.status().name == '/right/policy: policy'


@pytest.mark.parametrize(('base', 'remap'), [('/image', {}), ('/cam/image_raw', 'image')])
def test_compressed_topic_lies_beside_the_remapped_image(graph, golden, base, remap):
    graph.add(
        remap={remap: base} if remap else {}, image_transport='compressed', max_image_age=0.0
    )
    probe = graph.probe(image_topic=f'{base}/compressed', compressed=True)
    assert probe.transit('configure')
    assert probe.transit('activate')
    probe.connect()
    probe.instruct(PUT)
    buffer = BytesIO()
    PilImage.fromarray(golden.image('case20')).save(buffer, 'PNG')

    action = probe.act(CompressedImage(format='png', data=buffer.getvalue()))

    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)
    assert probe.node.count_subscribers(base) == 0


def test_image_and_instruction_can_be_remapped(graph, golden):
    graph.add(remap={'image': '/cam/color', 'instruction': '/task'}, max_image_age=0.0)
    probe = graph.probe(image_topic='/cam/color')
    assert probe.transit('configure')
    assert probe.transit('activate')
    instructions = probe.node.create_publisher(String, '/task', 10)
    probe.wait(instructions.get_subscription_count, 'subscription to /task')
    instructions.publish(String(data=PUT))

    assert probe.act(golden.image('case20')).instruction == PUT


@pytest.mark.parametrize('reliability', ['RELIABLE', 'BEST_EFFORT'])
def test_camera_of_any_reliability_is_heard(graph, golden, reliability):
    probe = graph.start()
    probe.instruct(PUT)
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability])
    probe.images = probe.node.create_publisher(Image, 'image', qos)
    probe.wait(probe.images.get_subscription_count, 'subscription')

    probe.act(golden.image('case20'))


def test_actions_are_reliable_and_never_replayed(graph):
    probe = graph.start()

    (action,) = probe.node.get_publishers_info_by_topic('/policy/action')

    assert action.topic_type == 'trt_openvla_ros/msg/VlaAction'
    assert action.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    # A late joiner must not repeat an old motion.
    assert action.qos_profile.durability == DurabilityPolicy.VOLATILE


def test_images_are_heard_as_sensor_data(graph):
    probe = graph.start()

    (images,) = probe.node.get_subscriptions_info_by_topic('/image')

    assert images.qos_profile.reliability == qos_profile_sensor_data.reliability
    assert images.qos_profile.durability == qos_profile_sensor_data.durability
