"""What a policy is compared with: actions that were recorded, or that follow from the motion."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from trt_openvla_ros.bags.recording import Picture, Recording
from trt_openvla_ros.bags.tracks import Track
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.meaning import Meaning

_LATE = 0.1  # of a period; an image that comes so little early counts for its step
_STEEP = np.radians(75.0)  # pitch at which roll and yaw are no longer told apart well


@dataclass(frozen=True)
class Case:
    """One image that the policy is asked about.

    Attributes:
        picture: Image in the recording.
        instruction: Instruction that the policy gets.
        wanted: [7] float64 action in the units of the data set.
        reasoning: Text that was recorded with it.
    """

    picture: Picture
    instruction: str
    wanted: np.ndarray
    reasoning: str = ''


@dataclass(frozen=True)
class Reference:
    """All images that the policy is asked about.

    Attributes:
        cases: The images, in their order in the bag.
        unnorm_key: Data set of the recorded actions; '' if they follow from the motion.
        left_out: Number of images that are not compared, by reason.
        unseen: Number of recorded actions whose image is not in the bag.
        warning: What the numbers are not to be trusted for; '' for nothing.
    """

    cases: list[Case]
    unnorm_key: str
    left_out: dict[str, int]
    unseen: int = 0
    warning: str = ''

    def spread(self, most: int) -> Reference:
        """Keep at most so many cases, evenly spread; 0 keeps all."""
        if not most or most >= len(self.cases):
            return self
        chosen = np.linspace(0, len(self.cases) - 1, most).round().astype(int)
        left = {**self.left_out, 'beyond max_frames': len(self.cases) - most}
        return replace(self, cases=[self.cases[i] for i in chosen], left_out=left)


def recorded(recording: Recording) -> Reference:
    """Take the actions that were recorded with the stamps of images.

    Each has the instruction that the policy followed then.

    Raises:
        ConfigError: No action can be matched, or they are of several data sets.
    """
    answers, ambiguous, unseen = recording.answers()
    acts = {picture: recording.acts[number] for picture, number in answers.items()}
    key = recording.unnorm_key(answers.values())
    cases = [
        Case(picture, act.instruction, act.unlimited, act.reasoning)
        for picture in recording.pictures
        if (act := acts.get(picture.number)) and act.is_finite
    ]
    left_out = {
        'without an action': len(recording.pictures) - len(acts) - ambiguous,
        'several of one stamp': ambiguous,
        'with an action that is not finite': len(acts) - len(cases),
    }
    if not cases:
        raise ConfigError(
            f'no action of {recording.path} can be matched with an image by its stamp: '
            f'{len(recording.acts)} actions, {len(recording.pictures)} images, '
            f'{ambiguous} of them with a stamp that several have; --compare motion needs no '
            'actions'
        )
    return Reference(cases, key, left_out, unseen)


def motion(
    recording: Recording,
    poses: Track,
    gripper: Track,
    meaning: Meaning,
    rate: float,
    angles: str,
) -> Reference:
    """Derive actions from the motion: the pose one control step later minus the pose now.

    Args:
        recording: The recording.
        poses: Poses by time; between two of them they are interpolated.
        gripper: Openings from 0 to 1 by time; the newest counts.
        meaning: Meaning of the numbers of the data set.
        rate: Steps per second [Hz].
        angles: 'subtract' or 'compose'.

    Raises:
        ConfigError: No image has a pose on both sides.
    """
    period = round(1e9 / rate)
    # A step that ends behind the last image of a task belongs to what came after it.
    ends: dict[int, int] = {}
    for picture in recording.pictures:
        ends[picture.task] = max(picture.time, ends.get(picture.task, 0))
    cases: list[Case] = []
    left_out: Counter[str] = Counter()
    steepest, due, task = 0.0, 0, None
    for picture in recording.pictures:
        if not picture.instruction:
            left_out['without an instruction'] += 1
            continue
        if picture.task == task and 0 < due - picture.time <= period:
            left_out['between two steps'] += 1
            continue
        now = _at(poses, picture.time)
        then = _at(poses, picture.time + period)
        opening = gripper.newest(picture.time + period)
        if now is None or then is None or opening < 0:
            left_out['without a pose or gripper now or a step later'] += 1
            continue
        if picture.time + period > ends[picture.task]:
            left_out['at the end of a task'] += 1
            continue
        task, due = picture.task, picture.time + round(period * (1 - _LATE))
        step = _step(now, then, meaning, angles)
        closed = meaning.gripper == 'closed'
        hand = 1.0 - gripper.values[opening] if closed else gripper.values[opening]
        cases.append(Case(picture, picture.instruction, np.append(step, hand)))
        steepest = max(steepest, abs(float(now.angles[1])))
    if not cases:
        reasons = ', '.join(f'{count} {reason}' for reason, count in left_out.items())
        raise ConfigError(
            f'no action follows from the motion in {recording.path}: of '
            f'{len(recording.pictures)} images {reasons}'
        )
    warning = ''
    if angles == 'subtract' and steepest > _STEEP:
        warning = (
            f'the pitch of the end effector reaches {np.degrees(steepest):.0f} degrees, where '
            'differences of roll and yaw mean little; --angles compose does not suffer from it'
        )
    return Reference(cases, '', dict(left_out), warning=warning)


def _at(poses: Track, time: int) -> Pose | None:
    index = poses.before(time)
    if index < 0:
        return None
    before = int(poses.times[index])
    if before == time:
        return poses.values[index]
    if not poses.continues(index):
        return None
    after = int(poses.times[index + 1])
    fraction = (time - before) / (after - before)
    return poses.values[index].toward(poses.values[index + 1], fraction)


def _step(now: Pose, then: Pose, meaning: Meaning, angles: str) -> np.ndarray:
    """Give [6] in the units of a data set."""
    step = now.motion_to(then, angles, meaning.rotation, meaning.frame)
    return step / np.repeat([meaning.translation_unit, meaning.rotation_unit], 3)
