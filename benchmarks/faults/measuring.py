"""One fault, again and again: how long until the robot holds, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
import random
import re
from typing import Any

import numpy as np

from faults.cases import Case, ENDS, GOES_ON, RESUMES
from faults.judge import longest_gap, reason_of, time_to_hold, time_to_say, travel, Violation
from faults.rig import Rig

_STILL = 0.5  # [s] without motion after a stop, when all is well again but nobody has enabled it
_PATIENCE = 20.0  # [s] for motion to come back by itself
_PHASE = 0.2  # [s] control period: a fault falls into any part of it


@dataclass
class Outcome:
    """One fault, once.

    Attributes:
        hold: Time to the first command that holds [s]; None if the last command moves.
        said: Time to the report of the gate that says so [s]; None if it does not.
        state: State at the end of the fault.
        gap: Longest time without a command during the fault [s].
        travel, rests: Way of the hand after the fault [m], and time until it rests [s].
        returned: Whether motion came back as designed, and not before.
        violations: What the judge found.
        reason: What the gate said first.
        detail: As Case.detail says.
    """

    hold: float | None
    said: float | None
    state: str
    gap: float
    travel: float
    rests: float
    returned: bool
    reason: str = ''
    detail: str = ''
    violations: list[Violation] = field(default_factory=list)


def strike(rig: Rig, case: Case, rng: random.Random) -> Outcome:
    """Begin an episode, let a fault happen in it and end, and judge the whole.

    Raises:
        TimeoutError: The loop cannot be brought to move, before the fault.
    """
    observer = rig.observer
    for _ in range(10):
        rig.begin()
        observer.watch(rng.uniform(0.0, _PHASE))
        if rig.is_on_its_way():
            break
    else:
        raise TimeoutError('the hand stands still whenever the fault is about to happen')
    fault = case.strike(rig)
    end = observer.watch(max(0.0, fault + case.lasts - observer.watch(0.0)))
    with observer.paused():
        seen, state = observer.seen, observer.state
        outcome = Outcome(
            time_to_hold(seen, fault, end),
            time_to_say(seen, fault, end),
            'ended' if not rig.processes.runs('robot') else state,
            longest_gap(seen, fault, end),
            *travel(seen, fault, end),
            returned=False,
            reason=reason_of(seen, fault, end),
        )
    outcome.detail = case.detail(rig)
    case.heal(rig)
    outcome.returned = _returns(rig, case)
    outcome.violations = rig.judge()
    return outcome


def _returns(rig: Rig, case: Case) -> bool:
    """Tell whether motion comes back as designed; the judge sees whether it does before."""
    observer = rig.observer
    if not case.returns:
        return True
    if case.returns == ENDS:
        observer.wait(lambda: observer.state == 'disabled', 'robot node that was started again')
    begun = observer.watch(_STILL) - _STILL
    if case.returns == GOES_ON:
        return True  # whatever the state is, the judge has seen it
    if case.returns == RESUMES:
        # The hand may be where it was told to go, and stand there, while the gate says 'moving'.
        with suppress(TimeoutError):
            observer.wait(lambda: observer.state in ('moving', 'stopped'), 'motion', _PATIENCE)
        # On a busy machine the hold may last longer than stop_after, and is a stop then.
        if observer.state != 'stopped':
            return observer.state == 'moving'
    elif not _stands_still(rig, begun):
        return False
    # Whoever was started again is heard by the robot node and by the observer at times of their
    # own; the judge must have seen what the robot node acts on. Nobody resets the scene.
    rig.wait_for_poses()
    rig.wait_for_actions()
    observer.enable()
    return bool(observer.wait(lambda: observer.state == 'moving', 'motion after ~/enable'))


def _stands_still(rig: Rig, begun: float) -> bool:
    """Tell whether nothing has moved since a time, in a state that only ~/enable ends."""
    observer = rig.observer
    with observer.paused():
        still = time_to_hold(observer.seen, begun, begun + _STILL) is not None
        quiet = all(command.at <= begun for command in observer.seen.commands)
    return observer.state in ('stopped', 'disabled') and (still or quiet)


def summarise(case: Case, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Give the row of a fault, in JSON types; times in ms."""
    holds = [o.hold for o in outcomes if o.hold is not None]
    said = [o.said for o in outcomes if o.said is not None]
    found = Counter(v.rule for o in outcomes for v in o.violations)
    return {
        'fault': case.name,
        'controller': case.setup.controller,
        'limit': case.limit,
        'limit_ms': None if case.limit_s is None else round(1e3 * case.limit_s),
        'designed': case.returns,
        'repeats': len(outcomes),
        'held': len(holds),
        'hold': _spread(holds),
        'said': _spread(said),
        'states': dict(Counter(o.state for o in outcomes)),
        'reasons': dict(Counter(re.sub(r'[0-9.]+', '#', o.reason) for o in outcomes)),
        'details': [o.detail for o in outcomes if o.detail],
        'longest_gap_ms': round(1e3 * max(o.gap for o in outcomes)),
        'hand_rests': _spread([o.rests for o in outcomes]),
        'hand_travel_mm': round(1e3 * max(o.travel for o in outcomes), 1),
        'returned': sum(o.returned for o in outcomes),
        'violations': dict(found),
        'worst': [v._asdict() for o in outcomes for v in o.violations][:3],
        'hold_s': [None if o.hold is None else round(o.hold, 4) for o in outcomes],
    }


def _spread(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {
        'p50_ms': round(1e3 * float(np.median(seconds)), 1),
        'max_ms': round(1e3 * max(seconds), 1),
    }
