"""Measure the latency that the policy node adds to the policy, with a photograph as camera.

The installed node runs as its own process, as a user would start it. The latency lasts from
publishing an image to receiving its action. The overhead is the latency without the policy's own
time; the camera is so slow that the policy is free when an image comes. Then a camera of 30 Hz
sends more images than a policy of 5 Hz can answer (waiting_node.py), and the age of those that it
answers is measured as the node publishes the actions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.resources import files
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from ament_index_python.packages import get_package_prefix
import numpy as np
from PIL import Image as Picture
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import String

from trt_openvla_ros.evaluation.report import percentiles, print_latencies, write_json
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.conversions import to_message
from trt_openvla_ros.pictures import read_picture_file

ROOT = Path(__file__).parents[1]
PHOTO = files('trt_openvla_ros.pipeline') / 'coffee.jpg'
NODE = [str(Path(get_package_prefix('trt_openvla_ros')) / 'lib/trt_openvla_ros/policy_node')]
WAITING = [sys.executable, str(ROOT / 'benchmarks' / 'waiting_node.py')]
PROFILE = ROOT / 'config' / 'fast_dds_images.xml'
SIZES = ((640, 480), (1920, 1080))  # width, height [px]
SLOW, FAST = 10.0, 30.0  # [Hz]
_PATIENCE = 120.0  # [s] longest wait for loading and the first action


class Camera:
    """A camera that publishes the photograph and records what comes back.

    Attributes:
        actions: The actions, in order.
        latency: Time from publishing the image of each action to receiving it [s].
    """

    def __init__(self, node: Node, size: tuple[int, int], rate: float, instruction: str) -> None:
        """Make publishers and the subscription to the action."""
        self.node, self.instruction = node, instruction
        picture = Picture.fromarray(read_picture_file(PHOTO)).resize(size)
        self.message = to_message(np.asarray(picture))
        self.message.header.frame_id = 'camera'
        self.images = node.create_publisher(Image, 'image', qos_profile_sensor_data)
        self.instructions = node.create_publisher(String, 'instruction', 10)
        node.create_subscription(VlaAction, '/policy/action', self.receive, 10)
        node.create_timer(1 / rate, self.publish)
        self.sent: dict[tuple[int, int], float] = {}
        self.latency: list[float] = []
        self.actions: list[VlaAction] = []

    def publish(self) -> None:
        """Publish one frame, and until the first action also the instruction."""
        if not self.latency and self.instructions.get_subscription_count():
            self.instructions.publish(String(data=self.instruction))
        stamp = self.node.get_clock().now().to_msg()
        self.message.header.stamp = stamp
        self.sent[stamp.sec, stamp.nanosec] = time.perf_counter()
        self.images.publish(self.message)

    def receive(self, action: VlaAction) -> None:
        """Record one action; print some of the actions."""
        stamp = action.header.stamp
        latency = time.perf_counter() - self.sent[stamp.sec, stamp.nanosec]
        self.latency.append(latency)
        self.actions.append(action)
        if len(self.latency) <= 3 or len(self.latency) % 50 == 0:
            numbers = ' '.join(f'{value:+.4f}' for value in action.action)
            print(f'{action.sequence:5d}  {numbers}  {1e3 * latency:7.1f} ms', flush=True)


def film(
    size: tuple[int, int],
    rate: float,
    actions: int,
    instruction: str,
    checkpoint: str,
    unnorm_key: str,
    program: Sequence[str] = NODE,
) -> tuple[list[VlaAction], np.ndarray, float]:
    """Run a camera in front of a node until enough actions came.

    Returns:
        The actions and their latencies [s] without the first ones, which include discovery and
        warm-up; and the CPU time that the node took for each of these actions [s].

    Raises:
        RuntimeError: The node ended, or the actions did not come.
    """
    command = [*program, '--ros-args', '-p', f'checkpoint:={checkpoint}']
    command += ['-p', f'engine:={"waiting" if program is WAITING else "torch"}']
    command += ['-p', f'unnorm_key:={unnorm_key}', '-p', 'max_image_age:=5.0']
    skip = min(10, actions // 2)
    rclpy.init()
    process = subprocess.Popen(command)
    try:
        node = rclpy.create_node('camera')
        camera = Camera(node, size, rate, instruction)
        deadline = time.monotonic() + _PATIENCE + actions
        begun = 0.0
        while len(camera.actions) < actions and process.poll() is None:
            rclpy.spin_once(node, timeout_sec=0.5)
            if len(camera.actions) == skip and not begun:
                begun = _cpu_time(process.pid)
            if time.monotonic() > deadline:
                raise RuntimeError(f'only {len(camera.actions)} of {actions} actions came')
        if process.poll() is not None:
            raise RuntimeError(f'the node ended with code {process.returncode}')
        busy = (_cpu_time(process.pid) - begun) / (actions - skip)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        rclpy.try_shutdown()
    return camera.actions[skip:], np.array(camera.latency[skip:]), busy


def overhead(actions: list[VlaAction], latency: np.ndarray) -> dict[str, Any]:
    """Summarise how long actions took, and the node's part of it."""
    inference = np.array([action.inference_time for action in actions])
    result = {
        'latency': percentiles(latency),
        'inference': percentiles(inference),
        'overhead': percentiles(latency - inference),
    }
    print_latencies(
        {
            'latency': (
                result['latency'],
                'time from publishing an image to receiving its action',
            ),
            'inference': (result['inference'], "the policy's part of the latency"),
            'overhead': (result['overhead'], 'the rest: ROS, both ways'),
        }
    )
    return {'actions': len(actions), **result}


