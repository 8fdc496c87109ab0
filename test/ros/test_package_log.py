"""What the rooms without ROS log comes to the log of the node, and to /rosout."""

import logging
import time

from rcl_interfaces.msg import Log
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from trt_openvla_ros.nodes.log import package_log

SAID = [
    (logging.INFO, 'prompt style openvla'),
    (logging.WARNING, 'statistics of %s are left out'),
    (logging.ERROR, 'lost'),
    (logging.WARNING, 'again'),
]


def wait(executor, condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        executor.spin_once(timeout_sec=0.05)


def test_log_of_the_package_is_on_rosout(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node('teller', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    heard = []
    qos = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(Log, '/rosout', heard.append, qos)
    package = logging.getLogger('trt_openvla_ros')
    handlers, level = list(package.handlers), package.level
    room = package.getChild('policy.spec')

    with package_log(node):
        for severity, text in SAID:
            room.log(severity, text, *['toy_arm'] * text.count('%s'))
        room.debug('nobody wants to know')
    room.error('nobody is there any more')
    node.get_logger().info('end')

    wait(executor, lambda: any(message.msg == 'end' for message in heard))
    ours = [message for message in heard if message.name == 'teller' and message.msg != 'end']
    # The levels of ROS are those of Python.
    assert [(message.level, message.msg) for message in ours] == [
        (severity, text.replace('%s', 'toy_arm')) for severity, text in SAID
    ]
    assert (package.handlers, package.level) == (handlers, level)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
