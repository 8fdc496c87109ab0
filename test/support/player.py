"""What a policy and a user see of the simulation: its topics and services."""

from concurrent.futures import Future
from contextlib import suppress
import threading
import time

from geometry_msgs.msg import PoseStamped
import numpy as np
from rcl_interfaces.msg import Log
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.conversions import to_rgb
from trt_openvla_ros.nodes.sim_node import SimNode
from trt_openvla_ros.sim.expert import expert
from trt_openvla_ros.sim.goals import parse
from trt_openvla_ros.srv import Reset

PATIENCE = 20.0  # [s] before a test fails
STILL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
UP = (0.0, 0.0, 0.03, 0.0, 0.0, 0.0, 1.0)


class Player:
    """Answers images with actions, and keeps everything that comes."""

    def __init__(self, context, acts=True):
        self.node = Node('player', context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.images, self.camera_infos, self.poses, self.joints = [], [], [], []
        self.clocks, self.instructions, self.logs = [], [], []
        subscribe = self.node.create_subscription
        sensor = qos_profile_sensor_data
        subscribe(Image, 'camera/image_raw', self.images.append, sensor)
        subscribe(CameraInfo, 'camera/camera_info', self.camera_infos.append, sensor)
        subscribe(PoseStamped, 'hand/pose', self.poses.append, 100)
        subscribe(JointState, 'joint_states', self.joints.append, 100)
        subscribe(Clock, '/clock', self.clocks.append, 100)
        subscribe(String, 'instruction', lambda m: self.instructions.append(m.data), 100)
        latched = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscribe(Log, '/rosout', self._on_log, latched)
        self.actions = self.node.create_publisher(VlaAction, 'policy/action', 10)
        self.words = self.node.create_publisher(String, 'instruction', 10)
        self._reset = self.node.create_client(Reset, 'sim/reset')
        self._success = self.node.create_client(Trigger, 'sim/success')
        if acts:
            self.wait(self.actions.get_subscription_count, 'simulation that takes actions')
        self.wait(lambda: self.words.get_subscription_count() > 1, 'simulation that listens')
        self.wait(lambda: self.instructions, 'instruction')

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()

    def wait(self, condition, what):
        """Spin until condition() is true; fail with `what` when it never is."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f'still no {what}; {self.logs}'
            self.executor.spin_once(timeout_sec=0.05)

    def reset(self, seed, instruction=''):
        return self._call(self._reset, Reset.Request(seed=seed, instruction=instruction))

    def request_reset(self, seed):
        """Ask for a reset, and do not wait for it."""
        self._reset.call_async(Reset.Request(seed=seed))

    def success(self):
        return self._call(self._success, Trigger.Request())

    def next_image(self, condition=lambda message: True):
        """Wait for an image message, published after this call, that meets the condition."""
        begin = self.node.get_clock().now().nanoseconds
        self.images.clear()

        def fresh(message):
            return nanoseconds(message.header.stamp) > begin and condition(message)

        self.wait(lambda: any(map(fresh, self.images)), 'such image')
        return next(filter(fresh, self.images))

    def pose_of(self, image):
        """[3] m: where the hand was at that image."""
        stamp = image.header.stamp
        self.wait(lambda: any(m.header.stamp == stamp for m in self.poses), 'pose')
        place = next(m for m in self.poses if m.header.stamp == stamp).pose.position
        return np.array([place.x, place.y, place.z])

    def answer(self, image, instruction, action):
        message = VlaAction(action=np.asarray(action, float), instruction=instruction)
        message.header.stamp = image.header.stamp
        self.actions.publish(message)

    def warned(self, text):
        self.wait(lambda: any(text in log for log in self.logs), f'log of {text!r}')

    def play(self, mirror, instruction, steps):
        """Let the expert act in lock-step until the goal is reached, at most so many steps.

        Each image must show, byte for byte, what the mirror shows: a world in the same state.
        """
        goal = parse(instruction)
        for _ in range(steps):
            if mirror.success(goal):
                return
            view = mirror.image()
            image = self._shown(view)
            action = expert(mirror.state, goal)
            self.answer(image, instruction, action)
            mirror.step(action)
        self._shown(mirror.image())

    def _shown(self, view):
        def same(message):
            return np.array_equal(to_rgb(message), view)

        # It may have come already, and is shown again where nobody answers.
        self.wait(lambda: any(map(same, self.images)), 'image of the same world')
        image = [message for message in self.images if same(message)][-1]
        self.images.clear()
        return image

    def _call(self, client, request):
        assert client.wait_for_service(timeout_sec=PATIENCE), f'no service {client.srv_name}'
        future = client.call_async(request)
        self.wait(future.done, f'answer of {client.srv_name}')
        return future.result()

    def _on_log(self, message):
        if message.name == 'sim':
            self.logs.append(message.msg)


def nanoseconds(stamp):
    return 10**9 * stamp.sec + stamp.nanosec


class Table:
    """A simulation node, made and spun and destroyed by one thread, as OpenGL wants it."""

    def __init__(self, context, parameters):
        self._context, self._parameters = context, parameters
        self._closing = threading.Event()
        self._started = Future()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.result(20)

    def close(self):
        self._closing.set()
        self._thread.join()

    def _run(self):
        try:
            overrides = [Parameter(name, value=value) for name, value in self._parameters.items()]
            node = SimNode(context=self._context, parameter_overrides=overrides)
        except Exception as error:  # noqa: BLE001 - for the test's thread
            self._started.set_exception(error)
            return
        executor = SingleThreadedExecutor(context=self._context)
        for one in (node, *node.companions):
            executor.add_node(one)
        self._started.set_result(None)
        with suppress(ExternalShutdownException):
            while not self._closing.is_set():
                executor.spin_once(timeout_sec=0.05)
        executor.shutdown()
        node.destroy_node()
