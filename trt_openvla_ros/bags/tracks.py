"""Poses and gripper of a recording as functions of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from trt_openvla_ros.bags.recording import Recording
from trt_openvla_ros.bags.settings import RecordingSettings
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.poses import Pose

POSES = ('geometry_msgs/msg/PoseStamped',)
GRIPPERS = ('sensor_msgs/msg/JointState', 'std_msgs/msg/Float64', 'std_msgs/msg/Float32')
_GAP = 500_000_000  # [ns] between two samples that come faster than that


@dataclass(frozen=True)
class Track:
    """Samples in time.

    Attributes:
        times: [N] int64 ns, never decreasing; N is at least 1.
        values: N samples.
    """

    times: np.ndarray
    values: Sequence[Any]

    def before(self, time: int) -> int:
        """Give the index of the last sample at or before a time [ns]; -1 if there is none."""
        return int(np.searchsorted(self.times, time, side='right')) - 1

    def newest(self, time: int) -> int:
        """Give the index of the sample that holds at a time [ns]; -1 if none does.

        A sample holds until the next one. If none comes within `gap`, nobody knows for how long.
        """
        index = self.before(time)
        if index < 0:
            return -1
        return index if self.times[index] == time or self.continues(index) else -1

    def continues(self, index: int) -> bool:
        """Whether a sample has a next one, and so soon that nothing is missing between them."""
        if index + 1 == len(self.times):
            return False
        return int(self.times[index + 1] - self.times[index]) <= self.gap

    @cached_property
    def gap(self) -> int:
        """Longest time between two samples of which nothing is missing [ns]."""
        apart = np.diff(np.unique(self.times))  # several may have one time of a simulation
        return max(_GAP, 2 * int(np.median(apart))) if len(apart) else _GAP


def pose_track(recording: Recording, settings: RecordingSettings, topic: str = '') -> Track:
    """Give the poses [Pose] of a recording, of pose_topic unless another topic is named.

    What is not a pose, such as the zeros of a driver that has none yet, is left out.

    Raises:
        ConfigError: There is none, or they have no stamps, or those of another clock.
    """
    topic = topic or settings.pose_topic
    samples, wrong = [], ''
    for time, message in recording.extra[topic]:
        place, turn = message.pose.position, message.pose.orientation
        try:
            pose = Pose.of((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
        except InputError as error:
            wrong = wrong or str(error)
        else:
            samples.append((time, pose))
    if wrong and not samples:
        raise ConfigError(f'no message of {topic} in {recording.path} is a pose: {wrong}')
    return _track(recording, settings, topic, samples)


def gripper_track(recording: Recording, settings: RecordingSettings) -> Track:
    """Give the gripper's openings [float] of a recording, from 0 (closed) to 1 (open).

    Values that are not finite are left out, and so are joint states without the gripper's
    position, as they come from the driver of the arm.

    Raises:
        ConfigError: There is none, the joint is not there, or the stamps are of another clock.
    """
    closed, span = settings.gripper_closed, settings.gripper_open - settings.gripper_closed
    if not span:
        raise ConfigError(f'gripper_open and gripper_closed are both {closed:g}')
    topic, messages = settings.gripper_topic, recording.extra[settings.gripper_topic]
    if messages and hasattr(messages[0][1], 'position'):
        values = _positions(messages, settings)
    else:
        values = [(time, float(message.data)) for time, message in messages]
    samples = [
        (time, float(np.clip((value - closed) / span, 0.0, 1.0)))
        for time, value in values
        if np.isfinite(value)
    ]
    if values and not samples:
        raise ConfigError(f'no value of {topic} in {recording.path} is finite')
    return _track(recording, settings, topic, samples)


def _positions(
    messages: Sequence[tuple[int, Any]], settings: RecordingSettings
) -> list[tuple[int, float]]:
    names = sorted({name for _, message in messages for name in message.name})
    joint = settings.gripper_joint or (names[0] if len(names) == 1 else '')
    found = [
        (time, float(message.position[list(message.name).index(joint)]))
        for time, message in messages
        if joint in message.name and len(message.position) == len(message.name)
    ]
    if not found:
        raise ConfigError(
            f'gripper_joint {settings.gripper_joint!r} has no position on '
            f'{settings.gripper_topic}; joints there: {", ".join(names) or "none"}'
        )
    return found


def _track(
    recording: Recording,
    settings: RecordingSettings,
    topic: str,
    samples: Sequence[tuple[int, Any]],
) -> Track:
    if not samples:
        raise ConfigError(f'bag {recording.path} has no message of {topic}')
    times = np.array([time for time, _ in samples], np.int64)
    if not times.any():
        raise ConfigError(
            f'the stamps of {topic} in {recording.path} are all 0; set clock to received'
        )
    order = np.argsort(times, kind='stable')
    track = Track(times[order], [samples[index][1] for index in order])
    _check_clock(recording, settings, topic, track)
    return track


def _check_clock(
    recording: Recording, settings: RecordingSettings, topic: str, track: Track
) -> None:
    images = [picture.time for picture in recording.pictures]
    first, last = int(track.times[0]), int(track.times[-1])
    if first - track.gap <= max(images) and min(images) <= last + track.gap:
        return
    way_out = 'none of them is of the time of an image'
    if settings.clock == 'header':
        way_out = 'they seem to be of different clocks; set clock to received'
    raise ConfigError(
        f'the times of {topic} in {recording.path} are {first / 1e9:.3f} to {last / 1e9:.3f} s, '
        f'and those of the images {min(images) / 1e9:.3f} to {max(images) / 1e9:.3f} s: {way_out}'
    )
