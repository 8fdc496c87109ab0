"""preprocessor_config.json: the steps from an image to the pixel values of each vision tower.

Source: PrismaticImageProcessor of openvla/openvla.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_openvla_ros.errors import ConfigError

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


@dataclass(frozen=True)
class Branch:
    """Preprocessing of one vision tower; mean and std are [3] float32 of R, G, B in [0, 1]."""

    geometry: Geometry
    mean: np.ndarray
    std: np.ndarray


def read_preprocessor(
    config: Mapping[str, Any],
) -> tuple[tuple[Branch, ...], tuple[int, int, int] | None]:
    """Read preprocessor_config.json.

    Returns:
        The towers' branches in channel order, and the colour that pads the image to a square, or
        None if the image is not padded.

    Raises:
        ConfigError: A key is missing or unusable.
    """
    try:
        return _parse(config)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(f'preprocessor_config.json cannot be used: {error!r}') from error


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
        'means': [mean for mean, _ in norms],
        'stds': [std for _, std in norms],
        'tvf_crop_params': [{'output_size': size} for _ in norms],
        'tvf_do_letterbox': letterbox,
        'tvf_letterbox_fill': grey if letterbox else None,
        'tvf_normalize_params': [
            {'inplace': False, 'mean': mean, 'std': std} for mean, std in norms
        ],
        'tvf_resize_params': [resize for _ in norms],
        'use_fused_vision_backbone': len(norms) > 1,
    }


def _parse(config: Mapping[str, Any]) -> tuple[tuple[Branch, ...], tuple[int, int, int] | None]:
    sizes = [tuple(size[-2:]) for size in config['input_sizes']]
    strategy = config.get('image_resize_strategy', 'resize-naive')
    stored = config.get('tvf_normalize_params')
    branches = []
    for index, size in enumerate(sizes):
        # Stored tvf_* keys win: openvla-7b's hold means rounded to bfloat16, as in training.
        normalise = stored[index] if stored else {}
        resize = (config.get('tvf_resize_params') or [{}] * len(sizes))[index]
        crop = (config.get('tvf_crop_params') or [{}] * len(sizes))[index]
        target = resize.get('size', size if strategy == 'resize-naive' else size[0])
        if isinstance(target, list | tuple):
            target = tuple(target) if len(target) == 2 else target[0]
        names = config.get('interpolations') or ['bicubic'] * len(sizes)
        crop_size = crop.get('output_size', size)
        if isinstance(crop_size, int):
            crop_size = (crop_size, crop_size)
        branches.append(
            Branch(
                Geometry(
                    size=target,
                    crop=tuple(crop_size),
                    interpolation=resize.get('interpolation', _INTERPOLATION[names[index]]),
                ),
                mean=np.asarray(normalise.get('mean', config['means'][index]), np.float32),
                std=np.asarray(normalise.get('std', config['stds'][index]), np.float32),
            )
        )
    do_letterbox = config.get('tvf_do_letterbox', strategy == 'letterbox')
    fill = config.get('tvf_letterbox_fill')
    if isinstance(do_letterbox, list):  # some forks store one entry per tower
        do_letterbox, fill = any(do_letterbox), fill[-1] if fill else None
    if not do_letterbox:
        return tuple(branches), None
    # The reference pads once, with the last tower's mean colour.
    return tuple(branches), tuple(fill or [int(mean * 255) for mean in config['means'][-1]])
