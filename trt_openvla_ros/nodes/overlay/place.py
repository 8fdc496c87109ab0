"""Where the camera is: from a parameter, or from TF."""

from __future__ import annotations

import numpy as np
from rclpy.time import Time

from trt_openvla_ros.drawing.projection import Camera
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.nodes.transforms import Transforms
from trt_openvla_ros.poses import Pose


class CameraPlace:
    """Gives points of a frame in that of the camera."""

    def __init__(
        self, camera_pose: tuple[float, ...], base_frame: str, transforms: Transforms | None
    ) -> None:
        """Take the camera's pose [7] in base_frame; if all numbers are 0, ask TF.

        Raises:
            ConfigError: The pose is none.
        """
        self._base_frame, self._transforms = base_frame, transforms
        self._pose: Pose | None = None
        if any(camera_pose):
            try:
                self._pose = Pose.of(camera_pose[:3], camera_pose[3:])
            except InputError as error:
                raise ConfigError(f'camera_pose: {error}') from error

    def to_camera(self, points: np.ndarray, frame: str, camera_frame: str, at: int) -> np.ndarray:
        """Turn points [N, 3] m of a frame into those of the camera's optical frame.

        Args:
            points: [N, 3] m.
            frame: Their frame.
            camera_frame: The optical frame.
            at: Time of the picture [ns].

        Raises:
            InputError: Nobody says where the camera is, or not in that frame.
        """
        if self._pose is not None:
            if frame != self._base_frame:
                raise InputError(
                    f'the pose is in {frame!r}, and camera_pose in {self._base_frame!r}; set '
                    'base_frame'
                )
            return self._pose.rotation.inv().apply(points - self._pose.position)
        if self._transforms is None:
            raise InputError('no place of the camera: set camera_pose, or install tf2_ros')
        try:
            found = self._transforms.look_up(camera_frame, frame, Time(nanoseconds=max(at, 0)))
        except InputError:
            found = self._transforms.look_up(camera_frame, frame)
        shift, turn = found.transform.translation, found.transform.rotation
        pose = Pose.of((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w))
        return pose.rotation.apply(points) + pose.position


def camera_of(message: object, rectified: bool) -> Camera:
    """Read a sensor_msgs/msg/CameraInfo.

    Args:
        message: The message.
        rectified: Whether the pictures are rectified: then P counts and no distortion.

    Raises:
        InputError: The camera is not calibrated, or its model is unknown.
    """
    matrix = np.array(message.p).reshape(3, 4)[:, :3] if rectified else np.array(message.k)
    region = message.roi
    # 0 stands for 1 in binning, and in the size of a region for all of the picture.
    binning = max(message.binning_x, 1), max(message.binning_y, 1)
    return Camera(
        width=(region.width or message.width) // binning[0],
        height=(region.height or message.height) // binning[1],
        matrix=matrix.reshape(3, 3).astype(float),
        distortion=() if rectified else tuple(message.d),
        model=message.distortion_model,
        offset=(region.x_offset, region.y_offset),
        binning=binning,
    )
