"""Places in a camera image, and the same places in the model's view of it.

A place is [x, y] in pixels; the middle of the first pixel is [0, 0], as in camera_info.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_openvla_ros.camera_steps import CameraSteps, WHOLE
from trt_openvla_ros.checkpoints.preprocessor import Geometry
from trt_openvla_ros.errors import ImageError
from trt_openvla_ros.policy.resampling import CROP_SIDE


@dataclass(frozen=True)
class ViewMap:
    """The map between a camera image and the view that a model has of it.

    Attributes:
        camera_size: (height, width) of the camera's image [px].
        view_size: (height, width) of the view [px].
        matrix: [2, 3] float64; a place of the camera, with a 1 behind it, becomes one of the view.
    """

    camera_size: tuple[int, int]
    view_size: tuple[int, int]
    matrix: np.ndarray

    def to_view(self, places: np.ndarray) -> np.ndarray:
        """Map places [..., 2] of the camera's image to places of the view, float64."""
        return np.asarray(places, float) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_camera(self, places: np.ndarray) -> np.ndarray:
        """Map places [..., 2] of the view to places of the camera's image, float64."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        return (np.asarray(places, float) - self.matrix[:, 2]) @ inverse.T

    def shows(self, places: np.ndarray) -> np.ndarray:
        """Tell for places [..., 2] of the camera's image whether the view shows them, bool."""
        height, width = self.view_size
        inside = self.to_view(places)
        limits = np.array([width - 0.5, height - 0.5])
        return ((inside >= -0.5) & (inside <= limits)).all(axis=-1)


def view_map(
    steps: CameraSteps,
    camera_size: tuple[int, int],
    view_size: tuple[int, int] = (224, 224),
    letterbox: bool = False,
) -> ViewMap:
    """Map a camera's image to a view, without knowing the checkpoint.

    Args:
        steps: Steps of the policy.
        camera_size: (height, width) of the camera's image [px].
        view_size: (height, width) [px] of the view in which places are counted, e.g. (256, 256)
            for the boxes and points that an ECoT model writes.
        letterbox: Whether the checkpoint pads the image to a square instead of stretching it.

    Raises:
        ImageError: The region is outside such an image.
    """
    return map_of(steps, Geometry(view_size, view_size, 0), letterbox, camera_size)


def map_of(
    steps: CameraSteps, geometry: Geometry, letterbox: bool, camera_size: tuple[int, int]
) -> ViewMap:
    """Map a camera's image to the view of one geometry of a processor.

    Args:
        steps: Steps of the policy.
        geometry: Resizing and cropping by the checkpoint's processor.
        letterbox: Whether that processor pads the image to a square first.
        camera_size: (height, width) of the camera's image [px].

    Raises:
        ImageError: The region is outside such an image.
    """
    check_region(steps, *camera_size)
    chain = _Chain(*camera_size)
    x, y, width, height = steps.region
    if steps.region != WHOLE:
        chain.cut(x, y, width, height)
    for _ in range(steps.rotation // 90):
        chain.turn()
    if steps.mirror != 'none':
        chain.mirror(int(steps.mirror == 'vertical'))
    if steps.resize == 'lanczos3':
        chain.resize(*geometry.crop)
    if letterbox:
        side = max(chain.size)
        left, top = (side - chain.width) // 2, (side - chain.height) // 2
        chain.cut(-left, -top, chain.width + 2 * left, chain.height + 2 * top)
    chain.resize(*geometry.target(chain.height, chain.width))
    left, top = geometry.corner(chain.height, chain.width)
    chain.cut(left, top, geometry.crop[1], geometry.crop[0])
    if steps.center_crop:
        chain.enlarge()
    return ViewMap(tuple(camera_size), geometry.crop, chain.matrix[:2])


def check_region(steps: CameraSteps, height: int, width: int) -> None:
    """Raise ImageError if the region is outside a picture of this size [px]."""
    x, y, across, down = steps.region
    if steps.region != WHOLE and (x + across > width or y + down > height):
        raise ImageError(
            f'the region of {across} x {down} px at {x}, {y} is outside the picture of '
            f'{width} x {height} px; set region_x, region_y, region_width and region_height to a '
            'part of it, or all to 0'
        )


class _Chain:
    """Steps one after the other: the size of the image so far, and the place in it."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width, self.matrix = height, width, np.eye(3)

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def cut(self, left: int, top: int, width: int, height: int) -> None:
        self._then([1, 1], [-left, -top])
        self.height, self.width = height, width

    def turn(self) -> None:
        self.matrix = np.array([[0, -1, self.height - 1], [1, 0, 0], [0, 0, 1]]) @ self.matrix
        self.height, self.width = self.width, self.height

    def mirror(self, axis: int) -> None:
        scale, shift = np.ones(2), np.zeros(2)
        scale[axis], shift[axis] = -1, (self.width, self.height)[axis] - 1
        self._then(scale, shift)

    def resize(self, height: int, width: int) -> None:
        # Pixels are areas: the outer edges meet, not the middles of the outer pixels.
        scale = np.array([width / self.width, height / self.height])
        self._then(scale, (scale - 1) / 2)
        self.height, self.width = height, width

    def enlarge(self) -> None:
        # Corners are aligned, unlike in `resize`.
        edge = (1 - CROP_SIDE) / 2 * (np.array([self.width, self.height]) - 1)
        self._then([1 / CROP_SIDE] * 2, -edge / CROP_SIDE)

    def _then(self, scale: np.ndarray, shift: np.ndarray) -> None:
        step = np.diag([*scale, 1.0])
        step[:2, 2] = shift
        self.matrix = step @ self.matrix
