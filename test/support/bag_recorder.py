"""Records topics as `ros2 bag record` does, which has no wheels.

    python test/support/bag_recorder.py DIRECTORY

writes DIRECTORY/mcap and DIRECTORY/sqlite3: the same run of tiny_openvla in the simulation.
"""

from contextlib import contextmanager
from functools import partial
import os
from pathlib import Path
import subprocess
import sys
import time

from ament_index_python.packages import get_package_prefix
from bag_writer import STORAGES, write_bag
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from player import Player
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.msg import VlaAction

TOPICS = {
    '/camera/image_raw': Image,
    '/camera/camera_info': CameraInfo,
    '/instruction': String,
    '/policy/action': VlaAction,
    '/policy/reasoning': String,
    '/hand/pose': PoseStamped,
    '/joint_states': JointState,
    '/diagnostics': DiagnosticArray,
}
_SENSORS = ('/camera/image_raw', '/camera/camera_info')
TASKS = ((1_000_009, 'reach the green sphere'), (1_000_010, 'push the blue can forward'))
_MOST_STEPS = 25
_PATIENCE = 120.0  # [s] for an action; the first one comes when the policy is loaded


class BagRecorder:
    """Keeps the bytes of every message that a node hears.

    Attributes:
        messages: Topic, type, time [ns] and bytes of each, as `write_bag` takes them.
    """

    def __init__(self, node):
        """Subscribe to TOPICS."""
        self.messages = []
        for name, kind in TOPICS.items():
            best_effort = ReliabilityPolicy.BEST_EFFORT
            reliability = best_effort if name in _SENSORS else ReliabilityPolicy.RELIABLE
            qos = QoSProfile(depth=100, reliability=reliability)
            node.create_subscription(kind, name, partial(self._take, name, kind), qos, raw=True)

    def _take(self, topic, kind, data):
        name = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
        self.messages.append((topic, name, time.time_ns(), bytes(data)))


@contextmanager
def _processes(domain, clock):
    programs = Path(get_package_prefix('trt_openvla_ros')) / 'lib' / 'trt_openvla_ros'
    parameters = {
        'sim_node': {'rate': 0.0, 'publish_clock': clock},
        'policy_node': {
            'checkpoint': shipped_model('tiny_openvla'),
            'use_sim_time': clock,
            'max_image_age': 5.0,
        },
    }
    running = []
    for name, values in parameters.items():
        words = [f'{key}:={str(value).lower()}' for key, value in values.items()]
        command = [programs / name, '--ros-args', '--log-level', 'warn']
        command += [word for one in words for word in ('-p', one)]
        command += ['-r', 'image:=camera/image_raw'] if name == 'policy_node' else []
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
        running.append(subprocess.Popen(command, env=environment))
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=30)


def record_run(directory, domain, clock=True, tasks=TASKS):
    """Let tiny_openvla follow instructions in lock-step, and record it.

    Args:
        directory: Directory that gets a bag of each storage.
        domain: ROS domain.
        clock: Whether stamps are simulated time, in which each step takes 0.2 s.
        tasks: Seed and instruction of each scene.
    """
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    try:
        with _processes(domain, clock):
            player = Player(context)
            recorder = BagRecorder(player.node)
            for seed, instruction in tasks:
                answer = player.reset(seed, instruction)
                assert answer.success, answer.message
                before = _count(recorder)
                while not player.success().success and _count(recorder) - before < _MOST_STEPS:
                    seen = _count(recorder)
                    deadline = time.monotonic() + _PATIENCE
                    while _count(recorder) == seen:
                        assert time.monotonic() < deadline, f'no action; {player.logs}'
                        player.executor.spin_once(timeout_sec=0.05)
            player.close()
    finally:
        context.try_shutdown()
    for storage in STORAGES:
        write_bag(Path(directory) / storage, recorder.messages, storage)
    return Path(directory)


def _count(recorder):
    return sum(message[0] == '/policy/action' for message in recorder.messages)


if __name__ == '__main__':
    record_run(sys.argv[1], int(os.environ.get('ROS_DOMAIN_ID', '0')))
