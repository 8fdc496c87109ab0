"""What the bridge heard, and when: measured pose, deadman, instruction and controller.

Each has a limit, beyond which the robot must hold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.history import History
from trt_openvla_ros.robot.settings import BridgeSettings
from trt_openvla_ros.safety.motion_gate import EARLY
from trt_openvla_ros.safety.verdicts import Docket, Verdict

_FAR = 1e6  # [m]


class Fault(NamedTuple):
    """A reason to hold.

    Attributes:
        rule: Rule that says so.
        reason: A sentence.
        meant: Whether somebody wanted it; else it becomes a stop if it lasts.
    """

    rule: str
    reason: str
    meant: bool = False


class Senses:
    """The inputs beside the actions.

    Attributes:
        measured: Newest measured pose; None without one.
        poses: Measured poses by time.
    """

    def __init__(self, settings: BridgeSettings, docket: Docket) -> None:
        """Begin without any."""
        self._settings, self._docket = settings, docket
        self.poses = History(settings.max_image_age + 0.5)
        self._instruction: str | None = None
        self.forget()

    def forget(self) -> None:
        """Forget all that has a time, because the clock went back."""
        self.poses.clear()
        self.measured: Pose | None = None
        self._measured_at = -math.inf
        self._no_pose = ''
        self._pressed, self._pressed_at = False, -math.inf
        self._trouble, self._controller_at = '', -math.inf

    def hear_pose(self, pose: Pose, age: float, frame: str, now: float) -> None:
        """Take a measured pose, unless it is of no use."""
        wanted = self._settings.base_frame
        if frame != wanted:
            self._no_pose = f'the pose is in {frame!r}, and base_frame is {wanted!r}'
        elif not (pose.is_finite and abs(pose.position).max() < _FAR and math.isfinite(age)):
            self._no_pose = 'the pose is not finite, or a thousand kilometres away'
        elif age < -EARLY:
            self._no_pose = f'the stamp of the pose lies {-age:.3f} s in the future'
        else:
            self._no_pose = ''
            time = now - max(age, 0.0)
            if time >= self._measured_at:
                self.measured, self._measured_at = pose, time
            self.poses.note(time, pose)

    def hear_deadman(self, pressed: bool, now: float) -> None:
        """Take the state of the deadman's switch."""
        self._pressed = pressed
        self._pressed_at = now if pressed else -math.inf

    def hear_instruction(self, text: str) -> bool:
        """Take the instruction; tell whether it changed."""
        changed, self._instruction = text != self._instruction, text
        return changed

    def hear_controller(self, reason: str, now: float) -> None:
        """Take why the controller cannot move, or '' if it can."""
        self._trouble, self._controller_at = reason, now

    def pose_age(self, now: float) -> float:
        """Age of the measured pose [s]; -1 without one."""
        return now - self._measured_at if self.measured is not None else -1.0

    def is_fresh(self, now: float) -> bool:
        """Whether the measured pose is new enough."""
        return 0.0 <= self.pose_age(now) <= self._settings.max_pose_age

    def faults(self, now: float) -> list[Fault]:
        """Ask all rules about these inputs, and give the reasons to hold."""
        asked = [
            self._ask_deadman(now),
            self._ask_instruction(),
            self._ask_controller(now),
            self._ask_pose(now),
        ]
        return [fault for fault in asked if fault]

    def _ask_deadman(self, now: float) -> Fault | None:
        limit = self._settings.deadman_timeout
        if not limit:
            return None
        silence = now - self._pressed_at if self._pressed else -1.0
        reason = 'the deadman is not pressed'
        if self._pressed and silence > limit:
            reason = f'the deadman was not heard for {silence:.3f} s'
        return self._judge('deadman', 0.0 <= silence <= limit, silence, limit, reason)

    def _ask_instruction(self) -> Fault | None:
        blank = self._instruction is not None and not self._instruction.strip()
        return self._judge('instruction', not blank, 0.0, 0.0, 'the instruction is blank')

    def _ask_controller(self, now: float) -> Fault | None:
        limit, reason = self._settings.controller_timeout, self._trouble
        silence = now - self._controller_at if math.isfinite(self._controller_at) else -1.0
        late = bool(limit) and not 0.0 <= silence <= limit
        if late and not reason:
            reason = 'the controller was not heard'
            reason += f' for {silence:.3f} s' if silence >= 0.0 else ''
        return self._judge('controller', not reason, silence, limit, reason)

    def _ask_pose(self, now: float) -> Fault | None:
        age, limit = self.pose_age(now), self._settings.max_pose_age
        reason = f'the pose is {age:.3f} s old' if age >= 0.0 else 'no pose was heard'
        reason = f'{reason}: {self._no_pose}' if self._no_pose else reason
        return self._judge('pose_age', self.is_fresh(now), age, limit, reason)

    def _judge(
        self, rule: str, fits: bool, value: float, limit: float, reason: str
    ) -> Fault | None:
        if self._docket.note(
            rule, Verdict.PASS if fits else Verdict.HOLD, value, limit, '' if fits else reason
        ):
            return None
        meant = rule == 'instruction' or (rule == 'deadman' and not self._pressed)
        return Fault(rule, reason, meant)
