"""The bridge: actions and measured poses in, one checked command out at each tick.

All times are seconds of one steady clock, which the caller reads: `now`. The states:

    disabled ── enable ──► holding ◄──► moving          holding, moving ── stop ──► stopped
        ▲                     └── disable, from any state                  (until enable)
"""

from __future__ import annotations

from collections import deque
import math

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.exchange import (
    Command,
    DISABLED,
    HOLDING,
    IncomingAction,
    MOVING,
    Report,
    STOPPED,
)
from trt_openvla_ros.robot.following import Following
from trt_openvla_ros.robot.motion import Motion
from trt_openvla_ros.robot.planner import Planner
from trt_openvla_ros.robot.senses import Fault, Senses
from trt_openvla_ros.robot.settings import BridgeSettings
from trt_openvla_ros.safety.motion_gate import MotionGate
from trt_openvla_ros.safety.verdicts import Verdict

_JITTER = 0.05  # [s] by which two callers' readings of the clock may be out of order
_WAITING = 'waiting for an action'


class Bridge:
    """The state machine between actions and a controller. It is not thread-safe."""

    def __init__(self, settings: BridgeSettings) -> None:
        """Begin disabled.

        Raises:
            ConfigError: A setting contradicts another: a box whose low and high are swapped, an
                axis of length 0, or gripper_close_below above gripper_open_above.
        """
        self._settings = settings
        self._gate = MotionGate(settings)
        self._docket = self._gate.docket
        self._motion = Motion(settings, self._gate)
        self._senses = Senses(settings, self._docket)
        self._planner = Planner(settings, self._gate)
        self._following = Following(settings, self._gate)
        # The last is the rule of the fault that holds the robot now.
        self._state, self._reason, self._fault = DISABLED, 'motion was not enabled yet', ''
        self._now = self._ticked = -math.inf
        self._sequence, self._verdict = 0, Verdict.PASS
        self._arrivals: deque[float] = deque(maxlen=4096)
        self._image_at = -math.inf  # of the newest action
        self._lasts_until = -math.inf  # begin of the last step of the action that passed
        self._interruption: tuple[float, Fault] | None = None

    # What is heard.

    def hear_pose(self, pose: Pose, age: float, frame: str, now: float) -> None:
        """Take a measured pose of the end effector.

        Args:
            pose: The pose; see Pose.of, which refuses what is none.
            age: Its age by its stamp [s].
            frame: Its frame, which must be base_frame.
            now: Time [s].
        """
        if self._pass_time(now):
            self._senses.hear_pose(pose, age, frame, self._now)

    def hear_instruction(self, text: str, now: float) -> None:
        """Hold at once if the text is blank, and until it no longer is."""
        self._pass_time(now)
        if self._senses.hear_instruction(text):
            self._interruption = None
        self._check_senses()

    def hear_deadman(self, pressed: bool, now: float) -> None:
        """Take the state of the deadman's switch; nothing moves unless it is pressed."""
        if self._pass_time(now):
            self._senses.hear_deadman(pressed, self._now)
            self._check_senses()

    def hear_controller(self, reason: str, now: float) -> None:
        """Take the status of the controller: '' if it is well, else why the robot must hold."""
        if self._pass_time(now):
            self._senses.hear_controller(reason, self._now)
            self._check_senses()

    def hear_action(self, action: IncomingAction, now: float) -> Report:
        """Judge an action, and execute it from the next tick on if the gate lets it pass."""
        self._pass_time(now)
        now = self._now
        self._docket.begin()
        before, self._sequence = self._sequence, action.sequence
        self._image_at = now - action.image_age if math.isfinite(action.image_age) else -math.inf
        self._arrivals.append(now)
        while self._arrivals and not now - 1.0 <= self._arrivals[0] <= now:
            self._arrivals.popleft()
        if not self._is_enabled:
            reason = f'motion is {self._state}: {self._reason}'
            self._docket.note('enabled', Verdict.HOLD, reason=reason)
        elif not (self._check_senses() or self._check_leash()):
            self._judge(action, before)
        self._verdict = self._docket.worst.verdict
        return self.report(now)

    def _judge(self, action: IncomingAction, before: int) -> None:
        plan = self._planner.plan(
            action,
            before,
            len(self._arrivals),
            self._motion.pose,
            (self._motion.targets, self._senses.poses),
            self._now,
        )
        if plan is None:
            why = f'action {action.sequence} was refused: {self._docket.worst.reason}'
            self._hold(Fault('policy', why))
            self._gate.forget()  # a step that was refused is no last one
            if self._gate.refuse():
                self._stop(self._docket.worst.reason)
            return
        self._gate.accept()
        self._motion.go(plan, self._now)
        self._lasts_until = self._now + (len(plan.targets) - 1) * plan.period
        self._interruption = None
        self._state, self._reason, self._fault = MOVING, '', ''

    # What people ask for.

    def enable(self, now: float) -> str:
        """Enable motion, also after a stop; return '' or the reason why it is refused."""
        if not self._pass_time(now):
            return 'the clock jumped; try again'
        if self._is_enabled:
            return ''
        for fault in self._senses.faults(self._now):
            if fault.rule != 'instruction':
                return fault.reason
        if reason := self._gate.space.why_not(self._senses.measured):
            return f'the end effector must not be where it is: {reason}'
        if self._motion.pose is None:
            self._motion.start(self._senses.measured, self._now)
        elif self._following.is_torn(self._motion.pose, self._senses.measured):
            return 'the pose that is held is too far from the arm; disable, and enable again'
        self._gate.accept()
        self._following.forget()
        self._docket.note('enabled', Verdict.PASS)
        self._interruption = None
        self._state, self._reason, self._fault = HOLDING, _WAITING, ''
        return ''

    def disable(self, reason: str, now: float) -> None:
        """Command nothing until enabled."""
        self._pass_time(now)
        self._motion.forget()
        self._state, self._reason, self._interruption = DISABLED, reason, None

    def stop(self, reason: str, now: float) -> None:
        """Hold the pose until enabled again."""
        self._pass_time(now)
        self._stop(reason)

    # What is commanded.

    def tick(self, now: float) -> Command:
        """Watch all inputs, and give the command for now; call it at 50 Hz or faster."""
        self._pass_time(now)
        now = self._now
        gap, self._ticked = now - self._ticked, now
        gap = gap if math.isfinite(gap) else 0.0
        if self._is_enabled:
            self._watch(gap)
        elif self._following.is_left(self._motion.governor, self._measured):
            # Somebody moved the arm, or it ran away: a controller must not pull it back.
            self._motion.forget()
            self._reason += '; the arm is far from the pose that was held: nothing is commanded'
        if self._motion.pose is not None:
            self._motion.move(self._measured, self._senses.pose_age(now), now, gap)
        gripper = self._motion.gripper
        return Command(
            state=self._state,
            reason=self._reason,
            pose=self._motion.pose,
            twist=self._motion.governor.twist,
            opening=gripper.opening,
            gripper_goal=gripper.goal,
            gripper_changes=gripper.changes,
            target=self._motion.target(now),
            report=self.report(now),
        )

    # What ends a motion.

    @property
    def _is_enabled(self) -> bool:
        return self._state in (HOLDING, MOVING)

    @property
    def _measured(self) -> Pose | None:
        """The measured pose, if it is fresh."""
        return self._senses.measured if self._senses.is_fresh(self._now) else None

    def _pass_time(self, now: float) -> bool:
        """Set the clock on; if it went back, or is none, forget all times, hold, and say False."""
        if now >= self._now - _JITTER and math.isfinite(now):
            self._now = max(now, self._now)
            return True
        reason = f'the clock went from {self._now:.3f} to {now:.3f} s'
        self._docket.note('clock', Verdict.HOLD, now - self._now, 0.0, reason)
        self._now = now if math.isfinite(now) else self._now
        self._senses.forget()
        self._arrivals.clear()
        self._image_at = self._lasts_until = self._ticked = -math.inf
        self._motion.targets.clear()
        if self._is_enabled:
            self._hold(Fault('clock', reason))
        if self._motion.pose is not None:
            self._motion.rest(None, self._now)
        self._interruption = None
        return False

    def _check_senses(self) -> bool:
        """Hold if the inputs say so; tell whether they do."""
        faults = self._senses.faults(self._now) if self._is_enabled else []
        if faults:
            self._hold(faults[0])
            self._fault = faults[0].rule
        elif self._fault and self._state == HOLDING:
            self._reason, self._fault = _WAITING, ''
        return bool(faults)

    def _check_leash(self) -> bool:
        """Stop if the arm is far from the command; tell whether it is."""
        measured = self._measured
        if measured is None or not self._following.is_torn(self._motion.pose, measured):
            return False
        self._stop('the arm does not follow the command, or was moved: twice the leash')
        return True

    def _watch(self, gap: float) -> None:
        limits, ask = self._settings, self._docket.ask
        reason = f'the watchdog did not run for {gap:.3f} s'
        if not ask('clock', gap, limits.max_tick_gap, Verdict.HOLD, reason):
            self._hold(Fault('clock', reason))
        self._check_senses()
        if self._state == MOVING:
            for rule, since, limit, what in (
                ('policy', self._lasts_until, limits.action_timeout, 'no action passed for'),
                ('image_age', self._image_at, limits.max_image_age, 'the age of the image is'),
            ):
                age = self._now - since
                reason = f'{what} {age:.3f} s'
                if not ask(rule, age, limit, Verdict.HOLD, reason):
                    self._hold(Fault(rule, reason))
        self._check_leash()
        follows, governor = self._following, self._motion.governor
        if self._is_enabled and (reason := follows.why_not(self._measured, governor)):
            self._stop(reason)
        if self._interruption and limits.stop_after and self._is_enabled:
            since, fault = self._interruption
            if (lasted := self._now - since) >= limits.stop_after:
                reason = f'{fault.reason}, and nothing moved since, for {lasted:.1f} s'
                self._docket.note(fault.rule, Verdict.STOP, lasted, limits.stop_after, reason)
                self._stop(reason)

    def _hold(self, fault: Fault) -> None:
        if self._state == MOVING:
            self._interruption = self._now, fault
            self._motion.rest(self._measured, self._now)
        if fault.meant:
            self._interruption = None
        self._state, self._reason = HOLDING, fault.reason

    def _stop(self, reason: str) -> None:
        if self._state == MOVING:
            self._motion.rest(self._measured, self._now)
        self._state, self._reason = STOPPED, reason
        self._interruption = None

    def report(self, now: float) -> Report:
        """Give the present state and all rulings."""
        age = now - self._image_at
        return Report(
            state=self._state,
            reason=self._reason,
            sequence=self._sequence,
            verdict=self._verdict,
            rulings=self._docket.rulings,
            image_age=age if math.isfinite(age) else -1.0,
            pose_age=self._senses.pose_age(now),
        )
