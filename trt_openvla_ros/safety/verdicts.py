"""What the rules of the motion gate say: a verdict with the value that was judged, and counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum


class Verdict(IntEnum):
    """What a rule says; the numbers are those of GateRule.msg."""

    PASS = 0
    CLIP = 1
    HOLD = 2
    STOP = 3


@dataclass(frozen=True)
class Rule:
    """One rule of the gate.

    Attributes:
        name: Its name in reports.
        judges: What it judges, for the documentation.
        limits: Settings that limit it.
        unit: Unit of value and limit; '' for numbers without.
        verdict: The worst that it says.
        watches: Whether it is asked in every tick, and not only about an action.
    """

    name: str
    judges: str
    limits: tuple[str, ...]
    unit: str
    verdict: Verdict
    watches: bool = False


@dataclass(frozen=True)
class Ruling:
    """What one rule said last.

    Attributes:
        rule, unit: Name of the rule, and unit of the numbers.
        verdict: What it said.
        value, limit: Number that was judged, and its limit.
        reason: A sentence, if the verdict is not PASS.
        count: Times that it was not PASS since the docket was made: actions, or for a rule that
            watches, changes to such a verdict.
    """

    rule: str
    unit: str
    verdict: Verdict = Verdict.PASS
    value: float = 0.0
    limit: float = 0.0
    reason: str = ''
    count: int = 0


class Docket:
    """The rulings of all rules, in the order of the rules.

    Attributes:
        worst: The worst ruling since the newest action arrived.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Begin with PASS everywhere."""
        self._rules = {rule.name: rule for rule in rules}
        self._rulings = {name: Ruling(name, rule.unit) for name, rule in self._rules.items()}
        self.worst = Ruling('', '')

    @property
    def rulings(self) -> tuple[Ruling, ...]:
        """What every rule said last."""
        return tuple(self._rulings.values())

    def begin(self) -> None:
        """Forget the verdicts, and not the counts, on the action before."""
        self.worst = Ruling('', '')
        for name, rule in self._rules.items():
            if not rule.watches:
                self._rulings[name] = replace(
                    self._rulings[name], verdict=Verdict.PASS, value=0.0, limit=0.0, reason=''
                )

    def note(
        self, rule: str, verdict: Verdict, value: float = 0.0, limit: float = 0.0, reason: str = ''
    ) -> bool:
        """Note what a rule says; of one action, its worst.

        Args:
            rule: Name of the rule.
            verdict: What it says.
            value: Number that was judged.
            limit: Its limit.
            reason: A sentence, if the verdict is not PASS.

        Returns:
            Whether the robot may move all the same.
        """
        before, watches = self._rulings[rule], self._rules[rule].watches
        if watches or verdict >= before.verdict:
            bad = verdict is not Verdict.PASS
            new = before.verdict is Verdict.PASS or (watches and before.verdict is not verdict)
            self._rulings[rule] = Ruling(
                rule, before.unit, verdict, value, limit, reason, before.count + (bad and new)
            )
            if verdict > self.worst.verdict:
                self.worst = self._rulings[rule]
        return verdict < Verdict.HOLD

    def ask(self, rule: str, value: float, limit: float, verdict: Verdict, reason: str) -> bool:
        """Note PASS if a value is within a limit (NaN is not), else the verdict.

        Args:
            rule: Name of the rule.
            value: Number to judge.
            limit: Its limit.
            verdict: What the rule says of a larger one.
            reason: A sentence for that.

        Returns:
            Whether the value is within the limit.
        """
        fits = bool(value <= limit)
        self.note(rule, Verdict.PASS if fits else verdict, value, limit, '' if fits else reason)
        return fits
