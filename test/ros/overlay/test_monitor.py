"""The monitor over real topics: as a node, in a pipe and in a terminal."""

import os
from pathlib import Path
import pty
import select
import signal
import subprocess
import termios
import time

from ament_index_python.packages import get_package_prefix
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String
from viewer import METRES

from trt_openvla_ros.msg import GateReport, GateRule, VlaAction
from trt_openvla_ros.nodes.monitor.watching import MonitorNode
from trt_openvla_ros.nodes.overlay.topics import GATE

PATIENCE = 20.0  # [s]
MONITOR = Path(get_package_prefix('trt_openvla_ros')) / 'lib' / 'trt_openvla_ros' / 'monitor'


class Robot:
    """Everything that is watched, and the monitor, in one executor."""

    def __init__(self, context):
        self.executor = SingleThreadedExecutor(context=context)
        self.monitor = MonitorNode(context=context)
        self.executor.add_node(self.monitor)
        self.context, self.node = context, None
        self.start()

    def start(self):
        self.node = Node('everything', context=self.context)
        self.executor.add_node(self.node)
        make = self.node.create_publisher
        self.images = make(Image, 'image', 10)
        self.poses = make(PoseStamped, 'pose', 10)
        self.actions = make(VlaAction, 'policy/action', 10)
        self.reasonings = make(String, 'policy/reasoning', 10)
        self.instructions = make(String, 'instruction', 10)
        self.gates = make(GateReport, 'robot/gate', GATE.qos)
        self.diagnostics = make(DiagnosticArray, '/diagnostics', 10)
        self.sequence = 0

    def stop(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()

    def say(self):
        """Publish one of each."""
        self.sequence += 1
        stamp = self.node.get_clock().now().to_msg()
        image = Image(height=2, width=2, step=6, encoding='rgb8', data=bytes(12))
        image.header.stamp = stamp
        self.images.publish(image)
        self.poses.publish(PoseStamped())
        action = VlaAction(
            action=[0.01, 0.02, 0.03, 0.0, 0.0, 0.0, 1.0],
            meaning=METRES,
            reasoning='PLAN: go MOVE: move left',
            instruction='pick up the cup',
            inference_time=0.1 + 0.001 * (self.sequence % 10),
            vision_time=0.04,
            image_age=0.25,
            sequence=self.sequence,
        )
        self.actions.publish(action)
        rules = [GateRule(rule='speed', verdict=GateRule.CLIP, count=self.sequence)]
        self.gates.publish(GateReport(state='moving', verdict=GateRule.CLIP, rules=rules))
        status = DiagnosticStatus(level=DiagnosticStatus.WARN, name='/policy: policy', message='m')
        self.diagnostics.publish(DiagnosticArray(status=[status]))

    def until(self, condition, speak=True):
        deadline = time.monotonic() + PATIENCE
        while not condition(self.monitor.snapshot()):
            assert time.monotonic() < deadline, self.monitor.snapshot()
            if speak:
                self.say()
            self.executor.spin_once(timeout_sec=0.02)
        return self.monitor.snapshot()

    def close(self):
        self.executor.shutdown()
        if self.node is not None:
            self.node.destroy_node()
        self.monitor.destroy_node()


@pytest.fixture
def robot(graph):
    made = Robot(graph.context)
    yield made
    made.close()


def line_of(snapshot, name):
    return next(line for line in snapshot.topics if line.name == name)


def test_everything_that_is_said_is_in_the_snapshot(robot):
    found = robot.until(
        lambda s: all(line.rate > 2 for line in s.topics) and len(s.latency) > 1 and s.reports
    )

    assert 100 <= found.latency['total'][0] <= found.latency['total'][1] <= 110
    assert found.latency['vision'] == pytest.approx((40, 40))
    assert found.image_age < 5
    assert found.action_age == 0.25
    assert found.instruction == 'pick up the cup'
    assert found.reasoning == {'PLAN': 'go', 'MOVE': 'move left'}
    assert found.step.numbers == ['+10', '+20', '+30', '+0', '+0', '+0', 'open']
    assert found.gate.state == 'moving'
    assert found.gate.rules[0].count > 0
    assert [(r.level, r.name, r.message) for r in found.reports] == [(1, '/policy: policy', 'm')]


def test_topics_die_and_come_back(robot):
    robot.until(lambda s: all(line.age is not None for line in s.topics))
    robot.stop()
    found = robot.until(
        lambda s: all(line.is_dead and not line.publishers for line in s.topics), speak=False
    )
    assert {line.state for line in found.topics} == {'gone'}
    assert found.gate_is_old
    robot.start()
    found = robot.until(lambda s: not any(line.is_dead for line in s.topics))
    assert not found.gate_is_old


def test_it_publishes_and_offers_nothing(robot):
    robot.until(lambda s: s.step is not None)
    look = robot.node
    published = dict(look.get_publisher_names_and_types_by_node('monitor', '/'))
    assert set(published) <= {'/parameter_events'}  # rclpy's own
    services = dict(look.get_service_names_and_types_by_node('monitor', '/'))
    assert not [name for name in services if 'type_description' not in name]


def test_in_a_pipe_there_is_a_line_each_period_and_then_an_end(execute, graph):
    process = subprocess.Popen(
        [MONITOR, '--ros-args', '-p', 'line_period:=0.1'],
        env={**os.environ, 'ROS_DOMAIN_ID': str(graph.context.get_domain_id())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert all(line.count(':') >= 2 for line in lines)
        assert '\x1b' not in ''.join(lines)
        process.stdout.close()  # nobody reads any more, as behind `| head`
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ''
    finally:
        process.kill()
        process.wait()


def test_full_disk_ends_it_with_a_sentence(graph):
    with Path('/dev/full').open('w') as full:
        process = subprocess.run(
            [MONITOR, '--ros-args', '-p', 'line_period:=0.1'],
            env={**os.environ, 'ROS_DOMAIN_ID': str(graph.context.get_domain_id())},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    assert process.returncode == 1
    assert process.stderr == (
        'the line cannot be written (No space left on device); write to another file\n'
    )


@pytest.mark.parametrize('way', ['q', 'ctrl-c'])
def test_in_a_terminal_it_shows_a_screen_and_leaves_it_as_it_was(graph, way):
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    process = subprocess.Popen(
        [MONITOR],
        env={
            **os.environ,
            'ROS_DOMAIN_ID': str(graph.context.get_domain_id()),
            'TERM': 'xterm',
        },
        stdin=its,
        stdout=its,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        shown = b''
        deadline = time.monotonic() + PATIENCE
        while b'no gate' not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 0.1)[0]:
                shown += os.read(ours, 65536)
        assert b'\x1b[?1049h' in shown  # the screen of its own
        if way == 'q':
            os.write(ours, b'q')
        else:
            process.send_signal(signal.SIGINT)
        while process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([ours], [], [], 0.1)[0]:
                shown += os.read(ours, 65536)
        while select.select([ours], [], [], 0.1)[0]:
            shown += os.read(ours, 65536)
        assert process.returncode == 0, process.stderr.read()
        assert shown.rstrip().endswith(b'\x1b[?1049l')  # and back
        assert termios.tcgetattr(its) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(its)
