"""The action server: one goal at a time, and what it hears and says while it is followed."""

from __future__ import annotations

from collections import Counter, deque
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Bool, String

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.errors import InputError
from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.nodes.parameters import read
from trt_openvla_ros.nodes.task.execution import Execution
from trt_openvla_ros.nodes.task.goals import Goal, read_goal
from trt_openvla_ros.nodes.task.parameters import TaskParameters
from trt_openvla_ros.nodes.task.progress import Ending, Progress
from trt_openvla_ros.nodes.task.success import SuccessTopic
from trt_openvla_ros.nodes.task.topics import ACTION, EXECUTE, GATE, HEALTH, INSTRUCTION

Result = ExecuteInstruction.Result
_TICK = 0.02  # [s] between two looks at a goal; a cancel and an end by a message are at once
_ECHO = 2.0  # [s] in which a simulation may pass on what this node said before
_FRESH = 3.0  # [s] for which a status of the policy node, which comes each second, explains it
_KEPT = 60  # [s] that a result waits for its client; rclpy's 900 let a flood of goals grow
_OUTCOMES = {
    Result.NONE: 'done',
    Result.TIMEOUT: 'timeout',
    Result.CANCELLED: 'cancelled',
    Result.PREEMPTED: 'preempted',
    Result.STOPPED_BY_GATE: 'stopped by gate',
    Result.POLICY_FAILED: 'policy failed',
    Result.REJECTED: 'rejected',
    Result.DEACTIVATED: 'deactivated',
}


