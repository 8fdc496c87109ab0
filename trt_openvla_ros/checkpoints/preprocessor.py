"""preprocessor_config.json: the steps from an image to the pixel values of each vision tower.

Source: PrismaticImageProcessor of openvla/openvla.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from trt_openvla_ros.camera_steps import CameraSteps, RESIZES
from trt_openvla_ros.checkpoints.json_files import checked, Positive, Schema

# Pillow's numbers, which tvf_resize_params of the file uses.
_INTERPOLATION = {'nearest': 0, 'lanczos': 1, 'bilinear': 2, 'bicubic': 3, 'box': 4, 'hamming': 5}
Norm = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of R, G, B


@dataclass(frozen=True)
class Geometry:
    """Resizing and cropping of an image to the size of a tower.

    Attributes:
        size: Exact (height, width), or the length of the shorter side [px].
        crop: (height, width) of the middle part that is kept [px].
        interpolation: Pillow's number of the interpolation.
    """

    size: tuple[int, int] | int
    crop: tuple[int, int]
    interpolation: int

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Give (height, width) to which an image of this height and width is resized [px]."""
        if not isinstance(self.size, int):
            return self.size
        scaled = int(self.size * max(height, width) / min(height, width))
        return (scaled, self.size) if width <= height else (self.size, scaled)

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """Give left and upper edge of the part that is kept of a resized image [px]."""
        return round((width - self.crop[1]) / 2), round((height - self.crop[0]) / 2)


@dataclass(frozen=True)
class Branch:
    """Preprocessing of one vision tower; mean and std are [3] float32 of R, G, B in [0, 1]."""

    geometry: Geometry
    mean: np.ndarray
    std: np.ndarray


def geometries(branches: Sequence[Branch]) -> list[Geometry]:
    """Give the different geometries, the first tower's first; towers of one geometry share it."""
    return list(dict.fromkeys(branch.geometry for branch in branches))


_Side = Annotated[int, Field(ge=1, le=4096)]  # [px]
_Sides = Annotated[list[_Side], Field(min_length=1, max_length=2)]
_Colour = Annotated[list[float], Field(min_length=3, max_length=3)]
_Spread = Annotated[list[Positive], Field(min_length=3, max_length=3)]
_Fill = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


class _Resize(Schema):
    size: _Side | _Sides | None = None
    interpolation: Annotated[int, Field(ge=0, le=5)] | None = None


class _Crop(Schema):
    output_size: _Side | _Sides | None = None


class _Normalise(Schema):
    mean: _Colour | None = None
    std: _Spread | None = None


class _Camera(Schema):
    center_crop: bool | None = None
    jpeg_round_trip: bool | None = None
    resize: Literal[RESIZES] | None = None


class _Preprocessor(Schema):
    input_sizes: Annotated[
        list[Annotated[list[_Side], Field(min_length=2, max_length=3)]],
        Field(min_length=1, max_length=2),
    ]
    image_resize_strategy: str | None = None
    interpolations: list[Literal[tuple(_INTERPOLATION)]] | None = None
    means: list[_Colour]
    stds: list[_Spread]
    tvf_resize_params: list[_Resize] | None = None
    tvf_crop_params: list[_Crop] | None = None
    tvf_normalize_params: list[_Normalise] | None = None
    tvf_do_letterbox: bool | list[bool] | None = None
    tvf_letterbox_fill: _Fill | list[_Fill | None] | None = None
    # Ours: steps before the image processor, which no released checkpoint states.
    camera: _Camera | None = None

    @model_validator(mode='before')
    @classmethod
    def _check_finite(cls, content: Any) -> Any:
        try:
            json.dumps(content, allow_nan=False)
        except ValueError:
            # Servers send the whole content, and JSON has no such numbers.
            raise ValueError('a number in it is not finite') from None
        return content

    @model_validator(mode='after')
    def _check_towers(self) -> _Preprocessor:
        for name in _PER_TOWER:
            entries = getattr(self, name)
            if entries and len(entries) != len(self.input_sizes):
                raise ValueError(
                    f'{name} has {len(entries)} entries and input_sizes {len(self.input_sizes)}'
                )
        return self


CAMERA = 'camera'
PIXEL_KEYS = tuple(_Preprocessor.model_fields)  # that decide the pixel values
_PER_TOWER = ('interpolations', 'means', 'stds', 'tvf_resize_params', 'tvf_crop_params')
_PER_TOWER += ('tvf_normalize_params',)


