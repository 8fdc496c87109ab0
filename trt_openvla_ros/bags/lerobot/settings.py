"""The settings of bag_to_lerobot."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.bags.settings import RecordingSettings, ROTATION_OF_MOTION
from trt_openvla_ros.settings import field_of, setting


@dataclass(frozen=True)
class DataSetSettings:
    """What becomes a row, and where the data set goes."""

    bags: tuple[str, ...] = setting(
        (), 'Recordings, in the order of their episodes: --bags "[monday, tuesday]".'
    )
    out: str = setting('', 'Directory that the data set gets; there must be none yet.')
    fps: int = setting(
        0,
        'Rows per second; 0 takes the rate of the data set whose statistics made the recorded '
        'actions.',
        low=0,
        high=240,
    )
    rows: str = setting(
        'grid',
        'A row at each k/fps after the first image of an episode, with what was newest then; or '
        'steps: a row for each image that the policy answered, however long the steps took.',
        choices=('grid', 'steps'),
    )
    action: str = setting(
        'policy',
        'Action of a row: policy, the step that the policy published for its image; motion, the '
        'next state minus the state [m, rad]; or target, the pose that was last sent to the '
        'controller before the next row [m, rad].',
        choices=('policy', 'motion', 'target'),
    )
    angles: str = field_of(ROTATION_OF_MOTION)
    target_topic: str = setting(
        '/robot/target',
        'Topic of the poses sent to the controller (geometry_msgs/msg/PoseStamped), for target.',
    )
    gate_topic: str = setting(
        '/robot/gate',
        "Topic of the motion gate's reports; where a bag has it, a step that the gate held counts "
        'as no motion.',
    )
    camera: str = setting('main', 'Name of the camera: images are observation.images.NAME.')
    robot_type: str = setting('', 'Name of the robot in info.json.')
    max_gap: float = setting(
        1.0,
        'Longest time between two images of an episode [s]; a longer one begins another.',
        low=0.01,
        high=3600.0,
    )
    min_rows: int = setting(2, 'Fewest rows of an episode that is kept.', low=1, high=1_000_000)
    crf: int = setting(
        18, 'Quality of the video, from 0 (lossless) to 51 (worst).', low=0, high=51
    )


@dataclass(frozen=True)
class BagToLeRobotSettings(RecordingSettings, DataSetSettings):
    """All settings of bag_to_lerobot."""