class TaskServer:
    """The server of a task node, from configure to cleanup.

    Attributes:
        accepts: Whether goals are accepted: while the node is active.
        outcomes: Goals by their ends.
    """

    def __init__(self, node: LifecycleNode) -> None:
        """Make topics and server on a node; no goal is accepted yet."""
        self._node, self.accepts = node, False
        self.outcomes = Counter(dict.fromkeys(_OUTCOMES.values(), 0))
        self._execution: Execution | None = None
        self._progress: Progress | None = None
        self._success: SuccessTopic | None = None
        self._report: tuple[float, GateReport] | None = None  # [s] when it came
        self._status: tuple[float, DiagnosticStatus] | None = None  # the policy node's
        self._said: deque[tuple[float, str]] = deque(maxlen=100)
        self._due: deque[str] = deque(maxlen=100)  # of what was said, what has not come back yet
        self._repeats = False
        self._listeners = 0
        self._words = node.create_publisher(INSTRUCTION.type, INSTRUCTION.name, INSTRUCTION.qos)
        self._subscriptions = [
            node.create_subscription(topic.type, topic.name, callback, topic.qos)
            for topic, callback in (
                (INSTRUCTION, self._on_instruction),
                (ACTION, self._on_action),
                (GATE, self._on_gate),
                (HEALTH, self._on_health),
            )
        ]
        self._policy = self._subscriptions[1].topic_name.rpartition('/')[0]
        self._timer = node.create_timer(
            _TICK, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._timer.cancel()
        # A cancel counts for rclpy only when its callback has returned.
        self._cancelled = node.create_guard_condition(self._look)
        self._server = ActionServer(
            node,
            EXECUTE.type,
            EXECUTE.name,
            execute_callback=_never,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
            result_timeout=_KEPT,
        )

    @property
    def progress(self) -> Progress | None:
        """The goal that is followed; None if there is none."""
        return self._progress

    def end(self, code: int, sentence: str) -> None:
        """End the goal, if there is one: a blank instruction first, then the result.

        It is not said where the policy follows another node by now, which it would stop.
        """
        if self._execution is None:
            return
        execution, progress = self._execution, self._progress
        ending, is_said = Ending(code, sentence), progress.is_taken_over
        if execution.is_cancelled:
            ending = Ending(Result.CANCELLED, 'cancelled by the client')
            is_said = self._said[-1][1] == ''  # when the client asked
        if not is_said:
            self._say('')
        execution.end(ending, progress, time.monotonic())
        self._execution = self._progress = None
        self._timer.cancel()
        if self._success is not None:
            self._success.destroy()
        self._count(ending, progress.goal.instruction)

    def flush(self, patience: float) -> None:
        """Give the last instruction and result so long [s] to leave, when nobody spins any more.

        rclpy sends a result in a later turn of the executor.
        """
        executor, deadline = self._node.executor, time.monotonic() + patience
        while executor is not None and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.01)

    def destroy(self) -> None:
        """Remove everything from the node."""
        self._server.destroy()
        self._node.destroy_timer(self._timer)
        self._node.destroy_guard_condition(self._cancelled)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._words)

    def _on_goal(self, _: ExecuteInstruction.Goal) -> GoalResponse:
        if self.accepts:
            return GoalResponse.ACCEPT
        self._node.get_logger().warning('goal rejected: the node is not active')
        return GoalResponse.REJECT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        execution, parameters = Execution(handle), read(self._node, TaskParameters)
        try:
            goal = read_goal(handle.request, parameters)
            topic = goal.success_topic
            success = SuccessTopic(self._node, topic, self._on_success) if topic else None
        except InputError as error:
            # A goal that cannot be followed does not stop another.
            ending = Ending(Result.REJECTED, str(error))
            execution.end(ending)
            self._count(ending, handle.request.instruction)
            return
        self.end(Result.PREEMPTED, f'a newer goal took over: {goal.instruction!r:.300}')
        self._begin(goal, parameters, execution, success)

    def _begin(
        self,
        goal: Goal,
        parameters: TaskParameters,
        execution: Execution,
        success: SuccessTopic | None,
    ) -> None:
        now = time.monotonic()
        self._execution, self._success = execution, success
        self._progress = Progress(goal, parameters, now, self._why_silent)
        if success is not None:
            self._progress.why_not_done = success.why_silent
        if self._report is not None and now - self._report[0] <= parameters.gate_timeout:
            self._progress.know_gate(self._report[1], self._report[0])
        if self._status is not None:
            self._progress.know_policy(self._status[1])
        self._node.get_logger().info(f'goal: {goal.instruction!r}')
        self._repeats = False
        self._timer.reset()
        self._tell_policy()
        self._look()

    def _tell_policy(self) -> None:
        # The client may have cancelled in this moment; nothing may be said after that.
        if not self._progress.waits and not self._execution.is_cancelled:
            self._progress.say(time.monotonic())
            self._listeners = self._words.get_subscription_count()
            self._say(self._progress.goal.instruction)
            self._repeats = True

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if self._execution is None or self._execution.handle != handle:
            return CancelResponse.REJECT  # it ended in this moment
        self._say('')
        self._cancelled.trigger()
        return CancelResponse.ACCEPT

    def _look(self) -> None:
        now, progress = time.monotonic(), self._progress
        if progress is None:
            return
        ending = progress.look(now)
        if self._execution.is_cancelled:
            ending = Ending(Result.CANCELLED, '')
        if ending is not None:
            self.end(*ending)
            return
        # A policy that came later; not once it acted, because a policy that was stopped or
        # started anew must not go on by itself.
        listeners = self._words.get_subscription_count()
        self._repeats &= progress.action is None
        if listeners > self._listeners and self._repeats:
            self._say(progress.goal.instruction)
        self._listeners = listeners
        self._execution.tell(progress, now)

    def _on_action(self, message: VlaAction) -> None:
        if self._progress is not None:
            self._progress.hear_action(message, time.monotonic())
            self._look()

    def _on_gate(self, report: GateReport) -> None:
        self._report = time.monotonic(), report
        if self._progress is not None:
            waited = self._progress.waits
            self._progress.hear_gate(report, self._report[0])
            if waited:
                self._tell_policy()
            self._look()

    def _on_success(self, message: Bool) -> None:
        if self._progress is not None:
            self._progress.hear_success(message.data)
            self._look()

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f'{self._policy}: policy':
                self._status = time.monotonic(), status
                if self._progress is not None:
                    self._progress.hear_policy(status)
                    self._look()

    def _on_instruction(self, message: String) -> None:
        if message.data in self._due:  # our own came back; those before it never will
            while self._due.popleft() != message.data:
                pass
            return
        # Somebody else speaks, perhaps to stop the robot: nothing is said again.
        self._repeats = False
        # A simulation passes on what this node said before.
        now = time.monotonic()
        passed_on = {text for when, text in self._said if now - when < _ECHO}
        if self._progress is not None:
            self._progress.hear_instruction(message.data, now, message.data in passed_on)
            self._look()

    def _say(self, text: str) -> None:
        self._said.append((time.monotonic(), text))
        self._due.append(text)
        self._words.publish(String(data=text))

    def _why_silent(self) -> str:
        if self._status is not None and time.monotonic() - self._status[0] <= _FRESH:
            return f'{self._policy} says: {self._status[1].message}'
        topic = f'{self._policy}/action'
        silent = not self._node.count_publishers(topic)
        return f'nobody publishes {topic}; is the policy node active?' if silent else ''

    def _count(self, ending: Ending, instruction: str) -> None:
        name = _OUTCOMES[ending.code]
        self.outcomes[name] += 1
        text = f'goal {instruction!r:.300} ended ({name}): {ending.sentence}'
        # Two lines of code, because rclpy wants one severity of each.
        if ending.code in (Result.NONE, Result.CANCELLED):
            self._node.get_logger().info(text)
        else:
            self._node.get_logger().warning(text)


async def _never(handle: ServerGoalHandle) -> None:
    """Stand where rclpy wants a callback; each execution brings its own."""
