"""The report of the policy node about itself, for /diagnostics."""

from __future__ import annotations

from collections import Counter, deque
import threading
import time

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
import numpy as np

from trt_openvla_ros.contracts import Description
from trt_openvla_ros.errors import ImageError, InputError, OutputError
from trt_openvla_ros.policy.seen_view import SeenView
from trt_openvla_ros.timings import PARTS, Timings

# Steps: enough for a p95 of a slow policy, and few enough to forget yesterday's latency.
_WINDOW = 200
VIEW = 'view'  # key of a SeenView
_PLAIN = ('engine', 'checkpoint', 'dtype', 'device', 'camera')
_TOLERATED = 0.1  # share of lost frames that is no warning: best effort loses some


def origin_of(description: Description | None) -> dict[str, str]:
    """Give the facts of a policy that never change, or their names with '' if there is none."""
    if description is None:
        return dict.fromkeys((*_PLAIN, VIEW), '')
    plain = {name: str(getattr(description, name)) for name in _PLAIN}
    return {**plain, VIEW: SeenView.of(description).to_text()}


def counter_of(error: Exception) -> str:
    """Name the counter of an error that a step met."""
    if isinstance(error, ImageError):
        return 'images_rejected'
    if isinstance(error, InputError):
        return 'instructions_rejected'
    return 'output_errors' if isinstance(error, OutputError) else 'engine_errors'


def describe(state: str, failure: str, silence: str, instruction: str) -> tuple[bytes, str]:
    """Give the level and the message for the state of a node.

    Args:
        state: State in the life cycle.
        failure: Reason of a failure; '' if there is none.
        silence: Reason why no images came; '' if some came.
        instruction: Instruction that the node follows; '' if there is none.
    """
    if failure:
        return DiagnosticStatus.ERROR, f'{state}: {failure}'
    if state == 'active' and silence:
        return DiagnosticStatus.WARN, f'{state}, {silence}'
    if state == 'active' and not instruction:
        return DiagnosticStatus.OK, f'{state}, waiting for an instruction'
    return DiagnosticStatus.OK, state


class Statistics:
    """Counters and latencies; filled by the node's threads and read by its timer.

    Attributes:
        counts: Counters by name, since the node was configured.
    """

    COUNTS = (
        'images_received',
        'images_lost',
        'images_dropped',
        'images_stale',
        'images_rejected',
        'instructions_rejected',
        'output_errors',
        'engine_errors',
        'internal_errors',
        'actions',
        'actions_late',
        'out_of_range_tokens',
    )
    ERRORS = (
        'images_stale',
        'images_rejected',
        'instructions_rejected',
        'output_errors',
        'engine_errors',
        'internal_errors',
        'actions_late',
    )

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._latencies: dict[str, deque[float]] = {p: deque(maxlen=_WINDOW) for p in PARTS}
        self._last = (time.monotonic(), Counter())

    def count(self, name: str, amount: int = 1, reason: str = '') -> None:
        """Add to one of COUNTS; a reason stands behind its number in the next status."""
        with self._lock:
            self.counts[name] += amount
            self._reasons[name] = reason

    def time(self, timings: Timings) -> None:
        """Add a prediction's timings [s]."""
        with self._lock:
            for part in PARTS:
                self._latencies[part].append(timings[part])

    def status(
        self, name: str, level: bytes, message: str, facts: dict[str, str]
    ) -> DiagnosticStatus:
        """Make the status: rate and errors since the last call, latencies of recent steps.

        Args:
            name: Name of the node.
            level: A level of DiagnosticStatus; raised to WARN by errors since the last call.
            message: State of the node in words.
            facts: Further values to report; 'device' must be among them.
        """
        with self._lock:
            now, counts, reasons = time.monotonic(), self.counts.copy(), self._reasons.copy()
            latencies = {part: np.array(values) for part, values in self._latencies.items()}
            before, old = self._last
            self._last = now, counts
        elapsed = max(now - before, 1e-9)
        fresh = counts - old
        lost, came = fresh['images_lost'], fresh['images_received']
        shown = [key for key in self.ERRORS if fresh[key]]
        shown += ['images_lost'] if lost > _TOLERATED * (lost + came) else []
        for key in shown:
            level = max(level, DiagnosticStatus.WARN)
            message += f', {fresh[key]} {key}'
            message += f' ({reasons[key]})' if reasons.get(key) else ''
        values = {
            **facts,
            'rate [Hz]': f'{(counts["actions"] - old["actions"]) / elapsed:.2f}',
            **{key: str(counts[key]) for key in self.COUNTS},
        }
        for part, seconds in latencies.items():
            for percent in (50, 95) if len(seconds) else ():
                values[f'{part} p{percent} [ms]'] = f'{1e3 * np.percentile(seconds, percent):.2f}'
        return DiagnosticStatus(
            level=level,
            name=f'{name}: policy',
            message=message,
            hardware_id=facts['device'],
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
