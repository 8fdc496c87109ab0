"""From where the hand is to where the newest step leads, in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.conversions import stamp_of
from trt_openvla_ros.nodes.overlay.heard import Heard, PoseAt
from trt_openvla_ros.nodes.robot.inputs import to_meaning
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.composition import compose, to_step
from trt_openvla_ros.robot.meaning import UNKNOWN


@dataclass(frozen=True)
class Way:
    """Where the hand is, and where the step leads.

    Attributes:
        start: Measured pose, its frame and its stamp.
        tip: Pose that the step leads to, in the same frame.
        checked: Whether the motion gate gave the tip; otherwise it is what the policy asks for.
    """

    start: PoseAt
    tip: Pose
    checked: bool


def way_of(heard: Heard, at: int, max_age: float) -> Way:
    """Find the way at the time of a picture.

    Args:
        heard: What came so far.
        at: Time of the picture [ns].
        max_age: Age at which something is old [s].

    Raises:
        InputError: Something is missing or does not fit; the message says what.
    """
    start = heard.pose_at(at)
    if start is None:
        raise InputError(heard.refused or 'no pose came; remap pose')
    if heard.age('pose') > max_age:
        raise InputError(f'the pose is {heard.age("pose"):.1f} s old')
    if heard.has_target(max_age):
        if heard.target.frame != start.frame:
            raise InputError(
                f'the target is in {heard.target.frame!r}, and the pose in {start.frame!r}'
            )
        return Way(start, heard.target.pose, checked=True)
    if heard.is_gated(max_age):
        raise InputError(f'no target: {heard.gate.reason or heard.gate.state}')
    if heard.action is None or heard.age('action') > max_age:
        raise InputError('no action, or an old one')
    return Way(start, _asked(heard, heard.action, start), checked=False)


def _asked(heard: Heard, action: VlaAction, start: PoseAt) -> Pose:
    """Give the pose that the policy asks for, from the pose measured at its image.

    The pose last commanded is not known without a robot_node; it is taken to be that one too.
    """
    meaning, numbers = to_meaning(action.meaning), np.array(action.action[:6])
    unknown = [
        what
        for what, is_unknown in (
            ('units', not meaning.has_units),
            ('rotation', meaning.rotation == UNKNOWN),
            ('axes', meaning.frame == UNKNOWN),
        )
        if is_unknown
    ]
    if unknown:
        raise InputError(f'nobody knows the {unknown[0]} of {action.unnorm_key!r}')
    if not np.isfinite(numbers).all():
        raise InputError('the action is not finite')
    if meaning.frame == 'base' and action.header.frame_id != start.frame:
        raise InputError(
            f'the action is in {action.header.frame_id!r}, and the pose in {start.frame!r}'
        )
    origin = heard.pose_at(stamp_of(action)).pose
    shift, turn = to_step(numbers, meaning, Rotation.identity())
    return compose(shift, turn, 'measured', meaning.frame, origin, origin)
