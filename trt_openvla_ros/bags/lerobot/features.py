"""The form of a LeRobot data set v3.0: names of its files, and descriptions of its features."""

from __future__ import annotations

from typing import Any

import numpy as np

from trt_openvla_ros.bags.video import CODEC, PIXEL_FORMAT
from trt_openvla_ros.contracts import MOTION

VERSION = 'v3.0'
DATA = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
VIDEO = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
EPISODES = 'meta/episodes/chunk-000/file-000.parquet'
CHUNK = 1000  # files of a directory
DATA_MB, VIDEO_MB = 100, 200  # sizes at which a further file begins
_NAMES = [*MOTION, 'gripper']
_NAMED = ('action', 'action.unlimited', 'observation.state')


def describe(
    columns: dict[str, np.ndarray], camera: str, size: tuple[int, int], fps: int
) -> dict[str, dict[str, Any]]:
    """Describe the features for info.json.

    Args:
        columns: Columns of the table, each [N, D].
        camera: Name of the images.
        size: Height and width of the images [px].
        fps: Rows per second.
    """
    features: dict[str, dict[str, Any]] = {
        name: {
            'dtype': str(values.dtype),
            'shape': [values.shape[1]],
            'names': _NAMES[: values.shape[1]] if name in _NAMED else None,
        }
        for name, values in columns.items()
    }
    height, width = size
    features[camera] = {
        'dtype': 'video',
        'shape': [height, width, 3],
        'names': ['height', 'width', 'channels'],
        'info': {
            'video.height': height,
            'video.width': width,
            'video.codec': CODEC,
            'video.pix_fmt': PIXEL_FORMAT,
            'video.is_depth_map': False,
            'video.fps': fps,
            'video.channels': 3,
            'has_audio': False,
        },
    }
    return features
