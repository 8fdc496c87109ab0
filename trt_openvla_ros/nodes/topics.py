"""Every topic and service of the nodes: its name, its type and its meaning.

The nodes make their publishers and subscriptions from these rows, and docs/tables.py its tables.
"""

from __future__ import annotations

from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import qos_profile_sensor_data, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.srv import Reset


class Topic(NamedTuple):
    """One topic of a node.

    Attributes:
        name: Name before remapping.
        type: Class of its messages.
        direction: 'in' or 'out', as the node sees it, and the quality of service in words.
        meaning: Text for the documentation.
        qos: Quality of service, or the depth of a reliable one.
    """

    name: str
    type: type
    direction: str
    meaning: str
    qos: QoSProfile | int = 10


class Service(NamedTuple):
    """One service of a node."""

    name: str
    type: type
    meaning: str


IMAGE = Topic(
    'image',
    Image,
    'in, sensor data',
    'Camera image. The node uses only the newest one. With `image_transport: compressed` it '
    'subscribes to `image/compressed` instead.',
    qos_profile_sensor_data,
)
INSTRUCTION = Topic(
    'instruction',
    String,
    'in, reliable',
    'Task, from the next image on. Nothing happens before the first instruction; an empty one '
    'stops the robot.',
)
ACTION = Topic(
    '~/action',
    VlaAction,
    'out, reliable',
    'One step: displacement, rotation and gripper, what they mean, and the stamp of its image.',
)
REASONING = Topic(
    '~/reasoning',
    String,
    'out, reliable',
    'Text that the model wrote before the action; empty for models that do not reason.',
)
REASONING_STREAM = Topic(
    '~/reasoning_stream',
    String,
    'out, reliable',
    'The whole reasoning so far, after each token; nothing from models that do not reason.',
)
PROMPT_IMAGE = Topic(
    '~/prompt_image',
    Image,
    'out, reliable',
    'The exact image that the model sees, if `publish_prompt_image` is true.',
    1,
)
DIAGNOSTICS = Topic(
    '/diagnostics',
    DiagnosticArray,
    'out, 1 Hz',
    'State, rate, latency p50 and p95 by part, drops, errors, checkpoint.',
)
POLICY_TOPICS = (
    IMAGE,
    INSTRUCTION,
    ACTION,
    REASONING,
    REASONING_STREAM,
    PROMPT_IMAGE,
    DIAGNOSTICS,
)

CAMERA_IMAGE = Topic(
    'camera/image_raw',
    Image,
    'out, sensor data',
    'Image of the camera, 256 x 256 rgb8.',
    qos_profile_sensor_data,
)
CAMERA_INFO = Topic(
    'camera/camera_info',
    CameraInfo,
    'out, sensor data',
    'Intrinsics of the camera, with the stamp of the image.',
    qos_profile_sensor_data,
)
HAND_POSE = Topic(
    'hand/pose', PoseStamped, 'out, reliable', 'Centre of the fingertips in `base_link`.'
)
JOINT_STATES = Topic(
    'joint_states', JointState, 'out, reliable', 'Distance of each finger from the middle [m].'
)
ASKED = Topic(
    'instruction',
    String,
    'out and in, reliable',
    'Instruction. The node publishes it after a reset and to later subscribers. It also follows '
    'instructions from others, and passes them on.',
)
TAKEN_ACTION = Topic('policy/action', VlaAction, 'in, reliable', 'Step to take.')
CLOCK = Topic(
    '/clock',
    Clock,
    'out, reliable',
    'Simulated time, if `publish_clock` is true; it never goes back.',
)
SIM_TOPICS = (CAMERA_IMAGE, CAMERA_INFO, HAND_POSE, JOINT_STATES, ASKED, TAKEN_ACTION, CLOCK)

RESET = Service(
    '~/reset',
    Reset,
    'Make a new scene from a seed, and ask for a goal in it: [srv/Reset.srv](../srv/Reset.srv).',
)
SUCCESS = Service(
    '~/success',
    Trigger,
    'Tell whether the goal was reached since the reset, and the number of steps.',
)
SIM_SERVICES = (RESET, SUCCESS)
