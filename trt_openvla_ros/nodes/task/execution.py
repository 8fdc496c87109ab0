"""One accepted goal at rclpy's action server, from its acceptance to its result."""

from __future__ import annotations

from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import KeyValue
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.msg import GateReport, GateRule
from trt_openvla_ros.nodes.task.progress import Ending, Progress
from trt_openvla_ros.policy.reasoning import parse_fields

Result = ExecuteInstruction.Result
_SHORTEST, _LONGEST = 0.2, 1.0  # [s] between two feedbacks


class Execution:
    """A goal that ends when it is told, and never by itself.

    rclpy runs a callback for each goal and takes its return for the end. Here the callback awaits
    a future, so that the only thread of the process stays free for cancels and other goals.
    """

    def __init__(self, handle: ServerGoalHandle) -> None:
        """Take a goal that was accepted; it is executing from now on."""
        self.handle = handle
        self._result = Future()
        self._told, self._steps = 0.0, -1
        handle.execute(self._wait)

    @property
    def is_cancelled(self) -> bool:
        """Whether the client asked to stop."""
        return self.handle.is_cancel_requested

    def end(self, ending: Ending, progress: Progress | None = None, now: float = 0.0) -> None:
        """End the goal once, with a result for the client."""
        if self.is_cancelled:
            self.handle.canceled()
        elif self.handle.is_active and ending.code == Result.NONE:
            self.handle.succeed()
        elif self.handle.is_active:
            self.handle.abort()
        if self._result.done():
            return
        result = Result(error_code=ending.code, error_msg=ending.sentence)
        if progress is not None:
            result.steps = progress.steps
            result.elapsed = to_duration(now - progress.began)
        self._result.set_result(result)

    def tell(self, progress: Progress, now: float) -> None:
        """Send feedback, at most five times a second: after a step, else once a second."""
        wait = _SHORTEST if progress.steps != self._steps else _LONGEST
        if now - self._told < wait:
            return
        self._told, self._steps = now, progress.steps
        feedback = ExecuteInstruction.Feedback(
            steps=progress.steps, elapsed=to_duration(now - progress.began)
        )
        if progress.action is not None:
            feedback.action = progress.action.action
            fields = parse_fields(progress.action.reasoning)
            feedback.reasoning = [KeyValue(key=tag, value=text) for tag, text in fields.items()]
            if progress.report is not None:
                judge(feedback, progress.report, progress.action.sequence)
        self.handle.publish_feedback(feedback)

    async def _wait(self, _: ServerGoalHandle) -> Result:
        return await self._result


def judge(feedback: ExecuteInstruction.Feedback, report: GateReport, sequence: int) -> None:
    """Fill in what the motion gate says of an action; PASS if it has not judged it yet."""
    feedback.reason = report.reason
    if report.sequence != sequence:
        return
    feedback.verdict = report.verdict
    for rule in report.rules:
        if rule.verdict == report.verdict != GateRule.PASS:
            feedback.reason = rule.reason
            return


def to_duration(seconds: float) -> Duration:
    """Make a message of a time that is not negative [s]."""
    whole, nanoseconds = divmod(round(1e9 * seconds), 10**9)
    return Duration(sec=whole, nanosec=nanoseconds)
