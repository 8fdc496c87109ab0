"""A client of the task node, with a policy and a motion gate that do what the test says."""

from __future__ import annotations

import time

from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool, String

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.msg import ActionMeaning, GateReport, VlaAction

PATIENCE = 20.0  # [s] before a test fails
STATUS = GoalStatus
METRES = ActionMeaning(translation_unit=1.0, rotation_unit=1.0, control_rate=50.0)
MOVING = (0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
STILL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Taskmaster:
    """Sends goals, and stands for the policy: it acts while there is an instruction.

    Attributes:
        instructions: All that was said, in order.
        events: The same, with every state of a goal and every step, as (kind, what).
        step: The next actions, [7]; None lets the policy be silent.
        meaning: Of the actions.
        period: Time between two actions [s].
    """

    def __init__(self, context, target='task', acts=True):
        self.node = Node('taskmaster', context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.instructions, self.events, self.feedbacks, self.statuses = [], [], [], []
        self.step, self.meaning, self.period = MOVING, METRES, 0.02
        self.reasoning, self.sequence, self._acted = '', 0, 0.0
        self.client = ActionClient(self.node, ExecuteInstruction, f'{target}/execute_instruction')
        self.words = self.node.create_publisher(String, 'instruction', 10)
        self.successes = self.node.create_publisher(Bool, 'success', 10)
        self.health = self.node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.gate = self.node.create_publisher(GateReport, 'robot/gate', latched)
        subscribe = self.node.create_subscription
        subscribe(String, 'instruction', self._on_instruction, 100)
        subscribe(DiagnosticArray, '/diagnostics', self._on_health, 10)
        self._changes = self.node.create_client(ChangeState, f'{target}/change_state')
        if acts:
            self.actions = self.node.create_publisher(VlaAction, 'policy/action', 10)
            self.node.create_timer(0.005, self._act)
            self.wait(self.actions.get_subscription_count, 'task node that counts actions')
        self.wait(self.gate.get_subscription_count, 'task node that hears the gate')
        self.wait(lambda: self.words.get_subscription_count() > 1, 'task node that listens')
        assert self.client.wait_for_server(timeout_sec=PATIENCE)

    def close(self):
        # Else its goal goes on, and the next test's client cannot know.
        self.words.publish(String(data=''))
        self.executor.shutdown()
        self.node.destroy_node()

    def wait(self, condition, what):
        """Spin until condition() is true; fail with `what` when it never is."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f'still no {what}; {self.events}'
            self.executor.spin_once(timeout_sec=0.01)

    def send(self, instruction, time_allowance=None, **asked):
        """Send a goal and wait for its handle, which may be refused."""
        goal = ExecuteInstruction.Goal(instruction=instruction, **asked)
        if time_allowance is not None:
            whole, part = divmod(time_allowance, 1)
            goal.time_allowance = Duration(sec=int(whole), nanosec=int(1e9 * part))
        self.feedbacks.clear()
        future = self.client.send_goal_async(
            goal, feedback_callback=lambda message: self.feedbacks.append(message.feedback)
        )
        self.wait(future.done, 'answer to the goal')
        handle = future.result()
        if handle.accepted:
            handle.ending = handle.get_result_async()
            handle.ending.add_done_callback(
                lambda f: self.events.append(('result', f.result().status))
            )
        return handle

    def follow(self, instruction, **asked):
        """Send a goal, and wait until the policy follows it."""
        handle = self.send(instruction, **asked)
        assert handle.accepted
        self.wait(lambda: self.instructions[-1:] == [instruction], 'instruction')
        self.wait(lambda: self.feedbacks and self.feedbacks[-1].steps, 'steps')
        return handle

    def result(self, handle):
        """Wait for the result; give the status and it. It comes with a blank instruction."""
        self.ending(handle)
        self.wait(lambda: self.instructions[-1:] in ([], ['']), 'blank instruction')
        return self.ending(handle)

    def ending(self, handle):
        """Wait for the result alone; give the status and it."""
        self.wait(handle.ending.done, 'result')
        return handle.ending.result().status, handle.ending.result().result

    def told(self, condition):
        """Wait for a new status of the task node that meets a condition."""
        self.statuses.clear()
        self.wait(lambda: any(map(condition, self.statuses)), 'status of the task node')

    def execute(self, instruction, **asked):
        """Send a goal; give the status and the result."""
        return self.result(self.send(instruction, **asked))

    def assert_aborted(self, answer, code, reason):
        status, result = answer
        assert (status, result.error_code) == (STATUS.STATUS_ABORTED, code), result
        assert reason in result.error_msg

    def cancel(self, handle):
        future = handle.cancel_goal_async()
        self.wait(future.done, 'answer to the cancel')
        return future.result()

    def transit(self, name):
        label = getattr(Transition, f'TRANSITION_{name.upper()}')
        future = self._changes.call_async(ChangeState.Request(transition=Transition(id=label)))
        self.wait(future.done, 'transition')
        return future.result().success

    def act(self, instruction, sequence=None, inference_time=0.001):
        """Publish one action, as the policy would."""
        self.sequence = self.sequence + 1 if sequence is None else sequence
        message = VlaAction(
            action=self.step,
            unlimited_action=self.step,
            meaning=self.meaning,
            instruction=instruction,
            sequence=self.sequence,
            inference_time=inference_time,
            reasoning=self.reasoning,
        )
        self.events.append(('step', instruction))
        self.actions.publish(message)

    def report(self, state, **fields):
        """Publish a report of the motion gate."""
        self.gate.publish(GateReport(state=state, sequence=self.sequence, **fields))

    def tell_health(self, message, **values):
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        status = DiagnosticStatus(name='/policy: policy', message=message, values=pairs)
        self.health.publish(DiagnosticArray(status=[status]))

    def _act(self):
        instruction = self.instructions[-1] if self.instructions else ''
        if self.step is None or not instruction or time.monotonic() - self._acted < self.period:
            return
        self._acted = time.monotonic()
        self.act(instruction)

    def _on_instruction(self, message):
        self.instructions.append(message.data)
        self.events.append(('instruction', message.data))
        self._acted = time.monotonic()

    def _on_health(self, message):
        self.statuses += [s for s in message.status if s.name.endswith(': task')]
