"""From a picture of the camera to the views of the vision towers: every step, in its order.

All doors come through here: node, server, pipeline and evaluation. docs/pictures.md says which
step is whose.

H, W: size of a picture; S: size of a view; G: number of different views.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import numpy as np

from trt_openvla_ros.camera_steps import CameraSteps, NO_STEPS, WHOLE
from trt_openvla_ros.checkpoints.preprocessor import geometries
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.policy.images import check_image, ImageProcessor
from trt_openvla_ros.policy.resampling import center_crop, jpeg_round_trip, lanczos3
from trt_openvla_ros.policy.view_map import check_region, map_of, ViewMap


@dataclass(frozen=True)
class Views:
    """What a model sees of pictures.

    Attributes:
        processor: The checkpoint's own part.
        steps: What is done before and after it.
    """

    processor: ImageProcessor
    steps: CameraSteps = NO_STEPS

    def __post_init__(self) -> None:
        """Raise ConfigError if a library that the steps need is missing."""
        if self.steps.jpeg_round_trip:
            _check_library('simplejpeg', 'simplejpeg', 'jpeg_round_trip')
        if self.steps.rotation or self.steps.mirror != 'none':
            _check_library('cv2', 'opencv-python-headless', 'rotation and mirror')

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Prepare a picture [H, W, 3] uint8 RGB.

        Returns:
            [G, S, S, 3] uint8 RGB: one view for each geometry of the towers.

        Raises:
            InputError: The array is no picture, or the region is outside it (ImageError).
        """
        return self._crop(self.processor(self.reduce(image)))

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Give the [S, S, 3] uint8 RGB view of the first tower."""
        return self._crop(self.processor.preview(self.reduce(image))[None])[0]

    def reduce(self, image: np.ndarray) -> np.ndarray:
        """Do the steps before the checkpoint's processor: [H, W, 3] uint8 to the same or less.

        With resize lanczos3, a picture that has the view's size already has passed its sender's
        resizing, and the JPEG before it. Both are left out, as in openvla-oft's server, because
        nothing may be done twice.

        Raises:
            InputError: The array is no picture, or the region is outside it (ImageError).
        """
        steps, size = self.steps, self.size
        check_image(image)
        is_resized = image.shape[:2] == size and steps.region == WHOLE
        picture = as_camera_shows(image, steps)
        if steps.resize == 'lanczos3' and is_resized:
            return picture
        if steps.jpeg_round_trip:
            picture = jpeg_round_trip(picture)
        if steps.resize == 'lanczos3':
            picture = lanczos3(picture, *size)
        return picture

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first tower's view [px]."""
        return self.processor.branches[0].geometry.crop

    def map(self, height: int, width: int) -> ViewMap:
        """Map camera images of this size [px] to the first tower's view.

        Raises:
            ImageError: The region is outside such an image.
        """
        letterbox = self.processor.letterbox_fill is not None
        geometry = geometries(self.processor.branches)[0]
        return map_of(self.steps, geometry, letterbox, (height, width))

    def _crop(self, views: np.ndarray) -> np.ndarray:
        return np.stack([center_crop(v) for v in views]) if self.steps.center_crop else views


def as_camera_shows(image: np.ndarray, steps: CameraSteps) -> np.ndarray:
    """Cut out the region, rotate and mirror; the result is contiguous.

    Raises:
        ImageError: The region is outside the picture.
    """
    picture = image
    if steps.region != WHOLE:
        check_region(steps, *image.shape[:2])
        x, y, width, height = steps.region
        picture = picture[y : y + height, x : x + width]
    if steps.rotation or steps.mirror != 'none':
        import cv2  # servers may lack it; numpy takes many times as long
    if steps.rotation:
        turns = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)
        picture = cv2.rotate(picture, turns[steps.rotation // 90 - 1])
    if steps.mirror != 'none':
        picture = cv2.flip(picture, int(steps.mirror == 'horizontal'))
    return np.ascontiguousarray(picture)


def _check_library(module: str, package: str, settings: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        raise ConfigError(
            f'{settings} cannot be done without {module} ({error}): install it with pip install '
            f'{package}, or leave {settings} out'
        ) from error
