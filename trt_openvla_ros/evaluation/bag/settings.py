"""The settings of evaluate_bag."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trt_openvla_ros.bags.settings import RecordingSettings, ROTATION_OF_MOTION
from trt_openvla_ros.policy.loading import ModelSettings
from trt_openvla_ros.robot.meaning import ACTION_MEANINGS
from trt_openvla_ros.settings import field_of, setting


@dataclass(frozen=True)
class BagComparison:
    """What is compared, and where the results go."""

    bag: str = setting(
        '', 'Recording by `ros2 bag record`: its directory, or one .mcap or .db3 of it.'
    )
    out: str = setting('evaluate_bag', 'Directory of the results; made if there is none.')
    server: str = setting(
        '', 'URL of a server to ask instead of loading a checkpoint, such as http://gpu:8000.'
    )
    server_timeout: float = setting(
        10.0, 'Longest wait for an answer of the server [s].', low=0.01, high=600.0
    )
    jpeg_quality: int = setting(
        0, 'JPEG quality of images for the server; 0 sends PNG, which is exact.', low=0, high=100
    )
    compare: str = setting(
        'recorded',
        'What the policy is compared with: the action that was recorded with the stamp of the '
        'image, or motion: the difference of two poses, a control step apart.',
        choices=('recorded', 'motion'),
    )
    control_rate: float = setting(
        0.0,
        'Steps per second for motion [Hz]; 0 takes the rate of the data set of unnorm_key.',
        low=0.0,
        high=1000.0,
    )
    angles: str = field_of(
        replace(
            ROTATION_OF_MOTION,
            default='auto',
            description=f'{ROTATION_OF_MOTION.description[:-1]}; auto takes what the data set '
            'does.',
            choices=('auto', *ROTATION_OF_MOTION.choices),
        )
    )
    action_meanings: str = field_of(ACTION_MEANINGS)
    max_frames: int = setting(
        0, 'Most images to compare, evenly spread; 0 takes all.', low=0, high=10_000_000
    )
    video: bool = setting(True, 'Write video.mp4, in which each image has both actions beside it.')
    restart: bool = setting(False, 'Drop what out holds of an earlier run, and begin anew.')


@dataclass(frozen=True)
class EvaluateBagSettings(ModelSettings, RecordingSettings, BagComparison):
    """All settings of evaluate_bag."""


# They change how results look or how long they take, and no number.
NO_NUMBERS = (
    *('bag', 'out', 'video', 'restart'),
    *('server_timeout', 'allow_failed_verify', 'read_all'),
)
