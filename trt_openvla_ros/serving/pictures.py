"""Images of requests: files by the reader of every door, and arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trt_openvla_ros import pictures
from trt_openvla_ros.errors import InputError
from trt_openvla_ros.pictures.files import check_size, colours
from trt_openvla_ros.serving.refusal import Refusal, refusal_of


def read_picture(
    data: bytes, max_pixels: int, stopped: Callable[[], bool] = lambda: False
) -> np.ndarray:
    """Read a file as `pictures.read_picture` does.

    Raises:
        Refusal: The file cannot be used.
    """
    try:
        return pictures.read_picture(data, max_pixels, stopped)
    except InputError as error:
        raise refusal_of(error) from None


def rgb_of_array(array: np.ndarray, max_pixels: int) -> np.ndarray:
    """Convert an array to [H, W, 3] uint8 RGB, as Image.fromarray(...).convert('RGB') does.

    Raises:
        Refusal: The array is not [H, W], [H, W, 3] or [H, W, 4] uint8, or is too large.
    """
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not fits or 0 in array.shape:
        raise Refusal(
            400,
            f'image has shape {list(array.shape)} and dtype {array.dtype.str}; '
            '[height, width, 3] uint8 RGB is needed',
        )
    try:
        check_size(array.shape[1], array.shape[0], max_pixels)
    except InputError as error:
        raise refusal_of(error) from None
    return np.ascontiguousarray(colours(array)[:, :, :3])
