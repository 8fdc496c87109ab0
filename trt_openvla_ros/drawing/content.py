"""What there is to show of a step, whoever it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trt_openvla_ros.contracts import MOTION
from trt_openvla_ros.drawing.marks import Colour

AXES = (*MOTION, 'grip')
VERDICTS = ('pass', 'clip', 'hold', 'stop')
_GREEN, _AMBER, _ORANGE, _RED, _GREY = (
    (80, 210, 100),
    (245, 190, 40),
    (255, 135, 45),
    (255, 85, 85),
    (160, 165, 175),
)
VERDICT_COLOURS: tuple[Colour, ...] = (_GREEN, _AMBER, _ORANGE, _RED)
STATE_COLOURS: dict[str, Colour] = {
    'moving': _GREEN,
    'holding': _ORANGE,
    'stopped': _RED,
    'disabled': _GREY,
}


def verdict_name(verdict: int) -> str:
    """Name a verdict of GateRule; a number that is none stays a number."""
    return VERDICTS[verdict] if 0 <= verdict < len(VERDICTS) else str(verdict)


@dataclass(frozen=True)
class Step:
    """One action, and what its numbers are.

    Attributes:
        action: [7] in the units below; the gripper in that of the robot.
        normalised: [7] in [-1, 1], before the statistics.
        translation_unit, rotation_unit: [m] and [rad] of one unit; 0 if nobody knows.
        gripper: 'open' if 1 is open, 'closed' if 1 is closed, else it is only a number.
        limited: Whether a limit of the policy node shortened it.
        sequence: Number of the action.
        recorded: What was recorded at that moment, to be compared with.
    """

    action: np.ndarray
    normalised: np.ndarray
    translation_unit: float = 0.0
    rotation_unit: float = 0.0
    gripper: str = 'unknown'
    limited: bool = False
    sequence: int = 0
    recorded: Step | None = None

    @property
    def numbers(self) -> list[str]:
        """The seven numbers as text: mm and mrad, or the numbers themselves in unknown units.

        One that is not finite is '-'.
        """
        units = (self.translation_unit,) * 3 + (self.rotation_unit,) * 3
        shown = [
            '-'
            if not np.isfinite(value)
            else f'{1e3 * value * unit:+.0f}'
            if unit > 0
            else f'{value:+.2f}'
            for value, unit in zip(self.action[:6], units, strict=True)
        ]
        return [*shown, self.hand]

    @property
    def hand(self) -> str:
        """What the gripper is asked for: 'open' or 'close' where that is known, else a number."""
        opening = float(self.action[6])
        if not np.isfinite(opening):
            return '-'
        if self.gripper not in ('open', 'closed') or not 0 <= opening <= 1:
            return f'{opening:.2f}'
        return 'open' if (opening > 0.5) == (self.gripper == 'open') else 'close'

    @property
    def units(self) -> str:
        """Units of the displacement and of the rotation, in words."""
        if self.translation_unit > 0 and self.rotation_unit > 0:
            return 'mm, mrad'
        known = [
            unit if value > 0 else 'unknown unit'
            for unit, value in (('mm', self.translation_unit), ('mrad', self.rotation_unit))
        ]
        return known[0] if known[0] == known[1] else ', '.join(known)


@dataclass(frozen=True)
class Rule:
    """What one rule of the motion gate says of the newest step; see GateRule."""

    name: str
    verdict: int
    value: float = 0.0
    limit: float = 0.0
    unit: str = ''
    reason: str = ''
    count: int = 0

    def __str__(self) -> str:
        """Say what was judged: 'clip linear_speed 0.31 > 0.25 m/s'."""
        sign = '>' if self.value > self.limit else '<' if self.value < self.limit else '='
        return f'{verdict_name(self.verdict)} {self.name} ' + (
            self.reason or f'{self.value:.3g} {sign} {self.limit:.3g} {self.unit}'.strip()
        )


@dataclass(frozen=True)
class Gate:
    """What the motion gate says; see GateReport."""

    state: str
    reason: str = ''
    verdict: int = 0
    rules: Sequence[Rule] = ()

    @property
    def objections(self) -> list[Rule]:
        """The rules that said something other than pass, the worst first."""
        return sorted((rule for rule in self.rules if rule.verdict), key=lambda r: -r.verdict)


@dataclass(frozen=True)
class Box:
    """A named rectangle: corners [4] px are left, top, right, bottom."""

    name: str
    corners: np.ndarray


@dataclass(frozen=True)
class Content:
    """Everything that is shown; whatever is not known is left out.

    Attributes:
        instruction: Instruction that the policy follows.
        reasoning: Parts of the reasoning by tag, in order.
        boxes: Objects that the model sees, in pixels of the picture.
        points: [N, 2] px: where the model sees the gripper now, and expects it later.
        arrow: [2, 2] px: from where the hand is to where the step leads.
        arrow_note: What there is to say of it, or why there is none, though there is a step.
        step: The newest action.
        gate: What the motion gate says.
        timings: Seconds of the parts of the step by name, 'total' among them.
        ages: Seconds since each thing by name, such as 'image'.
        stale: Names in ages that are too old.
    """

    instruction: str = ''
    reasoning: Mapping[str, str] = field(default_factory=dict)
    boxes: Sequence[Box] = ()
    points: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    arrow: np.ndarray | None = None
    arrow_note: str = ''
    step: Step | None = None
    gate: Gate | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    ages: Mapping[str, float] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()
