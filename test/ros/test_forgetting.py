"""What a node destroys of itself leaves nothing in rclpy."""

import gc

import rclpy
from rclpy.node import Node
from std_msgs.msg import String

from trt_openvla_ros.nodes.run import forget_destroyed


def test_destroyed_entities_are_not_kept(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node('forgetting', context=context)
    forget_destroyed(node)
    heard = []
    kept = node.create_subscription(String, 'said', heard.append, 10)
    words = node.create_publisher(String, 'said', 10)
    before = len(node.default_callback_group.entities)

    for _ in range(20):
        node.destroy_subscription(node.create_subscription(String, 'other', heard.append, 10))
        node.destroy_publisher(node.create_publisher(String, 'other', 10))
        node.destroy_timer(node.create_timer(1.0, heard.clear))
    gc.collect()

    assert len(node.default_callback_group.entities) == before
    assert node.default_callback_group.has_entity(kept)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    for _ in range(200):
        words.publish(String(data='still heard'))
        executor.spin_once(timeout_sec=0.05)
        if heard:
            break
    assert heard
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
