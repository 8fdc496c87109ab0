"""Every topic of the overlay node."""

from __future__ import annotations

from importlib import import_module

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.nodes.qos import LATCHED, NEWEST
from trt_openvla_ros.nodes.topics import Topic

try:
    # Not by a statement: it is optional, and the manifest names all that statements import.
    ImageAnnotations = import_module('foxglove_msgs.msg').ImageAnnotations
except ImportError:

    class ImageAnnotations:
        """Names the type of ~/annotations, which the node then has not."""

    ImageAnnotations.__module__ = 'foxglove_msgs.msg'

HAS_FOXGLOVE = hasattr(ImageAnnotations, 'get_fields_and_field_types')

# Franka's pose is best effort too.
_ALL = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)

IMAGE = Topic(
    'image',
    Image,
    'in, sensor data',
    'Picture of the camera, while somebody subscribes to `~/overlay` or `~/annotations`. With '
    '`image_transport: compressed` it is `image/compressed` instead.',
    NEWEST,
)
CAMERA_INFO = Topic(
    'camera_info',
    CameraInfo,
    'in, best effort',
    'Calibration of that camera. Without it there is no arrow in the picture.',
    NEWEST,
)
INSTRUCTION = Topic('instruction', String, 'in, reliable', 'Instruction to show.')
ACTION = Topic('policy/action', VlaAction, 'in, reliable', 'Action to show, with its reasoning.')
REASONING = Topic(
    'policy/reasoning', String, 'in, reliable', 'Reasoning to show; the newest of the two counts.'
)
GATE = Topic(
    'robot/gate',
    GateReport,
    'in, reliable, transient local',
    'What the motion gate of robot_node says.',
    LATCHED,
)
TARGET = Topic(
    'robot/target',
    PoseStamped,
    'in, best effort',
    'Where the step leads to after the gate: the tip of the arrow.',
    NEWEST,
)
POSE = Topic(
    'pose',
    PoseStamped,
    'in, best effort',
    'Measured pose of the end effector: where the arrow starts. The name is the parameter '
    '`pose_topic`; with `pose_source: tf` there is none.',
    _ALL,
)
HEALTH = Topic(
    '/diagnostics',
    DiagnosticArray,
    'in, reliable',
    "From the policy node: its steps from the camera's picture to the model's view.",
)
OVERLAY = Topic(
    '~/overlay',
    Image,
    'out, reliable',
    'The picture with everything in it, rgb8.',
    1,
)
MARKERS = Topic(
    '~/markers',
    MarkerArray,
    'out, reliable',
    'For RViz, at 10 Hz: the step from the measured pose to the target, the boxes of the '
    'workspace, and the state of the gate. What is old is deleted.',
    1,
)
ANNOTATIONS = Topic(
    '~/annotations',
    ImageAnnotations,
    'out, reliable',
    'The same marks and text for the image panel of Foxglove, if foxglove_msgs is installed.',
    1,
)
OVERLAY_TOPICS = (
    IMAGE,
    CAMERA_INFO,
    INSTRUCTION,
    ACTION,
    REASONING,
    GATE,
    TARGET,
    POSE,
    HEALTH,
    OVERLAY,
    ANNOTATIONS,
    MARKERS,
)
