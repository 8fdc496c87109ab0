"""What goes into the bridge, and what comes out of it. H: steps of a chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.meaning import Meaning
from trt_openvla_ros.safety.verdicts import Ruling, Verdict

DISABLED, HOLDING, MOVING, STOPPED = 'disabled', 'holding', 'moving', 'stopped'


@dataclass(frozen=True, eq=False)
class IncomingAction:
    """One action as it arrived.

    Attributes:
        steps: [H, 7] float64, rows as in VlaAction.action; H is 1 without a chunk.
        meaning: What the numbers are.
        sequence: Number of the action.
        frame: Frame of the steps: header.frame_id.
        image_age: Age of its image now [s].
        age: Time since it was published [s].
        out_of_range: Forced tokens.
    """

    steps: np.ndarray
    meaning: Meaning
    sequence: int
    frame: str
    image_age: float
    age: float
    out_of_range: int = 0


@dataclass(frozen=True)
class Report:
    """What GateReport.msg says.

    Attributes:
        state: 'disabled', 'holding', 'moving' or 'stopped'.
        reason: Why the state is not 'moving'; '' while it is.
        sequence: Sequence of the newest action; 0 before the first.
        verdict: Worst verdict on that action.
        rulings: What every rule said last, in the order in which they are asked.
        image_age: Age of the image of that action now [s]; -1 without one.
        pose_age: Age of the measured pose now [s]; -1 without one.
    """

    state: str
    reason: str
    sequence: int
    verdict: Verdict
    rulings: tuple[Ruling, ...]
    image_age: float
    pose_age: float


@dataclass(frozen=True, eq=False)
class Command:
    """What controllers get for one tick.

    Attributes:
        state, reason: As in the report.
        pose: Pose to be at now, in base_frame; None while disabled: send nothing.
        twist: [6] m/s and rad/s in the axes of base_frame, of the end effector's origin; zero
            unless the state is 'moving', but for the ramp down after it.
        opening: Opening to have now, 0 closed to 1 open; None while no action gave one, and
            while disabled.
        gripper_goal: Opening that it ends at: the goal of a gripper action; None like opening.
        gripper_changes: Number of changes of gripper_goal; send a goal when it differs.
        target: Pose that the newest executed step leads to, after the gate; None without one.
        report: What the gate says.
    """

    state: str
    reason: str
    pose: Pose | None
    twist: np.ndarray
    opening: float | None
    gripper_goal: float | None
    gripper_changes: int
    target: Pose | None
    report: Report
