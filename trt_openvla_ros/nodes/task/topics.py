"""The topics and the action of the task node."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import String

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.nodes.qos import LATCHED
from trt_openvla_ros.nodes.topics import Service, Topic

INSTRUCTION = Topic(
    'instruction',
    String,
    'out and in, reliable',
    'The instruction of the goal, and a blank one at its end unless another node said a new one. '
    'What others say here ends the goal.',
)
ACTION = Topic('policy/action', VlaAction, 'in, reliable', 'Steps of the policy, to be counted.')
GATE = Topic(
    'robot/gate',
    GateReport,
    'in, reliable, transient local',
    'Reports of the motion gate, if there is a robot_node.',
    LATCHED,
)
HEALTH = Topic(
    '/diagnostics',
    DiagnosticArray,
    'out, 1 Hz; in',
    'State of this node and its goals, by outcome. From the policy node: whether it refused the '
    'instruction, and why it is silent.',
)
TASK_TOPICS = (INSTRUCTION, ACTION, GATE, HEALTH)

EXECUTE = Service(
    '~/execute_instruction',
    ExecuteInstruction,
    'Follow one instruction until something outside of the policy says that it ends: '
    '[action/ExecuteInstruction.action](../action/ExecuteInstruction.action).',
)
TASK_ACTIONS = (EXECUTE,)
