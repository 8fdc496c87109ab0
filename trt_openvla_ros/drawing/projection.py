"""Points in the frame of a camera to pixels, by its calibration."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trt_openvla_ros.errors import InputError

_NEAREST = 0.01  # [m] in front of the camera; what is nearer, or behind, has no pixel
# Numbers of coefficients by the name that sensor_msgs/msg/CameraInfo gives a model.
_MODELS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}
_LOOKS = 64  # radii at which the distortion is looked at


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    Attributes:
        width, height: Size of its picture [px].
        matrix: [3, 3] intrinsics [px].
        distortion: Coefficients as OpenCV has them; none for a rectified picture.
        model: 'plumb_bob', 'rational_polynomial' or 'equidistant'.
        offset: [2] px of the full picture at which the region of interest begins.
        binning: [2] pixels of the full picture in one of this.
    """

    width: int
    height: int
    matrix: np.ndarray
    distortion: tuple[float, ...] = ()
    model: str = 'plumb_bob'
    offset: tuple[float, float] = (0.0, 0.0)
    binning: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Check the calibration.

        Raises:
            InputError: It is none.
        """
        matrix = self.matrix
        if not np.isfinite(matrix).all() or not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
            raise InputError(
                f'the camera is not calibrated: its focal lengths are {matrix[0, 0]:g} and '
                f'{matrix[1, 1]:g}; calibrate it (camera_calibration)'
            )
        if not any(self.distortion):
            return
        counts = _MODELS.get(self.model)
        if counts is None or len(self.distortion) not in counts:
            raise InputError(
                f'distortion model {self.model!r} with {len(self.distortion)} coefficients is not '
                f'known; known are {", ".join(_MODELS)}; or take the rectified picture'
            )
        if not np.isfinite(self.distortion).all():
            raise InputError(f'distortion {list(self.distortion)} is not finite')

    def project(self, points: np.ndarray) -> np.ndarray:
        """Give the pixels of points.

        Args:
            points: [N, 3] m in the optical frame: x right, y down, z forward.

        Returns:
            [N, 2] px; nan for points behind the camera, and for those so far aside that its
            distortion says nothing of them.
        """
        points = np.asarray(points, float).reshape(-1, 3)
        pixels = np.full((len(points), 2), np.nan)
        seen = np.isfinite(points).all(1) & (points[:, 2] > _NEAREST)
        seen[seen] = self._knows(points[seen])
        if seen.any():
            pixels[seen] = (self._look(points[seen]) - self.offset) / self.binning
        return pixels

    def _look(self, points: np.ndarray) -> np.ndarray:
        turn, shift = np.zeros(3), np.zeros(3)
        coefficients = np.array(self.distortion if any(self.distortion) else (0.0,) * 4)
        if self.model == 'equidistant' and any(self.distortion):
            found, _ = cv2.fisheye.projectPoints(
                points[:, None], turn, shift, self.matrix, coefficients
            )
        else:
            found, _ = cv2.projectPoints(points[:, None], turn, shift, self.matrix, coefficients)
        return found[:, 0]

    def _knows(self, points: np.ndarray) -> np.ndarray:
        """Tell where the distortion still grows outwards; beyond, it folds the world back."""
        if not any(self.distortion):
            return np.ones(len(points), bool)
        radius = np.linalg.norm(points[:, :2], axis=1) / points[:, 2]
        looks = np.linspace(0, 1, _LOOKS)[:, None] * radius
        return (np.diff(self._radial(looks), axis=0) > 0).all(0) | (radius < 1e-9)

    def _radial(self, radius: np.ndarray) -> np.ndarray:
        d = (*self.distortion, *(0.0,) * 8)
        if self.model == 'equidistant':
            angle = np.arctan(radius)
            return angle * (1 + sum(k * angle ** (2 * i) for i, k in enumerate(d[:4], 1)))
        square = radius**2
        above = 1 + d[0] * square + d[1] * square**2 + d[4] * square**3
        below = 1 + d[5] * square + d[6] * square**2 + d[7] * square**3
        return radius * above / np.where(np.abs(below) < 1e-9, 1e-9, below)
