"""RGB images to the views of the vision towers, exactly as the models were trained.

A view is a resized and cropped image. The vision engine normalises it (engines/pixels.py), for
each tower in its own way.

H, W: size of the camera's image; S: size of a view; G: number of different views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from trt_openvla_ros.checkpoints.preprocessor import (
    Branch,
    geometries,
    Geometry,
    read_preprocessor,
)
from trt_openvla_ros.errors import InputError


@dataclass(frozen=True)
class ImageProcessor:
    """The checkpoint's preprocessing, read from preprocessor_config.json.

    Source: PrismaticImageProcessor of openvla/openvla; bit-exact to it.
    """

    branches: tuple[Branch, ...]
    letterbox_fill: tuple[int, int, int] | None

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], source: object = 'preprocessor_config.json'
    ) -> ImageProcessor:
        """Read preprocessor_config.json, whose path is the source in messages.

        Raises:
            ConfigError: A key is missing or unusable.
        """
        return cls(*read_preprocessor(config, source))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Prepare one image.

        Args:
            image: [H, W, 3] uint8 RGB.

        Returns:
            [G, S, S, 3] uint8 RGB: one view for each of `geometries(branches)`. Resizing costs
            most, so towers of one geometry share a view.

        Raises:
            InputError: The array is not such an image.
        """
        pil = self._open(image)
        return np.stack([np.asarray(_resize(g, pil)) for g in geometries(self.branches)])

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Give the [S, S, 3] uint8 RGB image that the first tower sees, before normalising."""
        return np.asarray(_resize(self.branches[0].geometry, self._open(image)))

    def _open(self, image: np.ndarray) -> Image.Image:
        pil = Image.fromarray(check_image(image))
        return pil if self.letterbox_fill is None else _letterbox(pil, self.letterbox_fill)


def check_image(image: np.ndarray) -> np.ndarray:
    """Return image if it is [H, W, 3] uint8 with H, W >= 1; raise InputError if not."""
    if not isinstance(image, np.ndarray):
        raise InputError(f'image is a {type(image).__name__}; a numpy array is needed')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f'image has shape {image.shape} and dtype {image.dtype}; '
            '[height, width, 3] uint8 RGB is needed'
        )
    return image


def refuse_unused(wrist_images: Sequence[np.ndarray], state: np.ndarray | None) -> None:
    """Refuse inputs that models of this family do not take.

    Raises:
        InputError: There are further images, or a state.
    """
    if len(wrist_images):
        raise InputError(
            f'{len(wrist_images)} wrist image(s) given; this model sees one image, so leave '
            'wrist_images out'
        )
    if state is not None:
        raise InputError('a state was given; this model reads none, so leave state out')


def _letterbox(image: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
    width, height = image.size
    side = max(width, height)
    # Rounded down on both sides, so an odd difference leaves the result 1 px short of square.
    left, top = (side - width) // 2, (side - height) // 2
    padded = Image.new('RGB', (width + 2 * left, height + 2 * top), fill)
    padded.paste(image, (left, top))
    return padded


def _resize(geometry: Geometry, image: Image.Image) -> Image.Image:
    width, height = image.size
    new = geometry.target(height, width)[::-1]
    if new != image.size:
        image = image.resize(new, geometry.interpolation)
    width, height = image.size
    left, top = geometry.corner(height, width)
    return image.crop((left, top, left + geometry.crop[1], top + geometry.crop[0]))
