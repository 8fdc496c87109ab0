"""What is being executed: the way through the targets of one action, or a pose that is held."""

from __future__ import annotations

import math

import numpy as np

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.gripper import Gripper
from trt_openvla_ros.robot.history import History
from trt_openvla_ros.robot.planner import Plan
from trt_openvla_ros.robot.settings import BridgeSettings
from trt_openvla_ros.robot.stream import Stream
from trt_openvla_ros.safety.governor import Governor
from trt_openvla_ros.safety.motion_gate import MotionGate
from trt_openvla_ros.safety.verdicts import Verdict

_NOTHING = np.zeros(3), np.zeros(3)


class Motion:
    """The command between two actions; the governor has the last word on it.

    Attributes:
        governor: What goes out.
        gripper: Openings.
        targets: Targets by time: what the next step may start from.
    """

    def __init__(self, settings: BridgeSettings, gate: MotionGate) -> None:
        """Begin without a command.

        Raises:
            ConfigError: A setting of the gripper contradicts another.
        """
        self._settings, self._gate = settings, gate
        self.governor = Governor(settings, gate.space)
        self.gripper = Gripper(settings)
        self.targets = History(settings.max_image_age + 0.5)
        self.forget()

    @property
    def pose(self) -> Pose | None:
        """The pose that is commanded; None if nothing is."""
        return self.governor.pose

    def forget(self) -> None:
        """Command nothing."""
        self.governor.forget()
        self.gripper.forget()
        self.targets.clear()
        self._held: Pose | None = None
        self._plan: Plan | None = None
        self._stream: Stream | None = None
        self._row = -1

    def start(self, pose: Pose, now: float) -> None:
        """Begin to command, at a pose where the end effector may be."""
        self.forget()
        self.governor.start(pose, now)
        self.rest_at(pose, now)

    def go(self, plan: Plan, now: float) -> None:
        """Leave the present way for that of a plan."""
        linear = self._settings.interpolation == 'linear'
        self._plan, self._row = plan, -1
        self._stream = Stream(self.pose, plan.targets, now, plan.period, linear)
        self.targets.note(now, plan.targets[0])

    def rest(self, measured: Pose | None, now: float) -> None:
        """Come to rest at the measured pose if the way to it is free, else by braking."""
        space = self._gate.space
        goes = (
            measured is not None
            and self._gate.is_near(self.pose, measured)
            and not space.why_not(measured)
            and space.has_way(self.pose.position, measured.position)
            and space.cone.has_turn(self.pose, self.pose.step_to(measured)[1])
        )
        self.rest_at(measured if goes else self.pose, now)

    def rest_at(self, pose: Pose, now: float) -> None:
        """Hold a pose; the next step starts there, and none before it counts as its jump."""
        self._plan = self._stream = None
        self._held = pose
        self.targets.note(now, pose)
        self._gate.forget()

    def target(self, now: float) -> Pose | None:
        """Give the pose that the command is on its way to."""
        return self._stream.target(now) if self._stream else self._held

    def move(self, measured: Pose | None, age: float, now: float, gap: float) -> None:
        """Make the command for now.

        Args:
            measured: Measured pose, if it is fresh.
            age: Its age [s].
            now: Time [s].
            gap: Time since the last tick [s].
        """
        governor = self.governor
        if self._stream is None:
            governor.follow(self._held, now)
            governor.steer(None)
        else:
            self._begin_steps(now)
            wanted = self._stream.wanted(now)
            if measured is not None:
                wanted = self._gate.within_leash(wanted, measured)
            governor.follow(wanted, now)
            # For one period after its end, the twist still aims at the last target.
            aims = measured is not None and now < self._stream.end + self._stream.period
            way, turn = measured.step_to(governor.pose) if aims else _NOTHING
            gain = self._settings.twist_gain
            place = measured.position if aims else None
            governor.steer((gain * way, gain * turn), place, age)
            self._move_gripper(gap)
        verdict = Verdict.CLIP if governor.braked else Verdict.PASS
        reason = 'the command braked at the edge of the allowed space' if verdict else ''
        self._gate.docket.note('brake', verdict, reason=reason)

    def _begin_steps(self, now: float) -> None:
        row = self._stream.row(now)
        for opening in self._plan.openings[self._row + 1 : row + 1]:
            if opening is not None:
                self.gripper.take(opening)
        if row > self._row:
            self.targets.note(now, self._plan.targets[row])
        self._row = row

    def _move_gripper(self, gap: float) -> None:
        rate, limit = self.gripper.move(gap), self._settings.max_gripper_rate or math.inf
        reason = f'the gripper moves at {limit:g} instead of {rate:.3g} openings a second'
        self._gate.docket.ask('gripper_rate', rate, limit, Verdict.CLIP, reason)
