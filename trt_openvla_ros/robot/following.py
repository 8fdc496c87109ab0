"""Whether the arm follows the command: near enough, and at all."""

from __future__ import annotations

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.safety.limits import GateSettings
from trt_openvla_ros.safety.motion_gate import MotionGate
from trt_openvla_ros.safety.verdicts import Verdict

_CHANGE = 1e-6  # [m] and [rad]; encoders and solvers of an arm that moves change by more


class Following:
    """Compares command and measured pose, and adds up the command's way while that stands still.

    A driver that repeats an old pose with new stamps looks fresh. The leash does not see it: each
    step starts from that pose, and the command never gets far from it, while the arm moves on.
    """

    def __init__(self, settings: GateSettings, gate: MotionGate) -> None:
        """Know nothing yet."""
        self._settings, self._gate, self._docket = settings, gate, gate.docket
        self.forget()

    def forget(self) -> None:
        """Begin anew, because nothing moves."""
        self._measured: Pose | None = None
        self._command: Pose | None = None
        self._way = self._angle = 0.0

    def is_torn(self, command: Pose, measured: Pose) -> bool:
        """Judge the leash; tell whether the arm is farther from the command than twice of it."""
        self._gate.leash(command, measured, stops=True)
        rulings = self._docket.rulings
        return any(r.verdict is Verdict.STOP for r in rulings if r.rule.startswith('leash'))

    def is_left(self, command: Pose | None, measured: Pose | None) -> bool:
        """Tell, without judging, whether a command is as far from where the arm is now."""
        if command is None or measured is None:
            return False
        return not self._gate.is_near(command, measured)

    def why_not(self, measured: Pose, command: Pose) -> str:
        """Give '' or the reason why the arm does not seem to follow.

        Args:
            measured: Newest measured pose.
            command: Pose that is commanded now.
        """
        changed = self._measured is None or max(self._measured.distance(measured)) > _CHANGE
        if changed or self._command is None:
            self._measured, self._way, self._angle = measured, 0.0, 0.0
        else:
            way, angle = self._command.distance(command)
            self._way, self._angle = self._way + way, self._angle + angle
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
