"""Records topics as `ros2 bag record` does, which has no wheels.

    python test/support/bag_recorder.py DIRECTORY

writes DIRECTORY/mcap and DIRECTORY/sqlite3: the same run of tiny_openvla in the simulation.
"""

from contextlib import contextmanager, ExitStack
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
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.msg import VlaAction

_DEPTH = 100
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
# On best effort a busy machine loses images, and an action without its image is in no result.
_LOSSLESS = {
    f'qos_overrides./camera/{name}.publisher.{policy}': value
    for name in ('image_raw', 'camera_info')
    for policy, value in (('reliability', 'reliable'), ('depth', _DEPTH))
}
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
            take = partial(self._take, name, kind)
            node.create_subscription(kind, name, take, _DEPTH, raw=True)

    def _take(self, topic, kind, data):
        name = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
        self.messages.append((topic, name, time.time_ns(), bytes(data)))


@contextmanager
def _process(name, domain, words=(), **parameters):
    program = Path(get_package_prefix('trt_openvla_ros')) / 'lib' / 'trt_openvla_ros' / name
    command = [program, '--ros-args', '--log-level', 'warn', *words]
    for key, value in parameters.items():
        command += ['-p', f'{key}:={str(value).lower()}']
    process = subprocess.Popen(command, env={**os.environ, 'ROS_DOMAIN_ID': str(domain)})
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def _policy(domain, clock):
    checkpoint, words = shipped_model('tiny_openvla'), ('-r', 'image:=camera/image_raw')
    parameters = {'checkpoint': checkpoint, 'use_sim_time': clock, 'max_image_age': 5.0}
    with _process('policy_node', domain, words, **parameters):
        yield


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
        simulation = _process('sim_node', domain, rate=0.0, publish_clock=clock, **_LOSSLESS)
        with simulation, ExitStack() as running:
            player = Player(context)
            recorder = BagRecorder(player.node)
            player.wait(lambda: _count(recorder, '/camera/image_raw'), 'image that is recorded')
            for number, (seed, instruction) in enumerate(tasks):
                answer = player.reset(seed, instruction)
                assert answer.success, answer.message
                if number == 0:  # not before, or it acts on images that nobody has recorded
                    running.enter_context(_policy(domain, clock))
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


def _count(recorder, topic='/policy/action'):
    return sum(message[0] == topic for message in recorder.messages)


if __name__ == '__main__':
    record_run(sys.argv[1], int(os.environ.get('ROS_DOMAIN_ID', '0')))