def age(actions: list[VlaAction], busy: float) -> dict[str, Any]:
    """Summarise how old images were when their actions were published."""
    ages = percentiles([action.image_age for action in actions])
    inference = np.array([action.inference_time for action in actions])
    result = {
        'age': ages,
        'inference': percentiles(inference),
        'before_inference': percentiles([a.image_age for a in actions] - inference),
        'preprocess': percentiles([action.preprocess_time for action in actions]),
    }
    print_latencies(
        {
            'age': (ages, 'age of the image when its action is published'),
            'inference': (result['inference'], "the policy's part of the age"),
            'waiting': (result['before_inference'], 'the rest: camera, ROS and waiting'),
            'resizing': (result['preprocess'], 'what preprocessing takes of the inference'),
        }
    )
    print(f'CPU time of the node for each action: {busy:.3f} s')
    return {'actions': len(actions), **result, 'cpu_per_action_s': round(busy, 4)}


def _cpu_time(process: int) -> float:
    """Give the CPU time that a process has taken so far [s]."""
    # Behind the name, which may contain spaces: the 14th and 15th field are user and system time.
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


def main() -> int:
    """Run the benchmark; give 0 if all actions came, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--actions', type=int, default=200, help='number of actions of each part')
    parser.add_argument('--instruction', default='pick up the coffee cup')
    parser.add_argument('--checkpoint', default=str(ROOT / 'test/data/golden/fused'))
    parser.add_argument('--unnorm-key', default='toy_arm')
    parser.add_argument('--json', type=Path, help='write the timings here')
    args = parser.parse_args()

    # Use a separate domain, so that the actions move nothing else on the network.
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    # As docs/node.md advises for large images, unless the caller has a profile.
    os.environ.setdefault('FASTRTPS_DEFAULT_PROFILES_FILE', str(PROFILE))
    print(f'instruction: {args.instruction}')
    print('    n  x y z [m], roll pitch yaw [rad], gripper; latency')
    result: dict[str, Any] = {}
    try:
        for width, height in SIZES:
            print(f'{width}x{height} at {SLOW:.0f} Hz, {args.checkpoint}')
            asked = args.instruction, args.checkpoint, args.unnorm_key
            actions, latency, _ = film((width, height), SLOW, args.actions, *asked)
            result[f'{width}x{height}'] = overhead(actions, latency)
        print(f'{width}x{height} at {FAST:.0f} Hz, a policy of 5 Hz')
        actions, _, busy = film((width, height), FAST, args.actions, *asked, WAITING)
        result[f'{width}x{height} at {FAST:.0f} Hz'] = age(actions, busy)
    except RuntimeError as error:
        print(error)
        return 1
    if args.json:
        write_json(args.json, result, ('numpy', 'torch', 'PIL'))
    return 0


if __name__ == '__main__':
    sys.exit(main())
