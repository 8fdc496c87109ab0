"""Topics and services of the robot node, and those of the controllers that it commands."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.nodes.qos import LATCHED, NEWEST
from trt_openvla_ros.nodes.topics import Service, Topic

STEP = Topic('policy/action', VlaAction, 'in, reliable', 'Step to take, once for each sequence.')
SAID = Topic(
    'instruction', String, 'in, reliable', 'Instruction of the policy; a blank one holds at once.'
)
POSE = Topic(
    'pose',
    PoseStamped,
    'in, best effort',
    'Measured pose of the end effector in `base_frame`; the name is the parameter `pose_topic`. '
    'With `pose_source: tf` there is none.',
    NEWEST,
)
JOINTS = Topic(
    'joint_states',
    JointState,
    'in, best effort',
    'Joint states, which must not fall silent, if `joint_states_topic` names them.',
    NEWEST,
)
READY = Topic(
    'ready',
    Bool,
    'in, reliable',
    'Whether the robot takes commands, if `ready_topic` names it.',
    QoSProfile(depth=1),
)
DEADMAN = Topic(
    '~/deadman',
    Bool,
    'in, reliable',
    'True while a person holds the switch, with `deadman: topic`; again within `deadman_timeout`.',
    1,
)
JOY = Topic(
    'joy', Joy, 'in, best effort', 'Joystick, with `deadman: joy`; see `deadman_button`.', NEWEST
)
GATE = Topic(
    '~/gate',
    GateReport,
    'out, reliable, latched',
    'What the gate says: at each action, at each change of state, and at 1 Hz.',
    LATCHED,
)
TARGET = Topic(
    '~/target',
    PoseStamped,
    'out, reliable',
    'Pose that the newest step leads to, after the gate, whatever the controller.',
)
DIAGNOSTICS = Topic(
    '/diagnostics',
    DiagnosticArray,
    'out, 1 Hz',
    'Bridge, gate, controller and gripper: state, rate, counts of rules, ages, latency.',
)
ROBOT_TOPICS = (STEP, SAID, POSE, JOINTS, READY, DEADMAN, JOY, GATE, TARGET, DIAGNOSTICS)

ENABLE = Service(
    '~/enable',
    SetBool,
    'Let the robot move, or hold it and let it move no more; it is off at the start.',
)
STOP = Service('~/stop', Trigger, 'Hold the robot until `~/enable` is called again.')
ROBOT_SERVICES = (ENABLE, STOP)