def read_preprocessor(
    content: Mapping[str, Any], source: object = 'preprocessor_config.json'
) -> tuple[tuple[Branch, ...], tuple[int, int, int] | None]:
    """Read preprocessor_config.json.

    Args:
        content: Content of the file.
        source: Path of the file, for messages.

    Returns:
        The towers' branches in channel order, and the colour that pads the image to a square, or
        None if the image is not padded.

    Raises:
        ConfigError: A key is missing or unusable.
    """
    config = checked(_Preprocessor, content, source, 'take the file of the original checkpoint')
    branches = tuple(_branch(config, index) for index in range(len(config.input_sizes)))
    strategy = config.image_resize_strategy or 'resize-naive'
    letterbox, fill = config.tvf_do_letterbox, config.tvf_letterbox_fill
    if letterbox is None:
        letterbox = strategy == 'letterbox'
    if isinstance(letterbox, list):  # some forks store one entry per tower
        letterbox = any(letterbox)
    if fill and not isinstance(fill[0], int):
        fill = fill[-1]
    if not letterbox:
        return branches, None
    # The reference pads once, with the last tower's mean colour.
    red, green, blue = fill or [int(mean * 255) for mean in config.means[-1]]
    return branches, (red, green, blue)


def stated_camera(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give the steps before the image processor that preprocessor_config.json states.

    Args:
        content: Content of the file, which `read_preprocessor` has read.
    """
    stated = content.get(CAMERA) or {}
    return {k: v for k, v in stated.items() if k in _Camera.model_fields and v is not None}


def with_camera(content: Mapping[str, Any], steps: CameraSteps) -> dict[str, Any]:
    """Give preprocessor_config.json that states the steps; those of the camera are left out."""
    return {**content, CAMERA: {name: getattr(steps, name) for name in _Camera.model_fields}}


def write_preprocessor(side: int, norms: Sequence[Norm], letterbox: bool) -> dict[str, Any]:
    """Make preprocessor_config.json of towers that see square images.

    Args:
        side: Side of the towers' images [px].
        norms: Mean and standard deviation of each tower.
        letterbox: Whether images are padded to a square instead of stretched.
    """
    size = [side, side]
    # The letterbox makes a square, so one side is enough.
    target = side if letterbox else size
    resize = {'antialias': True, 'interpolation': 3, 'max_size': None, 'size': target}
    grey = [int(255 * value) for value in norms[0][0]]
    return {
        'image_processor_type': 'PrismaticImageProcessor',
        'image_resize_strategy': 'letterbox' if letterbox else 'resize-naive',
        'input_sizes': [[3, *size] for _ in norms],
        'interpolations': ['bicubic'] * len(norms),
        'means': [list(mean) for mean, _ in norms],
        'stds': [list(std) for _, std in norms],
        'tvf_crop_params': [{'output_size': size} for _ in norms],
        'tvf_do_letterbox': letterbox,
        'tvf_letterbox_fill': grey if letterbox else None,
        'tvf_normalize_params': [
            {'inplace': False, 'mean': list(mean), 'std': list(std)} for mean, std in norms
        ],
        'tvf_resize_params': [resize for _ in norms],
        'use_fused_vision_backbone': len(norms) > 1,
    }


def _branch(config: _Preprocessor, index: int) -> Branch:
    size = tuple(config.input_sizes[index][-2:])
    naive = (config.image_resize_strategy or 'resize-naive') == 'resize-naive'
    names = config.interpolations
    # Stored tvf_* keys win: openvla-7b's hold means rounded to bfloat16, as in training.
    normalise = (config.tvf_normalize_params or {index: _Normalise()})[index]
    resize = (config.tvf_resize_params or {index: _Resize()})[index]
    crop = (config.tvf_crop_params or {index: _Crop()})[index].output_size or list(size)
    target = resize.size or (list(size) if naive else size[0])
    if isinstance(target, list):
        target = tuple(target) if len(target) == 2 else target[0]
    interpolation = resize.interpolation
    if interpolation is None:
        interpolation = _INTERPOLATION[names[index] if names else 'bicubic']
    if isinstance(crop, int) or len(crop) == 1:
        crop = [crop if isinstance(crop, int) else crop[0]] * 2
    return Branch(
        Geometry(target, tuple(crop), interpolation),
        mean=np.asarray(normalise.mean or config.means[index], np.float32),
        std=np.asarray(normalise.std or config.stds[index], np.float32),
    )
