"""Whether the arm follows the command: near enough, and at all."""

from __future__ import annotations

import numpy as np

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.safety.governor import Governor
from trt_openvla_ros.safety.limits import GateSettings
from trt_openvla_ros.safety.motion_gate import MotionGate
from trt_openvla_ros.safety.verdicts import Verdict

_CHANGE = 1e-6  # [m] and [rad]; encoders and solvers of an arm that moves change by more


class Following:
    """Compares command and measured pose, and adds up the command's way while that stands still.

    A driver that repeats an old pose with new stamps looks fresh. The leash does not see it: each
    step starts from that pose, and the command never gets far from it, while the arm moves on. A
    twist moves it even while the commanded pose waits at the end of the leash. No hold between
    two actions ends the sum, only a pose that changes.
    """

    def __init__(self, settings: GateSettings, gate: MotionGate) -> None:
        """Know nothing yet."""
        self._settings, self._gate, self._docket = settings, gate, gate.docket
        self.forget()

    def forget(self) -> None:
        """Begin anew: motion was enabled."""
        self._measured: Pose | None = None
        self._command: Pose | None = None
        self._way = self._angle = 0.0

    def is_torn(self, command: Pose, measured: Pose) -> bool:
        """Judge the leash; tell whether the arm is farther from the command than twice of it."""
        self._gate.leash(command, measured, stops=True)
        rulings = self._docket.rulings
        return any(r.verdict is Verdict.STOP for r in rulings if r.rule.startswith('leash'))

    def is_left(self, governor: Governor, measured: Pose | None) -> bool:
        """Tell, without judging, whether a command is as far from where the arm is now.

        Not before its twist has died away: the last one that is sent must be zero.
        """
        if governor.pose is None or measured is None or governor.twist.any():
            return False
        return not self._gate.is_near(governor.pose, measured)

    def why_not(self, measured: Pose | None, governor: Governor) -> str:
        """Give '' or the reason why the arm does not seem to follow.

        Args:
            measured: Measured pose, if it is fresh.
            governor: What was commanded in the last tick.
        """
        if measured is None:
            return ''
        command = governor.pose
        changed = self._measured is None or max(self._measured.distance(measured)) > _CHANGE
        if changed or self._command is None:
            self._measured, self._way, self._angle = measured, 0.0, 0.0
        else:
            way, angle = self._command.distance(command)
            self._way += max(way, governor.seconds * float(np.linalg.norm(governor.twist[:3])))
            self._angle += max(angle, governor.seconds * float(np.linalg.norm(governor.twist[3:])))
        self._command = command
        for rule, value, leash, unit in (
            ('leash', self._way, self._settings.leash, 'm'),
            ('leash_angle', self._angle, self._settings.leash_angle, 'rad'),
        ):
            if value > 2.0 * leash:
                reason = (
                    f'the measured pose stands still, while the command went {value:.3f} {unit}: '
                    'its driver is stuck, or the arm is'
                )
                self._docket.note(rule, Verdict.STOP, value, 2.0 * leash, reason)
                return reason
        return ''
