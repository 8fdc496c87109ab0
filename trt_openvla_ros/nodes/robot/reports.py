"""What the robot node says of itself: the gate's report, and its part of /diagnostics."""

from __future__ import annotations

from collections import deque

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
import numpy as np
from std_msgs.msg import Header

from trt_openvla_ros.msg import GateReport, GateRule
from trt_openvla_ros.robot.exchange import HOLDING, Report, STOPPED
from trt_openvla_ros.safety.verdicts import Ruling, Verdict

_WINDOW = 200  # actions whose latency is kept


def to_report(report: Report, header: Header) -> GateReport:
    """Make the message of a report."""
    return GateReport(
        header=header,
        state=report.state,
        reason=report.reason,
        sequence=report.sequence,
        verdict=int(report.verdict),
        rules=[_to_rule(ruling) for ruling in report.rulings],
        image_age=float(report.image_age),
        pose_age=float(report.pose_age),
    )


def _to_rule(ruling: Ruling) -> GateRule:
    return GateRule(
        rule=ruling.rule,
        verdict=int(ruling.verdict),
        value=float(ruling.value),
        limit=float(ruling.limit),
        unit=ruling.unit,
        reason=ruling.reason,
        count=ruling.count,
    )


class Latency:
    """Times from an image to the first command after it [s], and the rate of actions."""

    def __init__(self, now: float) -> None:
        """Begin to count now."""
        self._times: deque[float] = deque(maxlen=_WINDOW)
        self._count, self._counted, self._since = 0, 0, now

    def note(self, seconds: float) -> None:
        """Take the latency of one action."""
        self._times.append(seconds)
        self._count += 1

    def facts(self, now: float) -> dict[str, str]:
        """Give p50 and p95, the number of actions, and their rate since the last call."""
        rate = (self._count - self._counted) / max(now - self._since, 1e-3)
        self._counted, self._since = self._count, now
        facts = {'actions': str(self._count), 'rate [Hz]': f'{rate:.2f}'}
        for percent in (50, 95) if self._times else ():
            value = 1e3 * np.percentile(list(self._times), percent)
            facts[f'image to command p{percent} [ms]'] = f'{value:.1f}'
        return facts


def bridge_status(
    name: str, state: str, report: Report | None, failure: str, facts: dict[str, str]
) -> DiagnosticStatus:
    """Tell the state of the node and of the bridge; a stop is an error.

    Args:
        name: Name of the node.
        state: State in the life cycle.
        report: What the bridge says; None while it is not configured.
        failure: Reason of a failure; '' if there is none.
        facts: Further values.
    """
    level, message = DiagnosticStatus.OK, state
    if failure:
        level, message = DiagnosticStatus.ERROR, f'{state}: {failure}'
    elif report is not None:
        message = f'{state}, {report.state}' + (f': {report.reason}' if report.reason else '')
        level = {STOPPED: DiagnosticStatus.ERROR, HOLDING: DiagnosticStatus.WARN}.get(
            report.state, DiagnosticStatus.OK
        )
        facts = {
            'state': report.state,
            **facts,
            'sequence': str(report.sequence),
            'image age [s]': _age(report.image_age),
            'pose age [s]': _age(report.pose_age),
        }
    return _status(f'{name}: bridge', level, message, facts)


def gate_status(name: str, report: Report, before: Report | None) -> DiagnosticStatus:
    """Tell how often each rule objected; a warning if one did since the report before."""
    counts = {ruling.rule: ruling.count for ruling in report.rulings}
    old = {ruling.rule: ruling.count for ruling in before.rulings} if before else {}
    fresh = [
        f'{counts[ruling.rule] - old.get(ruling.rule, 0)} x {ruling.rule}'
        for ruling in report.rulings
        if counts[ruling.rule] > old.get(ruling.rule, 0)
    ]
    worst = max((ruling.verdict for ruling in report.rulings), default=Verdict.PASS)
    level = DiagnosticStatus.WARN if fresh or worst >= Verdict.HOLD else DiagnosticStatus.OK
    reasons = [ruling.reason for ruling in report.rulings if ruling.verdict >= Verdict.HOLD]
    message = '; '.join([*fresh, *reasons]) or 'every rule passed'
    return _status(f'{name}: gate', level, message, {k: str(v) for k, v in counts.items()})


def part_status(name: str, part: str, trouble: str, facts: dict[str, str]) -> DiagnosticStatus:
    """Tell whether a part outside of this node works: 'controller', 'gripper' or 'pose'."""
    level = DiagnosticStatus.WARN if trouble else DiagnosticStatus.OK
    return _status(f'{name}: {part}', level, trouble or 'ok', facts)


def _status(name: str, level: bytes, message: str, facts: dict[str, str]) -> DiagnosticStatus:
    values = [KeyValue(key=key, value=value) for key, value in facts.items()]
    return DiagnosticStatus(level=level, name=name, message=message, values=values)


def _age(seconds: float) -> str:
    return f'{seconds:.3f}' if seconds >= 0 else 'none'
