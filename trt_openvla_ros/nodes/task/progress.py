"""What happens to one goal, and when it ends. All times are seconds of one steady clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.nodes.task.goals import Goal
from trt_openvla_ros.nodes.task.parameters import TaskParameters
from trt_openvla_ros.nodes.task.stillness import Stillness

Result = ExecuteInstruction.Result
_UNMOVED = ('disabled', 'stopped')  # states of the gate in which nothing moves until ~/enable
_PERIOD = 0.2  # [s] of a step if the action does not tell; BridgeData's
_DOUBT = 1.0  # [s] for a simulation to pass on the instruction after an older text
_REJECTED = 'instructions_rejected'  # the policy node's counter


class Ending(NamedTuple):
    """How a goal ends: an error_code of the result, and a sentence."""

    code: int
    sentence: str


class Progress:
    """One goal while it is followed.

    Attributes:
        goal: What was asked for.
        began: When it was [s].
        steps: Actions that counted.
        action: The last of them; None before the first.
        report: The newest report of the motion gate; None if there is no robot_node.
        is_taken_over: Whether the goal ended because the policy follows another instruction.
        why_not_done: Function that explains why success is not told, or gives ''.
    """

    def __init__(
        self,
        goal: Goal,
        parameters: TaskParameters,
        now: float,
        why_silent: Callable[[], str] = str,
    ) -> None:
        """Begin; the instruction is said next.

        Args:
            goal: What was asked for.
            parameters: Limits and thresholds.
            now: Time [s].
            why_silent: Function that explains missing actions, or gives ''.
        """
        self.goal, self.began, self.steps = goal, now, 0
        self.action: VlaAction | None = None
        self.report: GateReport | None = None
        self.is_taken_over = False
        self.why_not_done: Callable[[], str] = str
        self._parameters, self._why_silent = parameters, why_silent
        self._acted = self._reported = now
        self._stillness = Stillness(parameters)
        self._ending: Ending | None = None
        self._rejected: int | None = None
        self._was_followed = False  # the last step, by one too many
        self._said: float | None = None  # [s] when the instruction was
        self._doubt: tuple[float, str] | None = None  # a text that may be passed on, and when

    @property
    def waits(self) -> bool:
        """Whether the instruction must wait until the robot may move.

        A client may have enabled it in this moment, and the report of that be under way.
        """
        return self.report is not None and self.report.state in _UNMOVED

    def say(self, now: float) -> None:
        """Note that the instruction is said."""
        self._said = now

    def hear_action(self, message: VlaAction, now: float) -> bool:
        """Take an action; tell whether it counts."""
        if message.instruction != self.goal.instruction:
            # Before the first step of this goal, actions for an older one may still arrive.
            if self.steps:
                self._hand_over(f'the policy now follows {message.instruction!r:.300}')
            return False
        # One that the policy began before it could hear of this goal: for an older goal of the
        # same words. Durations are compared, because clocks of two machines may differ.
        if self._said is None or now - self._said < message.inference_time:
            return False
        if self.action is not None and message.sequence <= self.action.sequence:
            return False
        if self._has_its_steps:
            self._was_followed = True
            return False
        self.steps += 1
        self.action, self._acted = message, now
        if self.goal.still_steps:
            self._watch_motion(message)
        return True

    def hear_success(self, value: bool) -> None:
        """Take what was said on the success topic."""
        if value:
            self.end(Result.NONE, f'done, as {self.goal.success_topic} said')

    def hear_instruction(self, text: str, now: float, is_known: bool = False) -> None:
        """Take an instruction that another node has said.

        Args:
            text: The instruction.
            now: Time [s].
            is_known: Whether the task node said it shortly before. Then a simulation may have
                passed it on, and passes on this goal's instruction next; nobody else does.
        """
        self._doubt = None
        if text == self.goal.instruction:
            return
        if is_known and self._said is not None:
            self._doubt = now, text
        elif text.strip():
            self._hand_over(f'another node said the instruction {text!r:.300}')
        else:
            self.end(Result.PREEMPTED, 'another node said a blank instruction, which stops')

    def know_gate(self, report: GateReport, came: float) -> None:
        """Take a report that came before the goal, and when that was [s]."""
        self.report, self._reported = report, came

    def hear_gate(self, report: GateReport, now: float) -> None:
        """Take a report of the motion gate."""
        self.report, self._reported = report, now
        if report.state in _UNMOVED:
            why = f': {report.reason}' if report.reason else ''
            self.end(Result.STOPPED_BY_GATE, f'the robot is {report.state}{why}')

    def know_policy(self, status: DiagnosticStatus) -> None:
        """Take the policy node's status from before the goal."""
        self._rejected = _rejected_in(status)

    def hear_policy(self, status: DiagnosticStatus) -> None:
        """Take a status of the policy node, which counts the instructions that it refuses."""
        before, self._rejected = self._rejected, _rejected_in(status)
        # Without a status from before the goal, the words tell: they have what is new.
        refused = _REJECTED in status.message if before is None else self._rejected > before
        follows = any(pair.key == 'instruction' and pair.value for pair in status.values)
        if refused and not follows and not self.steps:
            self.end(Result.REJECTED, f'the policy refused the instruction: {status.message}')

    def end(self, code: int, sentence: str) -> None:
        """End the goal; the first ending counts."""
        if self._ending is None:
            self._ending = Ending(code, sentence)

    def look(self, now: float) -> Ending | None:
        """Give the ending; None while the goal goes on."""
        if self._ending is None:
            self._judge(now)
        return self._ending

    def _hand_over(self, sentence: str) -> None:
        self.is_taken_over = self._ending is None
        self.end(Result.PREEMPTED, sentence)

    def _judge(self, now: float) -> None:
        if self._doubt is not None and now - self._doubt[0] > _DOUBT:
            self.hear_instruction(self._doubt[1], now)
        goal, parameters, silent = self.goal, self._parameters, now - self._acted
        if self.report is not None and now - self._reported > parameters.gate_timeout:
            self.end(
                Result.STOPPED_BY_GATE,
                f'robot_node has been silent for {now - self._reported:.1f} s',
            )
        elif self._is_over_steps(now) and goal.asks_for_success:
            self._give_up(f'not done after {self.steps} steps (max_steps)')
        elif self._is_over_steps(now):
            self.end(Result.NONE, f'done: {self.steps} steps (max_steps)')
        elif now - self.began >= goal.time:
            self._give_up(f'not done after {goal.time:g} s; {self.steps} steps')
        elif not self._has_its_steps and silent > parameters.policy_timeout:
            why = self._why_silent()
            self.end(
                Result.POLICY_FAILED,
                f'no action of this instruction for {silent:.1f} s' + (f': {why}' if why else ''),
            )

    def _give_up(self, sentence: str) -> None:
        why = self.why_not_done()
        self.end(Result.TIMEOUT, sentence + (f'; {why}' if why else ''))

    @property
    def _has_its_steps(self) -> bool:
        return 0 < self.goal.max_steps <= self.steps

    def _is_over_steps(self, now: float) -> bool:
        # The last step has its time too: a blank instruction would cut it off.
        return self._has_its_steps and (
            self._was_followed or now - self._acted >= _duration(self.action)
        )

    def _watch_motion(self, message: VlaAction) -> None:
        reason = self._stillness.see(message)
        if reason:
            self.end(Result.REJECTED, reason)
        elif self._stillness.count >= self.goal.still_steps:
            self.end(Result.NONE, f'done: no motion for {self._stillness.count} steps')


def _rejected_in(status: DiagnosticStatus) -> int:
    counts = [pair.value for pair in status.values if pair.key == _REJECTED]
    return int(counts[0]) if counts and counts[0].isdecimal() else 0


def _duration(message: VlaAction) -> float:
    """Give the time that a robot needs for an action, all steps of its chunk included [s]."""
    rate = message.meaning.control_rate
    rows = max(1, len(message.chunk) // len(message.action))
    return rows / rate if rate > 0 else rows * _PERIOD
