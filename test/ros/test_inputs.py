"""Why no images come, which were lost, and the quality of service of the subscriptions."""

from diagnostic_msgs.msg import DiagnosticStatus
from probe import values_of
import pytest
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

PUT = 'put the spoon on the towel'
IMAGE = 'sensor_msgs/msg/Image'


@pytest.fixture
def other(domain):
    """A node of another participant: within one, a topic has one type."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node('other', context=context)
    yield node
    node.destroy_node()
    context.shutdown()


def started(graph, remap=None, **parameters):
    """An active node that hears no images of its probe."""
    graph.add(remap=remap, max_image_age=0.0, **parameters)
    probe = graph.probe(image_topic='unused')
    probe.node.destroy_publisher(probe.images)
    assert probe.transit('configure'), probe.logs
    assert probe.transit('activate')
    return probe


@pytest.mark.parametrize(
    ('transport', 'topic', 'kind', 'said'),
    [
        ('raw', '/image/compressed', CompressedImage,
         'only /image/compressed is published; set image_transport to compressed'),
        ('compressed', '/image', Image, 'only /image is published; set image_transport to raw'),
        ('raw', '/camera/color', Image,
         'nobody publishes them; there are images on /camera/color'),
        ('compressed', '/camera/color/compressed', CompressedImage,
         'nobody publishes them; there are images on /camera/color/compressed'),
        ('raw', '/image', CompressedImage,
         'CompressedImage is published there, and sensor_msgs/msg/Image is needed; remap image to '
         '/image and set image_transport to compressed'),
        ('raw', '/image', String, f'std_msgs/msg/String is published there, and {IMAGE} is'),
        ('raw', '/chatter', String, 'nobody publishes them; '),
    ],
)  # fmt: skip
def test_silence_has_a_reason(graph, other, transport, topic, kind, said):
    probe = started(graph, image_transport=transport)
    other.create_publisher(kind, topic, 10)

    status = probe.status(lambda status: said in status.message)

    assert status.level == DiagnosticStatus.WARN
    assert f'no images on /image{"/compressed" * (transport == "compressed")}: ' in status.message


def test_log_says_it_once_and_not_while_a_camera_starts(graph):
    probe = started(graph)
    probe.status(lambda status: 'nobody publishes them' in status.message)
    assert not any('no images' in log for log in probe.logs)

    probe.wait(lambda: any('no images' in log for log in probe.logs), 'log')
    count = len(probe.statuses)
    probe.wait(lambda: len(probe.statuses) > count + 1, 'two more reports')
    assert sum('no images' in log for log in probe.logs) == 1


def test_hint_knows_the_remapped_topic(graph):
    probe = started(graph, remap={'image': '/front/image_raw'})
    probe.node.create_publisher(CompressedImage, '/front/image_raw/compressed', 10)

    probe.status(lambda s: 'only /front/image_raw/compressed is published' in s.message)


def test_camera_whose_reliability_does_not_fit_is_named(graph):
    probe = started(graph, image_reliability='reliable')
    probe.node.create_publisher(Image, 'image', qos_profile_sensor_data)

    status = probe.status(lambda status: 'its QoS does not fit' in status.message)

    assert 'set image_reliability to best_effort' in status.message


def test_camera_that_only_announces_points_to_the_settings(graph):
    probe = started(graph)
    probe.node.create_publisher(Image, 'image', 10)

    probe.status(lambda status: 'probe announces them, but none arrives' in status.message)


def stamps(*numbers):
    return [Time(nanoseconds=10**18 + 10**8 * number).to_msg() for number in numbers]


def test_lost_frames_are_counted_and_warned_of(graph, golden):
    # Reliable on both sides, so that only what is left out is lost.
    probe = graph.start(image_reliability='reliable', image_depth=100)
    image = golden.image('case20')
    for stamp in stamps(*range(20)):
        probe.send(image, stamp)
    status = probe.counted(images_received=20, images_lost=0)
    assert values_of(status)['camera rate [Hz]'] == '10.00'

    for stamp in stamps(20, 24, 25, 26, 30):
        probe.send(image, stamp)

    status = probe.counted(images_received=25, images_lost=6)
    assert any(
        s.level == DiagnosticStatus.WARN and 'images_lost' in s.message for s in probe.statuses
    )
    # No loss is reported twice.
    for stamp in stamps(31, 32):
        probe.send(image, stamp)
    assert probe.counted(images_received=27, images_lost=6).level == DiagnosticStatus.OK


def test_reliability_and_depth_are_parameters(graph):
    probe = started(graph, image_reliability='reliable', image_depth=2)

    (images,) = probe.node.get_subscriptions_info_by_topic('/image')

    assert images.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    # The graph does not tell the depth of others; the subscription knows its own.
    # Nor has one node's choice changed that of the next.
    assert qos_profile_sensor_data.depth == 5
    assert qos_profile_sensor_data.reliability == ReliabilityPolicy.BEST_EFFORT


def overrides(topic, entity='subscription', **policies):
    return {f'qos_overrides.{topic}.{entity}.{name}': value for name, value in policies.items()}


def test_overrides_win_and_are_parameters(graph, golden):
    remap = {'image': '/camera/color'}
    given = {
        **overrides('/camera/color', reliability='reliable', depth=7, history='keep_last'),
        **overrides('/instruction', depth=3),
        **overrides('/policy/reasoning_stream', 'publisher', reliability='best_effort'),
    }
    node = graph.add(remap=remap, max_image_age=0.0, **given)
    probe = graph.probe(image_topic='/camera/color')
    for transition in ('configure', 'cleanup', 'configure', 'activate'):
        assert probe.transit(transition), probe.logs

    (images,) = probe.node.get_subscriptions_info_by_topic('/camera/color')
    assert images.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    (stream,) = probe.node.get_publishers_info_by_topic('/policy/reasoning_stream')
    assert stream.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert {name: node.get_parameter(name).value for name in given} == given
    assert not [log for log in probe.logs if 'unused' in log]
    probe.connect()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))


@pytest.mark.parametrize(
    ('policies', 'said'),
    [
        ({'reliability': 'perfect'}, 'perfect'),
        ({'history': 'keep_some'}, 'keep_some'),
        ({'depth': -1}, 'depth'),
        ({'depth': 'many'}, 'depth'),
        ({'depth': 1.5}, 'depth'),
        ({'reliability': 3}, 'reliability'),
        ({'reliability': 'system_default'}, None),
        ({'depth': 0}, 'depth is 0'),
        ({'history': 'keep_all'}, None),
        ({'depth': 10**6}, None),
    ],
    ids=str,
)
def test_override_that_cannot_be_used_is_named(graph, policies, said):
    graph.add(**overrides('/image', **policies))
    probe = graph.probe()

    configured = probe.transit('configure')

    if said is not None:
        assert not configured
        probe.wait(lambda: any('not configured' in log for log in probe.logs), 'reason')
        (reason,) = (log for log in probe.logs if 'not configured' in log)
        assert 'a parameter of qos_overrides./image cannot be used' in reason
        assert said in reason
        assert 'Traceback' not in reason
    assert probe.state() == ('inactive' if configured else 'unconfigured')


def test_action_cannot_be_latched(graph):
    # A late joiner must not repeat an old motion.
    graph.add(**overrides('/policy/action', 'publisher', durability='transient_local'))
    probe = graph.probe()
    assert probe.transit('configure')

    (actions,) = probe.node.get_publishers_info_by_topic('/policy/action')

    assert actions.qos_profile.durability == DurabilityPolicy.VOLATILE
    probe.wait(lambda: any('unused: qos_overrides./policy/action' in x for x in probe.logs), 'log')


def test_override_for_no_topic_is_named(graph):
    graph.add(
        remap={'image': '/camera/color'},
        **overrides('/image', reliability='reliable'),
        **overrides('/camera/color', durability='transient_local'),
    )
    probe = graph.probe()
    assert probe.transit('configure')

    probe.wait(lambda: any('unused' in log for log in probe.logs), 'warning')
    (said,) = (log for log in probe.logs if 'unused' in log)
    assert 'qos_overrides./image.subscription.reliability' in said
    assert 'qos_overrides./camera/color.subscription.durability' in said
