"""The motion gate: what must hold before a step may move an arm. It is pure and keeps no robot.

An action passes three times: its facts, its steps, and where each step would lead. What moves
afterwards passes safety/governor.py at every tick.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
from scipy.spatial.transform import Rotation

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.safety.limits import GateSettings
from trt_openvla_ros.safety.rules import RULES
from trt_openvla_ros.safety.space import shorten, Space
from trt_openvla_ros.safety.verdicts import Docket, Verdict

_CLIP, _HOLD, _STOP, _PASS = Verdict.CLIP, Verdict.HOLD, Verdict.STOP, Verdict.PASS
EARLY = 0.05  # [s] that clocks of two machines may differ
_BISECTIONS = 20


@dataclass(frozen=True)
class Facts:
    """What is known of an action without looking at its numbers.

    Attributes:
        wrong: Which of its numbers or ages cannot be used, as a sentence; '' if all can.
        frame, wanted_frame: Frame of its steps, and the one that its meaning needs.
        unknown: What of its meaning is unknown, as a sentence; '' if all is known.
        forced: Forced tokens.
        sequence, last_sequence: Its number, and that of the action before.
        image_age, action_age: Ages when it arrived [s].
        rate, highest_rate: Actions in the last second, this one included, and the most [Hz].
    """

    wrong: str
    frame: str
    wanted_frame: str
    unknown: str
    forced: int
    sequence: int
    last_sequence: int
    image_age: float
    action_age: float
    rate: float
    highest_rate: float


class MotionGate:
    """The rules about actions, with what they said."""

    def __init__(self, settings: GateSettings) -> None:
        """Take the limits.

        Raises:
            ConfigError: A box or an axis is impossible.
        """
        self._limits = settings
        self.space = Space(settings)
        self.docket = Docket(RULES)
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._errors = 0

    def forget(self) -> None:
        """Forget the step before: after a hold, none is a jump."""
        self._last = None

    def admits(self, facts: Facts) -> bool:
        """Judge all that is known of an action; the first rule that refuses ends it."""
        limits, ask, note = self._limits, self.docket.ask, self.docket.note
        frames = facts.frame == facts.wanted_frame != ''
        newer = facts.sequence > facts.last_sequence
        return (
            note(
                'finite',
                _HOLD if facts.wrong else _PASS,
                reason=facts.wrong,
            )
            and note(
                'frame',
                _PASS if frames else _HOLD,
                reason=f'the action is in {facts.frame!r}, and {facts.wanted_frame!r} is needed; '
                "set base_frame or tool_frame, or the policy node's action_frame",
            )
            and note('meaning', _HOLD if facts.unknown else _PASS, reason=facts.unknown)
            and ask(
                'forced_tokens',
                facts.forced,
                limits.max_forced_tokens,
                _HOLD,
                f'{facts.forced} tokens of the action were forced',
            )
            and note(
                'sequence',
                _PASS if newer else _HOLD,
                facts.sequence,
                facts.last_sequence,
                f'action {facts.sequence} came after action {facts.last_sequence}',
            )
            and self._is_recent('image_age', facts.image_age, limits.max_image_age)
            and self._is_recent('action_age', facts.action_age, limits.max_action_age)
            and ask(
                'action_rate',
                facts.rate,
                facts.highest_rate,
                _HOLD,
                f'{facts.rate:g} actions came in one second',
            )
        )

    def _is_recent(self, rule: str, age: float, limit: float) -> bool:
        what = rule.replace('_age', '')
        if age < -EARLY:
            reason = f'the stamp of the {what} lies {-age:.3f} s in the future; compare the clocks'
            return self.docket.note(rule, _HOLD, age, -EARLY, reason)
        return self.docket.ask(rule, age, limit, _HOLD, f'the {what} is {age:.3f} s old')

    def shorten(
        self, translation: np.ndarray, turn: np.ndarray, period: float
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Fit one step to the limits of length, angle, speed and jump.

        Args:
            translation: [3] m.
            turn: [3] rad, rotation vector.
            period: Time for the step [s].

        Returns:
            Both within the limits, in their directions; None if the step jumps.
        """
        limits = self._limits
        last, self._last = self._last, (translation, turn)  # as the policy asked for them
        if last is not None:
            # Both are asked, so that a report shows both.
            jumps = [
                self._is_near('jump', translation - last[0], limits.max_jump),
                self._is_near('jump_angle', turn - last[1], limits.max_jump_angle),
            ]
            if not all(jumps):
                return None
        translation = self._clip('step', translation, limits.max_step)
        translation = self._clip('speed', translation / period, limits.max_speed) * period
        turn = self._clip('step_angle', turn, limits.max_step_angle)
        turn = self._clip('angular_speed', turn / period, limits.max_angular_speed) * period
        return translation, turn

    def _clip(self, rule: str, vector: np.ndarray, limit: float) -> np.ndarray:
        length = float(np.linalg.norm(vector))
        reason = f'{rule.replace("_", " ")} of {length:.3f} shortened to {limit:g}'
        fits = self.docket.ask(rule, length, limit, _CLIP, reason)
        return vector if fits else vector * (limit / length)

    def _is_near(self, rule: str, difference: np.ndarray, limit: float) -> bool:
        length = float(np.linalg.norm(difference))
        reason = f'the step differs from the last by {length:.3f}'
        return self.docket.ask(rule, length, limit or math.inf, _HOLD, reason)

    def place(self, start: Pose, target: Pose) -> Pose | None:
        """Move a target to where the end effector may be.

        Args:
            start: Pose before the step, where it may be.
            target: Pose that the step leads to.

        Returns:
            The nearest position in the workspace, turned as far as the cone allows; None if a
            keep-out box is on the way.
        """
        space = self.space
        position = space.workspace.nearest(target.position)
        outside = float(np.linalg.norm(target.position - position))
        reason = f'the target was moved by {outside:.3f} m, because '
        reason += space.workspace.why_outside(target.position)
        self.docket.ask('workspace', outside, 0.0, _CLIP, reason)
        number = space.crossed(start.position, position)
        if not self.docket.ask(
            'keep_out', number, 0, _HOLD, f'keep-out box {number} is on the way to the target'
        ):
            return None
        return Pose(position, self._turn(start, target))

    def _turn(self, start: Pose, target: Pose) -> Rotation:
        cone, turn = self.space.cone, start.step_to(target)[1]
        tilt = cone.tilt(target) if cone.exists else 0.0
        if cone.has_turn(start, turn):
            self.docket.note('tilt', _PASS, tilt, self._limits.max_tilt)
            return target.rotation
        self.docket.note(
            'tilt',
            _CLIP,
            tilt,
            self._limits.max_tilt,
            'the tool would tilt too far; it turns less',
        )
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if cone.has_turn(start, middle * turn) else (low, middle)
        return start.moved(np.zeros(3), low * turn).rotation

    def is_near(self, pose: Pose, measured: Pose) -> bool:
        """Tell whether a pose is within twice the leash; farther, the measured one is doubtful."""
        distance, angle = pose.distance(measured)
        return distance <= 2 * self._limits.leash and angle <= 2 * self._limits.leash_angle

    def leash(self, pose: Pose, measured: Pose, *, stops: bool) -> bool:
        """Judge how far a command or target is from the arm; tell whether it is near enough.

        Args:
            pose: The command, or the target that the next step starts from.
            measured: Measured pose.
            stops: Whether twice the limit is a STOP, which then stands in the docket.
        """
        limits = self._limits
        distance, angle = pose.distance(measured)
        near = True
        for rule, value, limit, unit in (
            ('leash', distance, limits.leash, 'm'),
            ('leash_angle', angle, limits.leash_angle, 'rad'),
        ):
            verdict = _STOP if stops and value > 2 * limit else _CLIP
            reason = f'the command is {value:.3f} {unit} away from the arm'
            near &= self.docket.ask(rule, value, limit, verdict, reason)
        return near

    def within_leash(self, wanted: Pose, measured: Pose) -> Pose:
        """Give the pose nearest to a wanted one that the leash allows."""
        translation, turn = measured.step_to(wanted)
        limits = self._limits
        return measured.moved(
            shorten(translation, limits.leash), shorten(turn, limits.leash_angle)
        )

    def refuse(self) -> bool:
        """Count a refused action; tell whether there were too many in a row."""
        self._errors += 1
        most = self._limits.max_errors
        reason = f'{self._errors} actions in a row were refused: {self.docket.worst.reason}'
        return not self.docket.ask('errors', self._errors, most or math.inf, _STOP, reason)

    def accept(self) -> None:
        """Count no errors any more."""
        self._errors = 0
