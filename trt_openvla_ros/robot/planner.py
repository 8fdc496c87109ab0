"""From an action to the targets that it leads to, each judged by the gate. H: steps of a chunk."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
from scipy.spatial.transform import Rotation

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.composition import compose, to_step
from trt_openvla_ros.robot.exchange import IncomingAction
from trt_openvla_ros.robot.gripper import to_opening
from trt_openvla_ros.robot.history import History
from trt_openvla_ros.robot.meaning import FIELDS, Meaning, UNKNOWN
from trt_openvla_ros.robot.settings import BridgeSettings
from trt_openvla_ros.safety.motion_gate import Facts, MotionGate
from trt_openvla_ros.safety.verdicts import Verdict

_MOST = 200  # steps of a chunk; the longest that a policy here predicts has 50
_LARGEST = 1e6  # no number of a step is larger, whatever its unit
_SLOWEST = 0.01  # [Hz] control rate; a slower one is none
_WAY_OUT = 'state it in a file, and name that in the parameter action_meanings of the policy node'


@dataclass(frozen=True)
class Plan:
    """What an action asks for, after the gate.

    Attributes:
        targets: Poses to be at after one control period, after two, and so on.
        openings: Opening of the gripper from the begin of each period, 0 closed to 1 open; None
            if the action says nothing of it.
        period: Control period [s].
    """

    targets: tuple[Pose, ...]
    openings: tuple[float | None, ...]
    period: float


class Planner:
    """Plans, by the settings of one robot."""

    def __init__(self, settings: BridgeSettings, gate: MotionGate) -> None:
        """Take the settings and the gate that judges."""
        self._settings, self._gate = settings, gate
        self._axes = Rotation.from_euler('xyz', settings.data_axes)

    def plan(
        self,
        action: IncomingAction,
        last_sequence: int,
        arrivals: int,
        start: Pose,
        histories: tuple[History, History],
        now: float,
    ) -> Plan | None:
        """Make the plan of an action.

        Args:
            action: The action.
            last_sequence: Number of the action before.
            arrivals: Actions in the last second, this one included.
            start: Pose that is commanded now.
            histories: Targets and measured poses by time; both have a newest one.
            now: Time [s].

        Returns:
            The plan; None if the gate refuses the action, as its docket says.
        """
        rate = self._settings.control_rate or action.meaning.control_rate
        if not self._gate.admits(self._facts(action, last_sequence, arrivals, rate)):
            return None
        references = self._references(action, 1 / rate, histories, now)
        if references is None:
            return None
        skipped, target, measured = references
        targets, openings = [], []
        kind = self._settings.reference or action.meaning.reference
        for number, row in enumerate(action.steps):
            step = to_step(row[:6], action.meaning, self._axes)
            step = self._gate.shorten(*step, 1 / rate)
            if step is None:
                return None
            target = compose(*step, kind, action.meaning.frame, target, measured)
            if number >= skipped:
                target = self._gate.place(start, target)
                if target is None:
                    return None
                start = target
                targets.append(target)
                openings.append(self._opening(float(row[6]), action.meaning))
            # Nobody knows where the arm will be then: it is taken to have arrived.
            measured = target
        return Plan(tuple(targets), tuple(openings), 1 / rate)

    def _facts(
        self, action: IncomingAction, last_sequence: int, arrivals: int, rate: float
    ) -> Facts:
        meaning, settings = action.meaning, self._settings
        return Facts(
            wrong=_why_wrong(action, rate),
            frame=action.frame,
            wanted_frame=settings.tool_frame
            if meaning.frame == 'end_effector'
            else settings.base_frame,
            unknown=self._why_unknown(meaning, rate),
            forced=action.out_of_range,
            sequence=action.sequence,
            last_sequence=last_sequence,
            image_age=action.image_age,
            action_age=action.age,
            rate=arrivals,
            highest_rate=settings.max_action_rate or 2 * rate + 1,
        )

    def _why_unknown(self, meaning: Meaning, rate: float) -> str:
        if not meaning.has_units:
            return f'nobody knows the metres and radians of its numbers; {_WAY_OUT}'
        reference = self._settings.reference or meaning.reference
        for field, value, way_out in (
            ('rotation', meaning.rotation, _WAY_OUT),
            ('frame', meaning.frame, _WAY_OUT),
            ('reference', reference, f'set the parameter reference, or {_WAY_OUT}'),
        ):
            known = [choice for choice in FIELDS[field].choices if choice != UNKNOWN]
            if value not in known:
                value = f'{value!r:.40} is not {" or ".join(known)}'
                return f'nobody knows its {field}: {value}; {way_out}'
        if rate < _SLOWEST:
            return f'nobody knows its control rate; set the parameter control_rate, or {_WAY_OUT}'
        return ''

    def _references(
        self, action: IncomingAction, period: float, histories: tuple[History, History], now: float
    ) -> tuple[int, Pose, Pose] | None:
        """Choose the steps to leave out, and the target and measured pose to start from."""
        targets, poses = histories
        target, measured = targets.at(math.inf), poses.at(math.inf)
        far = not self._gate.leash(target, measured, stops=False)
        skipped = 0
        if self._settings.latency_compensation:
            then = now - max(action.image_age, 0.0)
            target, measured = targets.held_at(then), poses.at(then)
            skipped = min(int(max(action.image_age, 0.0) / period), len(action.steps) - 1)
            if measured is None:
                reason = 'no measured pose is known of the time of the image'
                self._gate.docket.note('pose_age', Verdict.HOLD, action.image_age, 0.0, reason)
                return None
        return skipped, measured if far else target, measured

    def _opening(self, number: float, meaning: Meaning) -> float | None:
        opening = to_opening(number, self._settings.gripper_meaning or meaning.gripper)
        if opening is None:
            return None
        inside = min(max(opening, 0.0), 1.0)
        outside = abs(opening - inside)
        reason = f'the opening {opening:.3g} is none from 0 to 1'
        self._gate.docket.ask('gripper', outside, 0.0, Verdict.CLIP, reason)
        return inside


def _why_wrong(action: IncomingAction, rate: float) -> str:
    """Say which number of an action is none; written so that NaN fails."""
    shape, meaning = np.shape(action.steps), action.meaning
    if len(shape) != 2 or shape[1] != 7 or not 0 < shape[0] <= _MOST:
        return f'the steps of the action have shape {list(shape)}, not [1 to {_MOST}, 7]'
    if not (np.abs(action.steps) <= _LARGEST).all():
        return f'the action has a number that is not finite, or above {_LARGEST:g}'
    for what, number in (
        ('translation_unit', meaning.translation_unit),
        ('rotation_unit', meaning.rotation_unit),
        ('control rate', rate),
    ):
        if not 0.0 <= number <= _LARGEST:
            return f'the {what} of the action is {number:g}'
    for what, age in (('image', action.image_age), ('action', action.age)):
        if not math.isfinite(age):
            return f'the age of the {what} is {age:g} s'
    return ''
