"""What a user, a camera and a robot see of one policy node: its topics and services."""

from functools import partial
import time

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.conversions import to_message

PATIENCE = 20.0  # [s] before a test fails; only a broken node or a drowned machine needs it


class Probe:
    """Publishes to one policy node and keeps everything that comes back."""

    def __init__(self, context, namespace='', image_topic='image', compressed=False):
        self.node = Node('probe', namespace=namespace, context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.target = f'{self.node.get_namespace().rstrip("/")}/policy'
        self.actions, self.reasonings, self.prompt_images = [], [], []
        self.statuses, self.reported = [], []
        self.logs, self.sent = [], []
        kind = CompressedImage if compressed else Image
        self.images = self.node.create_publisher(kind, image_topic, 10)
        self.instructions = self.node.create_publisher(String, 'instruction', 10)
        subscribe = self.node.create_subscription
        self.results = [
            subscribe(VlaAction, f'{self.target}/action', self.actions.append, 100),
            subscribe(String, f'{self.target}/reasoning', self.reasonings.append, 100),
            subscribe(Image, f'{self.target}/prompt_image', self.prompt_images.append, 100),
        ]
        subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        # Latched, so that what the node logged before this probe came is here too.
        latched = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscribe(Log, '/rosout', self._on_log, latched)
        self._clients = {
            name: self.node.create_client(kind, f'{self.target}/{name}')
            for name, kind in (
                ('change_state', ChangeState),
                ('get_state', GetState),
                ('describe_parameters', DescribeParameters),
                ('get_parameters', GetParameters),
                ('set_parameters', SetParameters),
            )
        }

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()

    def wait(self, condition, what, timeout=PATIENCE):
        """Spin until condition() is true; fail with `what` when it never is."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f'after {timeout} s still no {what}; {self.logs}'
            self.executor.spin_once(timeout_sec=0.05)

    def connect(self):
        """Wait until the node's topics and this probe have found each other."""
        self.wait(self.images.get_subscription_count, 'subscription to images')
        self.wait(self.instructions.get_subscription_count, 'subscription to instructions')
        for result in self.results:
            self.wait(result.get_publisher_count, f'publisher of {result.topic_name}')

    def call(self, service, **fields):
        client = self._clients[service]
        assert client.wait_for_service(timeout_sec=PATIENCE), f'no service {client.srv_name}'
        future = client.call_async(client.srv_type.Request(**fields))
        self.wait(future.done, f'answer of {client.srv_name}')
        return future.result()

    def transit(self, name):
        """Ask for a lifecycle transition such as 'configure'; tell whether it succeeded."""
        label = f'TRANSITION_{name.upper()}'
        return self.call(
            'change_state', transition=Transition(id=getattr(Transition, label))
        ).success

    def state(self):
        return self.call('get_state').current_state.label

    def set(self, **values):
        """Set parameters; give one SetParametersResult for each."""
        changes = [Parameter(name, value=value) for name, value in values.items()]
        request = [change.to_parameter_msg() for change in changes]
        return self.call('set_parameters', parameters=request).results

    def instruct(self, text):
        """Send an instruction, and wait until the node logs what it made of it."""
        count = len(self.logs)
        self.instructions.publish(String(data=text))
        self.wait(
            lambda: any('instruction' in log for log in self.logs[count:]), 'log of instruction'
        )

    def send(self, image, stamp=None):
        """Publish an image, an array or a message; give its stamp, by default now."""
        message = to_message(image) if isinstance(image, np.ndarray) else image
        message.header.frame_id = 'camera'
        message.header.stamp = stamp or self.node.get_clock().now().to_msg()
        self.images.publish(message)
        self.sent.append(message.header.stamp)
        return message.header.stamp

    def act(self, image):
        """Publish an image until there is an action on it, and give that action.

        More than once, because images are sent best effort, as cameras send them.
        """
        count, sent = len(self.actions), []
        deadline = time.monotonic() + PATIENCE
        while len(self.actions) == count:
            assert time.monotonic() < deadline, f'no action; {self.logs}'
            sent.append(self.send(image))
            answer_by = time.monotonic() + 2.0
            while len(self.actions) == count and time.monotonic() < answer_by:
                self.executor.spin_once(timeout_sec=0.05)
        action = self.actions[count]
        assert action.header.stamp in sent
        return action

    def begin_step(self, held, image):
        """Publish an image and wait until its inference stands at the shut gate; its stamp."""
        held.shut()
        stamp = self.send(image)
        self.wait(held.inside.is_set, 'inference')
        return stamp

    def status(self, condition=lambda status: True):
        """Wait for a status, newer than this call, that meets the condition."""
        count = len(self.statuses)
        self.wait(
            lambda: any(map(condition, self.statuses[count:])),
            f'such status, last was {self.statuses[-1:]}',
        )
        return next(filter(condition, self.statuses[count:]))

    def counted(self, **counts):
        """Wait until the node reports these counts."""
        return self.status(partial(_has, counts))

    def _on_diagnostics(self, message):
        for status in message.status:
            if status.name.startswith(f'{self.target}:'):
                self.statuses.append(status)
                stamp = message.header.stamp
                self.reported.append(stamp.sec + 1e-9 * stamp.nanosec)

    def _on_log(self, message):
        if message.name == self.target.strip('/').replace('/', '.'):
            self.logs.append(message.msg)


def values_of(status):
    return {pair.key: pair.value for pair in status.values}


def _has(counts, status):
    values = values_of(status)
    return all(values[name] == str(count) for name, count in counts.items())
