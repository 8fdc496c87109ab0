"""What a process does for its node: it forgets what is destroyed, and says what others log."""

import gc
import logging
import time

import pytest
from rcl_interfaces.msg import Log
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from trt_openvla_ros.nodes.log import package_log
from trt_openvla_ros.nodes.run import forget_destroyed

SAID = [
    (logging.INFO, 'prompt style openvla'),
    (logging.WARNING, 'statistics are left out'),
    (logging.ERROR, 'lost'),
    (logging.WARNING, 'again'),
]


@pytest.fixture
def node(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node('teller', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def spin_until(node):
    """Spin the node until a condition is true."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def spin(condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            executor.spin_once(timeout_sec=0.05)

    yield spin
    executor.shutdown()


def test_destroyed_entities_are_not_kept(node, spin_until):
    forget_destroyed(node)
    heard = []
    kept = node.create_subscription(String, 'said', heard.append, 10)
    words = node.create_publisher(String, 'said', 10)
    entities = node.default_callback_group.entities
    before = len(entities)

    for _ in range(20):
        node.destroy_subscription(node.create_subscription(String, 'other', heard.append, 10))
        node.destroy_publisher(node.create_publisher(String, 'other', 10))
        node.destroy_timer(node.create_timer(1.0, heard.clear))
    gc.collect()

    assert len(entities) == before
    assert node.default_callback_group.has_entity(kept)
    node.create_timer(0.05, lambda: words.publish(String(data='still heard')))
    spin_until(lambda: heard)


def test_log_of_the_package_is_on_rosout(node, spin_until):
    heard = []
    qos = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(Log, '/rosout', heard.append, qos)
    package = logging.getLogger('trt_openvla_ros')
    before = list(package.handlers), package.level
    room = package.getChild('policy.spec')

    with package_log(node):
        for severity, text in SAID:
            room.log(severity, text)
        room.debug('nobody wants to know')
    room.error('nobody is there any more')
    node.get_logger().info('end')

    spin_until(lambda: any(message.msg == 'end' for message in heard))
    ours = [(one.level, one.msg) for one in heard if one.name == 'teller' and one.msg != 'end']
    assert ours == SAID  # the levels of ROS are those of Python
    assert (package.handlers, package.level) == before
