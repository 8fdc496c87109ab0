"""Measure the latency that the policy node adds to the policy, with a photograph as camera.

The installed node runs as its own process, as a user would start it. The latency lasts from
publishing an image to receiving its action. The overhead is the latency without the policy's own
time.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from ament_index_python.packages import get_package_prefix
import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import String

from trt_openvla_ros.evaluation.report import percentiles, print_latencies, write_json
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.conversions import to_message
from trt_openvla_ros.pictures import read_picture_file

ROOT = Path(__file__).parents[1]
PHOTO = files('trt_openvla_ros.pipeline') / 'coffee.jpg'
NODE = Path(get_package_prefix('trt_openvla_ros')) / 'lib' / 'trt_openvla_ros' / 'policy_node'
_PATIENCE = 120.0  # [s] longest wait for loading and the first action


class Camera:
    """A camera that publishes the photograph at 10 Hz and records the times."""

    def __init__(self, node: rclpy.node.Node, instruction: str) -> None:
        """Make publishers and the subscription to the action."""
        self.node, self.instruction = node, instruction
        self.message = to_message(read_picture_file(PHOTO))
        self.message.header.frame_id = 'camera'
        self.images = node.create_publisher(Image, 'image', qos_profile_sensor_data)
        self.instructions = node.create_publisher(String, 'instruction', 10)
        node.create_subscription(VlaAction, '/policy/action', self.receive, 10)
        node.create_timer(0.1, self.publish)
        self.sent: dict[tuple[int, int], float] = {}
        self.latency: list[float] = []
        self.inference: list[float] = []

    def publish(self) -> None:
        """Publish one frame, and until the first action also the instruction."""
        if not self.latency and self.instructions.get_subscription_count():
            self.instructions.publish(String(data=self.instruction))
        stamp = self.node.get_clock().now().to_msg()
        self.message.header.stamp = stamp
        self.sent[stamp.sec, stamp.nanosec] = time.perf_counter()
        self.images.publish(self.message)

    def receive(self, action: VlaAction) -> None:
        """Record the latency of one action; print some of the actions."""
        stamp = action.header.stamp
        latency = time.perf_counter() - self.sent[stamp.sec, stamp.nanosec]
        self.latency.append(latency)
        self.inference.append(action.inference_time)
        if len(self.latency) <= 10 or len(self.latency) % 50 == 0:
            numbers = ' '.join(f'{value:+.4f}' for value in action.action)
            print(f'{action.sequence:5d}  {numbers}  {1e3 * latency:7.1f} ms', flush=True)


def main() -> int:
    """Run the benchmark; give 0 if all actions came, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--actions', type=int, default=200, help='number of actions to wait for')
    parser.add_argument('--instruction', default='pick up the coffee cup')
    parser.add_argument('--checkpoint', default=str(ROOT / 'test/data/golden/fused'))
    parser.add_argument('--unnorm-key', default='toy_arm')
    parser.add_argument('--json', type=Path, help='write the timings here')
    args = parser.parse_args()

    # Use a separate domain, so that the actions move nothing else on the network.
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    command = [str(NODE), '--ros-args', '-p', f'checkpoint:={args.checkpoint}']
    command += ['-p', f'unnorm_key:={args.unnorm_key}', '-p', 'max_image_age:=5.0']
    rclpy.init()
    process = subprocess.Popen(command)
    try:
        node = rclpy.create_node('camera')
        camera = Camera(node, args.instruction)
        print(f'checkpoint:  {args.checkpoint}\ninstruction: {args.instruction}')
        print('    n  x y z [m], roll pitch yaw [rad], gripper; latency')
        deadline = time.monotonic() + _PATIENCE + args.actions
        while len(camera.latency) < args.actions and process.poll() is None:
            rclpy.spin_once(node, timeout_sec=0.5)
            if time.monotonic() > deadline:
                print(f'only {len(camera.latency)} of {args.actions} actions came')
                return 1
        if process.poll() is not None:
            print(f'the node ended with code {process.returncode}')
            return 1
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        rclpy.try_shutdown()
    # The first actions include discovery and warm-up.
    skip = min(10, args.actions // 2)
    latency, inference = np.array(camera.latency[skip:]), np.array(camera.inference[skip:])
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
    if args.json:
        write_json(args.json, {'actions': len(latency), **result}, ('numpy', 'torch'))
    return 0


if __name__ == '__main__':
    sys.exit(main())
