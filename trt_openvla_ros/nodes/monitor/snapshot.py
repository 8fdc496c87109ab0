"""What the terminal shows at one moment, as plain values."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trt_openvla_ros.drawing.content import Gate, Step

WINDOW = 5.0  # [s] over which rates are counted
DEAD = 2.0  # [s] of silence after which a topic is dead
_MOST = 10_000  # arrivals that are kept: those of 2 kHz


class Meter:
    """Counts arrivals by a steady clock [s]."""

    def __init__(self) -> None:
        """Begin without any."""
        self._times: deque[float] = deque(maxlen=_MOST)
        self._last: float | None = None

    def tick(self, now: float) -> None:
        """Count one."""
        self._times.append(now)
        self._last = now

    def rate(self, now: float) -> float:
        """Give the rate of the last while [Hz]; 0 for fewer than two arrivals in it."""
        while self._times and now - self._times[0] > WINDOW:
            self._times.popleft()
        span = self._times[-1] - self._times[0] if self._times else 0.0
        return (len(self._times) - 1) / span if span > 0 else 0.0

    def age(self, now: float) -> float | None:
        """Give the time since the last one [s]; None before the first."""
        return None if self._last is None else now - self._last


@dataclass(frozen=True)
class Line:
    """One topic.

    Attributes:
        name: Its name.
        publishers: Number of its publishers.
        rate: Messages per second [Hz].
        age: Time since the last one [s]; None before the first.
        waited: Time for which they were waited for [s].
    """

    name: str
    publishers: int
    rate: float = 0.0
    age: float | None = None
    waited: float = float('inf')

    @property
    def is_dead(self) -> bool:
        """Whether it should speak and does not: it spoke before, or somebody announces it."""
        if self.age is None:
            return self.publishers > 0 and self.waited > DEAD
        return self.age > DEAD

    @property
    def state(self) -> str:
        """Its state in words; '' if all is well."""
        if self.age is None:
            if not self.publishers:
                return 'not there'
            return 'no messages' if self.is_dead else 'waiting'
        if self.age <= DEAD:
            return ''
        return 'silent' if self.publishers else 'gone'


@dataclass(frozen=True)
class Report:
    """One status of /diagnostics: level 0 to 3, name, message, time since it came [s]."""

    level: int
    name: str
    message: str
    age: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment.

    Attributes:
        title: Namespace and time of day.
        topics: State of each topic.
        latency: p50 and p95 [ms] of the parts of a step, 'total' among them.
        image_age: Age of the newest image by its stamp [s]; None before the first.
        action_age: Age that the image of the newest action had when it was published [s].
        instruction: Instruction; '' for none.
        reasoning: Parts of the newest reasoning by tag.
        step: Newest action.
        gate: What the motion gate said last, and whether that is old.
        gate_is_old: Whether no report came for a while.
        reports: Statuses of /diagnostics.
    """

    title: str
    topics: Sequence[Line] = ()
    latency: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    image_age: float | None = None
    action_age: float | None = None
    instruction: str = ''
    reasoning: Mapping[str, str] = field(default_factory=dict)
    step: Step | None = None
    gate: Gate | None = None
    gate_is_old: bool = False
    reports: Sequence[Report] = ()
