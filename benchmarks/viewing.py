"""Measure what a drawn picture costs, and take the pictures of docs/viewing.md.

The pictures show the simulated robot while tiny_ecot moves it through robot_node: what
overlay_node published, and the monitor's screen of the same moment.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
import os
from pathlib import Path
import subprocess
import sys
import threading
import time

from ament_index_python.packages import get_package_prefix, get_package_share_directory
import cv2
import numpy as np
from PIL import Image as Picture
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console, Group
from rich.terminal_theme import MONOKAI
from rich.text import Text
from sensor_msgs.msg import Image

from trt_openvla_ros.drawing.content import Box, Content, Gate, Rule, Step
from trt_openvla_ros.drawing.overlay import draw
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.evaluation.report import percentiles, print_latencies, write_json
from trt_openvla_ros.msg import GateReport
from trt_openvla_ros.nodes.closed_loop import closed_loop
from trt_openvla_ros.nodes.conversions import to_message, to_rgb
from trt_openvla_ros.nodes.monitor.screen import screen
from trt_openvla_ros.nodes.monitor.watching import MonitorNode
from trt_openvla_ros.nodes.overlay.contents import fields_of
from trt_openvla_ros.nodes.overlay.topics import GATE
from trt_openvla_ros.nodes.run import keep_freed_memory
from trt_openvla_ros.policy.pointing import boxes_of, points_of
from trt_openvla_ros.sim.expert import expert
from trt_openvla_ros.sim.goals import parse
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.training.reasoning_text import reasoning_of

_PACKAGE = 'trt_openvla_ros'
_SIZES = {'256x256': (256, 256), '640x480': (480, 640), '1920x1080': (1080, 1920)}
_SEED, _INSTRUCTION = 1_000_017, 'pick up the blue cube'
_SCREEN = 80, 24


def costs(repeat: int) -> dict[str, dict[str, dict[str, float]]]:
    """Time the drawing of a full picture, and from message to message, for each size."""
    world = World()
    world.reset(7)
    goal = parse(f'pick up the {world.things[0].name}')
    action = expert(world.state, goal)
    fields = fields_of(reasoning_of(world, world.state, goal, action))
    ends = world.project(np.stack([world.hand.position, world.hand.position + action[:3]]))
    small = world.image()
    world.close()
    found = {}
    for name, (height, width) in _SIZES.items():
        scale = np.array([width, height])
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        content = Content(
            instruction='pick up the green ball',
            reasoning=fields,
            boxes=[Box(name, box * np.tile(scale, 2)) for name, box in boxes_of(fields)],
            points=points_of(fields) * scale,
            arrow=ends / 256 * scale,
            step=Step(action, action, 1, 1, 'open', True, 1),
            gate=Gate('moving', '', 1, [Rule('speed', 1, 0.3, 0.25, 'm/s')]),
            timings={'total': 0.2, 'vision': 0.05},
        )
        times: dict[str, list[float]] = {'draw': [], 'messages': [], 'messages_cpu': []}
        came = to_message(image)
        for index in range(repeat):
            # New numbers in every frame, as in life: their letters are not in memory yet.
            shown = replace(content, ages={'image': index / 1000, 'pose': index / 900})
            begin = time.perf_counter()
            draw(image, shown)
            times['draw'].append(time.perf_counter() - begin)
            begin, used = time.perf_counter(), time.process_time()
            to_message(draw(to_rgb(came), shown))
            times['messages'].append(time.perf_counter() - begin)
            times['messages_cpu'].append(time.process_time() - used)
        found[name] = {part: percentiles(seconds) for part, seconds in times.items()}
    return found


@contextmanager
def overlay(node: Node, keep: Callable[[Image], None]) -> Iterator[None]:
    """Run an overlay node with the simulation's preset, and keep its pictures."""
    path = Path(get_package_prefix(_PACKAGE)) / 'lib' / _PACKAGE / 'overlay_node'
    preset = Path(get_package_share_directory(_PACKAGE)) / 'config' / 'robots' / 'sim.yaml'
    command = [path, '--ros-args', '--log-level', 'warn', '--params-file', preset]
    command += ['-p', 'show:=answered', '-r', 'image:=camera/image_raw']
    process = subprocess.Popen([*command, '-r', 'camera_info:=camera/camera_info'])
    pictures = node.create_subscription(Image, 'overlay/overlay', keep, 10)
    try:
        yield
    finally:
        node.destroy_subscription(pictures)
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def monitor() -> Iterator[MonitorNode]:
    """Give the monitor's node, spun by a thread."""
    node = MonitorNode(
        cli_args=['--ros-args', '-r', 'image:=camera/image_raw', '-r', 'pose:=hand/pose']
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    closing = threading.Event()

    def spin() -> None:
        while not closing.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield node
    finally:
        closing.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()


def take(folder: Path) -> None:
    """Run episodes through robot_node, and keep picture and screen of one moment."""
    moments: list[tuple[Image, list[Text]]] = []
    with closed_loop(shipped_model('tiny_ecot'), 'cartesian') as loop, monitor() as watching:
        gates: list[GateReport] = []
        loop.node.create_subscription(GATE.type, 'robot/gate', gates.append, GATE.qos)

        def keep(message: Image) -> None:
            if gates and gates[-1].state == 'moving':
                moments.append((message, screen(watching.snapshot(), *_SCREEN)))

        with overlay(loop.node, keep):
            episode = loop.episode(_SEED, _INSTRUCTION)
    print(f'{_INSTRUCTION}: {"reached" if episode.reached else "not reached"}')
    if not moments:
        sys.exit('no picture came while the robot moved')
    picture, lines = moments[len(moments) // 4]
    _save(to_rgb(picture), folder / 'viewing_overlay.png')
    with Path(os.devnull).open('w') as nowhere:
        console = Console(width=_SCREEN[0], record=True, file=nowhere)
        console.print(Group(*lines))
        console.save_svg(str(folder / 'viewing_monitor.svg'), title='monitor', theme=MONOKAI)


def _save(image: np.ndarray, path: Path) -> None:
    picture = Picture.fromarray(image).quantize(128, dither=Picture.Dither.NONE)
    picture.save(path, optimize=True)
    print(
        f'wrote {path}: {image.shape[1]} x {image.shape[0]}, {path.stat().st_size / 1024:.0f} KiB'
    )


def main() -> None:
    """Measure, and take pictures if a directory for them is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=200, help='pictures of each size')
    parser.add_argument('--json', type=Path, help='write the times here')
    parser.add_argument('--pictures', type=Path, help='write pictures into this directory')
    args = parser.parse_args()
    keep_freed_memory()  # as every node does
    found = costs(args.repeat)
    for size, parts in found.items():
        print(f'\n{size}')
        print_latencies(
            {
                'draw': (parts['draw'], 'the picture'),
                'messages': (parts['messages'], 'from message to message'),
                'cpu': (parts['messages_cpu'], 'the same in time of the CPU'),
            }
        )
    if args.json:
        # Of the last minute: with more than the cores, the wall time is mostly waiting.
        busy = round(os.getloadavg()[0], 1)
        result = {'repeat': args.repeat, 'load_average': busy, 'sizes': found}
        write_json(args.json, result, ['numpy', 'cv2', 'PIL'])
    if args.pictures:
        take(args.pictures)


if __name__ == '__main__':
    main()
