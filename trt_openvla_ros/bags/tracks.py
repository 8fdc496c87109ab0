"""Poses and gripper of a recording as functions of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_openvla_ros.bags.recording import Recording
from trt_openvla_ros.bags.settings import RecordingSettings
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.poses import Pose

POSES = ('geometry_msgs/msg/PoseStamped',)
GRIPPERS = ('sensor_msgs/msg/JointState', 'std_msgs/msg/Float64', 'std_msgs/msg/Float32')


@dataclass(frozen=True)
class Track:
    """Samples in time.

    Attributes:
        times: [N] int64 ns, never decreasing.
        values: N samples.
    """

    times: np.ndarray
    values: Sequence[Any]

    def before(self, time: int) -> int:
        """Give the index of the last sample at or before a time [ns]; -1 if there is none."""
        return int(np.searchsorted(self.times, time, side='right')) - 1


def pose_track(recording: Recording, settings: RecordingSettings, topic: str = '') -> Track:
    """Give the poses [Pose] of a recording, of pose_topic unless another topic is named.

    Raises:
        ConfigError: There is none, one is not a pose, or they have no stamps.
    """
    topic = topic or settings.pose_topic
    poses = []
    for _, message in recording.extra[topic]:
        place, turn = message.pose.position, message.pose.orientation
        try:
            poses.append(Pose.of((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w)))
        except InputError as error:
            raise ConfigError(f'{topic} of {recording.path}: {error}') from error
    return _track(recording, topic, poses)


def gripper_track(recording: Recording, settings: RecordingSettings) -> Track:
    """Give the gripper's openings [float] of a recording, from 0 (closed) to 1 (open).

    Raises:
        ConfigError: There is none, or the joint is not there.
    """
    closed, span = settings.gripper_closed, settings.gripper_open - settings.gripper_closed
    if not span:
        raise ConfigError(f'gripper_open and gripper_closed are both {closed:g}')
    topic = settings.gripper_topic
    values = [
        _position(message, settings) if hasattr(message, 'position') else float(message.data)
        for _, message in recording.extra[topic]
    ]
    if not np.isfinite(values).all():
        raise ConfigError(f'{topic} of {recording.path} has values that are not finite')
    openings = np.clip((np.array(values) - closed) / span, 0.0, 1.0)
    return _track(recording, topic, openings.tolist())


def _position(message: Any, settings: RecordingSettings) -> float:
    names = list(message.name)
    joint = settings.gripper_joint or (names[0] if len(names) == 1 else '')
    if joint not in names or len(message.position) != len(names):
        raise ConfigError(
            f'gripper_joint {settings.gripper_joint!r} has no position on '
            f'{settings.gripper_topic}; joints there: {", ".join(names) or "none"}'
        )
    return float(message.position[names.index(joint)])


def _track(recording: Recording, topic: str, values: Sequence[Any]) -> Track:
    times = np.array([time for time, _ in recording.extra[topic]], np.int64)
    if not len(times):
        raise ConfigError(f'bag {recording.path} has no message of {topic}')
    if not times.any():
        raise ConfigError(
            f'the stamps of {topic} in {recording.path} are all 0; set clock to received'
        )
    order = np.argsort(times, kind='stable')
    return Track(times[order], [values[index] for index in order])
