"""Every topic that the monitor hears; it publishes none."""

from __future__ import annotations

from rclpy.qos import QoSProfile, ReliabilityPolicy

from trt_openvla_ros.nodes.overlay.topics import ACTION, GATE, INSTRUCTION, POSE, REASONING
from trt_openvla_ros.nodes.topics import DIAGNOSTICS as REPORTED
from trt_openvla_ros.nodes.topics import IMAGE as SEEN

IMAGE = SEEN._replace(
    meaning='Images, of which only the stamp is read. With `image_transport: compressed` it is '
    '`image/compressed` instead.',
    qos=QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT),
)
DIAGNOSTICS = REPORTED._replace(direction='in, reliable', meaning='Every status, the worst first.')
COUNTED = (IMAGE, POSE, ACTION, GATE, DIAGNOSTICS)
MONITOR_TOPICS = (
    IMAGE,
    POSE._replace(meaning='Measured pose, to be counted.'),
    INSTRUCTION,
    ACTION,
    REASONING,
    GATE,
    DIAGNOSTICS,
)
