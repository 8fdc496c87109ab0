"""A judge of recordings, who was not there and believes nobody: neither gate nor bridge."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from faults.recording import Command, moves, Recording

_JITTER = 0.05  # [s] between two processes' readings of a clock on a machine that is busy


@dataclass(frozen=True)
class Limits:
    """Limits of the robot node under test, by the names of its parameters [s, m, m/s, rad/s].

    Attributes:
        settle: Time that a command may take to come to rest [s]: the ramp, and for poses the way
            back from the end of the leash.
        by_stamps: Whether ages are by header.stamp; else by arrival, where stamps jump.
    """

    max_speed: float
    max_angular_speed: float
    max_image_age: float
    max_action_age: float
    max_pose_age: float
    action_timeout: float
    rate: float
    workspace: tuple[float, ...]
    settle: float
    by_stamps: bool = True

    @property
    def late(self) -> float:
        """Time after a limit at which a command may still move [s]: one period, and the ramp."""
        return 1.0 / self.rate + self.settle + _JITTER


class Violation(NamedTuple):
    """What must not be: arrival [s], the rule, what was measured, and its limit."""

    at: float
    rule: str
    value: float
    limit: float


def judge(seen: Recording, limits: Limits) -> list[Violation]:
    """Find every command that must not have been.

    Rules: `finite`, `speed`, `angular_speed` and `workspace` of each command; `action_age`,
    `image_age` and `pose_age` of what stands behind each that moves; `stopped`: none moves after
    a stop before somebody enables motion; `enabled`: no state ends a stop but by that.
    """
    found = []
    moving = moves(seen.commands, seen.enabled)
    before: Command | None = None
    for command, goes in zip(seen.commands, moving, strict=True):
        found += _judge_numbers(command, before if goes else None, limits)
        before = command
    found += _judge_ages(seen, moving, limits)
    return sorted(found + _judge_states(seen, moving, limits))


def _judge_numbers(command: Command, before: Command | None, limits: Limits) -> list[Violation]:
    numbers = np.array(command.numbers)
    if not np.isfinite(numbers).all():
        return [Violation(command.at, 'finite', float('nan'), 0.0)]
    if len(numbers) == 6:
        speeds = np.linalg.norm(numbers[:3]), np.linalg.norm(numbers[3:])
        found = []
    else:
        low, high = np.reshape(limits.workspace, (2, 3))
        outside = float(max((low - numbers[:3]).max(), (numbers[:3] - high).max()))
        found = [Violation(command.at, 'workspace', outside, 0.0)] if outside > 1e-6 else []
        speeds = _speeds(command, before, limits) if before else (0.0, 0.0)
    names = ('speed', limits.max_speed), ('angular_speed', limits.max_angular_speed)
    for (rule, limit), speed in zip(names, speeds, strict=True):
        if speed > limit * (1.0 + 1e-6):
            found.append(Violation(command.at, rule, float(speed), limit))
    return found


def _speeds(command: Command, before: Command, limits: Limits) -> tuple[float, float]:
    """Give [m/s] and [rad/s] between two poses, by the longest time that lies between them."""
    gap = _time(command, limits) - _time(before, limits)
    seconds = max(gap, 1.0 / limits.rate) + _JITTER
    numbers, old = np.array(command.numbers), np.array(before.numbers)
    turn = 2.0 * np.arccos(min(1.0, abs(float(numbers[3:] @ old[3:]))))
    return float(np.linalg.norm(numbers[:3] - old[:3])) / seconds, turn / seconds


def _judge_ages(seen: Recording, moving: np.ndarray, limits: Limits) -> list[Violation]:
    actions = seen.actions
    published = [a.published if limits.by_stamps else a.at for a in actions]
    images = [a.image if limits.by_stamps else _image_at(seen, a.image, a.at) for a in actions]
    poses = [p.stamp if limits.by_stamps else p.at for p in seen.poses]
    # An action may be that old when it arrives, and is followed from then on.
    silence = limits.action_timeout + limits.max_action_age
    found = []
    for command, goes in zip(seen.commands, moving, strict=True):
        if not goes:
            continue
        now = _time(command, limits)
        # What is newest may have reached the robot node first and this recording later.
        number = bisect_right(published, now + _JITTER) - 1
        pose = bisect_right(poses, now + _JITTER) - 1
        ages = (
            ('action_age', now - published[number] if number >= 0 else np.inf, silence),
            ('image_age', now - images[number] if number >= 0 else np.inf, limits.max_image_age),
            ('pose_age', now - poses[pose] if pose >= 0 else np.inf, limits.max_pose_age),
        )
        found += [
            Violation(command.at, rule, float(age), limit)
            for rule, age, limit in ages
            if age > limit + limits.late
        ]
    return found


def _judge_states(seen: Recording, moving: np.ndarray, limits: Limits) -> list[Violation]:
    found, begun = [], None  # when the present stop was said
    reports = sorted(seen.reports, key=lambda r: r.at)
    enabled = seen.enabled
    stops: list[tuple[float, float]] = []  # from, until [s]
    for report in reports:
        bound = report.state in ('stopped', 'disabled')
        if bound and begun is None:
            begun = report.at
        elif not bound and begun is not None:
            asked = any(begun - _JITTER <= at <= report.at for at in enabled)
            if not asked:
                found.append(Violation(report.at, 'enabled', report.at - begun, 0.0))
            stops.append((begun, report.at))
            begun = None
    if begun is not None:
        stops.append((begun, np.inf))
    for command, goes in zip(seen.commands, moving, strict=True):
        for since, until in stops:
            last = min(until, *[at for at in enabled if at > since], np.inf)
            if goes and since + limits.late < command.at < last:
                found.append(Violation(command.at, 'stopped', command.at - since, limits.late))
    return found


def time_to_hold(seen: Recording, fault: float, until: float) -> float | None:
    """Give the time from a fault to the first command that holds, with all after it [s].

    Args:
        seen: The recording.
        fault: When it began, by the steady clock [s].
        until: What comes later is of no matter [s].

    Returns:
        The time; None if the last command moves or there is none.
    """
    moving, held = moves(seen.commands, seen.enabled), None
    for command, goes in zip(seen.commands, moving, strict=True):
        if fault <= command.at <= until:
            if goes:
                held = None
            elif held is None:
                held = command.at
    return None if held is None else held - fault


def time_to_say(seen: Recording, fault: float, until: float) -> float | None:
    """Give the time from a fault to the first report that is not 'moving' [s]; None without."""
    for report in seen.reports:
        if fault <= report.at <= until and report.state != 'moving':
            return report.at - fault
    return None


def reason_of(seen: Recording, fault: float, until: float) -> str:
    """Give the reason in the first report after a fault that is not 'moving'; '' without."""
    for report in seen.reports:
        if fault <= report.at <= until and report.state != 'moving':
            return report.reason
    return ''


def longest_gap(seen: Recording, begin: float, end: float) -> float:
    """Give the longest time without a command between two times [s]."""
    times = [c.at for c in seen.commands if begin <= c.at <= end]
    return float(np.diff([begin, *times, end]).max())


def travel(seen: Recording, begin: float, end: float) -> tuple[float, float]:
    """Tell how far the hand moved [m], and for how long it went on [s], between two times."""
    hands = [h for h in seen.hands if begin <= h.at <= end]
    if len(hands) < 2:
        return 0.0, 0.0
    places = np.array([h.position for h in hands])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    gone = np.flatnonzero(steps > 1e-4)
    return float(steps.sum()), float(hands[gone[-1] + 1].at - begin) if len(gone) else 0.0


def _image_at(seen: Recording, stamp: float, at: float) -> float:
    """Give the arrival of an action's image; that of the action itself where it was not seen."""
    return seen.images.get(stamp, at)


def _time(command: Command, limits: Limits) -> float:
    return command.stamp if limits.by_stamps else command.at
