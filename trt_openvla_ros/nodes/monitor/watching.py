"""The node of the monitor: it hears everything and gives snapshots."""

from __future__ import annotations

from collections import deque
import struct
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

from trt_openvla_ros.drawing.lettering import MOST
from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.nodes.monitor.parameters import MonitorParameters
from trt_openvla_ros.nodes.monitor.snapshot import DEAD, Line, Meter, Report, Snapshot
from trt_openvla_ros.nodes.monitor.topics import (
    ACTION,
    COUNTED,
    DIAGNOSTICS,
    GATE,
    IMAGE,
    INSTRUCTION,
    POSE,
    REASONING,
)
from trt_openvla_ros.nodes.overlay.contents import fields_of, gate_of, step_of, timings_of
from trt_openvla_ros.nodes.parameters import declare, read_checked
from trt_openvla_ros.nodes.topics import Topic

_STEPS = 200  # actions whose latency counts, as in /diagnostics
_FORGOTTEN = 30.0  # [s] after which a silent status of /diagnostics goes
_STAMP = struct.Struct('<iI')  # the first fields of every image, behind CDR's head of 4 bytes
_HEAD, _LITTLE = 4, 1


class MonitorNode(Node):
    """Hears the topics of policy and robot. It publishes nothing and offers nothing."""

    def __init__(self, **kwargs: Any) -> None:
        """Subscribe; the arguments are those of rclpy's Node.

        Raises:
            ParameterException: A parameter has an impossible value.
        """
        super().__init__('monitor', enable_rosout=False, start_parameter_services=False, **kwargs)
        declare(self, MonitorParameters)
        self.parameters = parameters = read_checked(self, MonitorParameters)
        self._start = time.monotonic()
        self._meters = {topic.name: Meter() for topic in COUNTED}
        self._names: dict[str, str] = {}  # in the graph
        self._image_stamp: int | None = None
        self._instruction = self._reasoning = ''
        self._action: VlaAction | None = None
        self._gate: GateReport | None = None
        self._latencies: dict[str, deque[float]] = {}
        self._statuses: dict[str, tuple[float, int, str]] = {}
        image = IMAGE
        if parameters.image_transport == 'compressed':
            name = f'{self.resolve_topic_name(IMAGE.name)}/compressed'
            image = IMAGE._replace(type=CompressedImage, name=name)
        if parameters.watch_images:
            # As bytes: nobody needs the pixels.
            self._listen(IMAGE.name, image, self._on_image, raw=True)
        self._listen(POSE.name, POSE, lambda m: None)
        self._listen(ACTION.name, ACTION, self._on_action)
        self._listen(GATE.name, GATE, self._on_gate)
        self._listen(DIAGNOSTICS.name, DIAGNOSTICS, self._on_diagnostics)
        self._listen('', INSTRUCTION, self._on_instruction)
        self._listen('', REASONING, self._on_reasoning)

    def snapshot(self) -> Snapshot:
        """Give everything as it is now."""
        now = time.monotonic()
        lines = [
            Line(
                name,
                self.count_publishers(topic),
                self._meters[name].rate(now),
                self._meters[name].age(now),
                now - self._start,
            )
            for name, topic in self._names.items()
        ]
        image_age = None
        if self._image_stamp is not None:
            image_age = (self.get_clock().now().nanoseconds - self._image_stamp) * 1e-9
        age = self._meters[GATE.name].age(now)
        namespace = self.get_namespace()
        return Snapshot(
            title=f'{"" if namespace == "/" else namespace + " "}{time.strftime("%H:%M:%S")}',
            topics=lines,
            latency={
                part: tuple(1e3 * np.percentile(times, (50, 95)))
                for part, times in self._latencies.items()
            },
            image_age=image_age,
            action_age=None if self._action is None else self._action.image_age,
            instruction=self._instruction,
            reasoning=fields_of(self._reasoning),
            step=None if self._action is None else step_of(self._action),
            gate=None if self._gate is None else gate_of(self._gate),
            gate_is_old=age is not None and age > DEAD,
            reports=[
                Report(level, name, message, now - at)
                for name, (at, level, message) in self._statuses.items()
                if now - at < _FORGOTTEN
            ],
        )

    def _listen(self, counted: str, topic: Topic, callback: Any, raw: bool = False) -> None:
        def take(message: Any) -> None:
            if counted:
                self._meters[counted].tick(time.monotonic())
            callback(message)

        made = self.create_subscription(topic.type, topic.name, take, topic.qos, raw=raw)
        if counted:
            self._names[counted] = made.topic_name

    def _on_image(self, message: bytes) -> None:
        if len(message) >= _HEAD + _STAMP.size and message[1] == _LITTLE:
            sec, nanosec = _STAMP.unpack_from(message, _HEAD)
            self._image_stamp = 10**9 * sec + nanosec

    def _on_action(self, message: VlaAction) -> None:
        self._action, self._reasoning = message, message.reasoning[:MOST]
        self._instruction = message.instruction[:MOST] or self._instruction
        for part, seconds in timings_of(message).items():
            self._latencies.setdefault(part, deque(maxlen=_STEPS)).append(seconds)

    def _on_gate(self, message: GateReport) -> None:
        self._gate = message

    def _on_instruction(self, message: Any) -> None:
        self._instruction = message.data[:MOST]

    def _on_reasoning(self, message: Any) -> None:
        self._reasoning = message.data[:MOST]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now = time.monotonic()
        for status in message.status:
            self._statuses[status.name] = now, status.level[0], status.message
