"""What TensorFlow does to the pictures of OpenVLA's evaluations, without TensorFlow.

All numbers are float32 and all sums in TensorFlow's order, so that every pixel is the same; see
test/data/golden/libero. The methods are those of openvla/openvla, experiments/robot/libero/
libero_utils.py (JPEG, resize) and experiments/robot/openvla_utils.py (crop).

H, W: size of a picture.
"""

from __future__ import annotations

from functools import lru_cache
import io
import math

import numpy as np
from PIL import Image

from trt_openvla_ros.errors import ImageError

# Side of the centre crop, relative to the picture's: 0.9 of the area.
CROP_SIDE = math.sqrt(0.9)
# libjpeg allows no longer side. Lanczos has the same limit, so that its weights stay small.
MAX_SIDE = 65500  # [px]
_QUALITY = 95  # TensorFlow's default
_LOBES = np.float32(3)
_BLOCK = 32  # rows that are summed up together, so that they stay in a core's cache


def check_side(image: np.ndarray) -> None:
    """Raise ImageError if a picture [H, W, 3] is too long for `jpeg_round_trip` or `lanczos3`."""
    height, width = image.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            f'a picture of {width} x {height} cannot be preprocessed; sides up to {MAX_SIDE} px '
            'are possible'
        )


def jpeg_round_trip(image: np.ndarray) -> np.ndarray:
    """Write a picture [H, W, 3] uint8 RGB as JPEG, and read it as TensorFlow does.

    Raises:
        ImageError: The picture is too long.
    """
    # Not Pillow's or OpenCV's decoder, because neither has the fast DCT.
    from simplejpeg import decode_jpeg

    check_side(image)
    file = io.BytesIO()
    # The pixels do not depend on dpi, but so the whole file is TensorFlow's.
    Image.fromarray(image).save(file, 'JPEG', quality=_QUALITY, dpi=(300, 300))
    return decode_jpeg(file.getvalue(), colorspace='RGB', fastdct=True, fastupsample=False)


def lanczos3(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a picture [H, W, 3] uint8 as tf.image.resize does, with antialias.

    Raises:
        ImageError: The picture is too long.
    """
    check_side(image)
    rows = _resample(image.astype(np.float32), height)
    columns = _resample(rows.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return np.clip(np.rint(columns), 0, 255).astype(np.uint8)


def center_crop(image: np.ndarray) -> np.ndarray:
    """Enlarge the middle 0.9 of the area of [H, W, 3] uint8 to [H, W, 3].

    Source: tf.image.crop_and_resize, between two calls of tf.image.convert_image_dtype.
    """
    height, width = image.shape[:2]
    (top, bottom, down), (left, right, across) = _crop_places(height), _crop_places(width)
    values = image.astype(np.float32) * np.float32(1 / 255)
    first, last = values[:, left], values[:, right]
    values = first + (last - first) * across[:, None]
    first, last = values[top], values[bottom]
    values = first + (last - first) * down[:, None, None]
    return (np.clip(values, 0, 1) * np.float32(255.5)).astype(np.uint8)


def _resample(values: np.ndarray, size: int) -> np.ndarray:
    """Resample the first axis of [N, M, 3] float32 to size."""
    places, weights = _taps(len(values), size)
    source = np.ascontiguousarray(values).reshape(len(values), -1)
    sums = np.empty((size, source.shape[1]), np.float32)
    for start in range(0, size, _BLOCK):
        block = slice(start, start + _BLOCK)
        total = sums[block]
        total[:] = 0
        term = np.empty_like(total)
        for tap in range(weights.shape[1]):
            # A mode other than 'raise' lets numpy write into `out` without a copy.
            np.take(source, places[block, tap], axis=0, out=term, mode='clip')
            term *= weights[block, tap, None]
            total += term
    return sums.reshape(size, *values.shape[1:])


@lru_cache(16)
def _taps(size: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the places [new, K] of the values that are summed up, and their weights [new, K].

    Source: ScaleAndTranslate and LanczosKernelFunc of TensorFlow.
    """
    half, one = np.float32(0.5), np.float32(1)
    scale = one / (np.float32(new) / np.float32(size))
    stretch = max(scale, one)
    middle = (np.arange(new, dtype=np.float32) + half) * scale
    first = np.ceil(middle - _LOBES * stretch - half).astype(np.int64).clip(0)
    last = np.floor(middle + _LOBES * stretch - half).astype(np.int64).clip(None, size - 1)
    places = first[:, None] + np.arange((last - first).max() + 1)
    distance = np.abs(places.astype(np.float32) + half - middle[:, None]) * (one / stretch)
    pi = np.float32(np.pi)
    with np.errstate(divide='ignore', invalid='ignore'):
        weights = _LOBES * _sine(pi * distance) * _sine(pi * distance / _LOBES)
        weights /= pi * pi * distance * distance
    weights = np.where(distance <= np.float32(0.001), one, weights)
    weights[(distance > _LOBES) | (places > last[:, None])] = 0
    total = np.zeros(new, np.float32)
    for tap in weights.T:
        total += tap
    return places.clip(None, size - 1), weights * (one / total)[:, None]


def _sine(values: np.ndarray) -> np.ndarray:
    # numpy's own sine of float32 differs between processors in the last bit.
    return np.sin(values.astype(np.float64)).astype(np.float32)


@lru_cache(16)
def _crop_places(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give for each of size values the two that it lies between, and its place [0, 1) there."""
    side = np.sqrt(np.float32(0.9))
    start = (np.float32(1) - side) / np.float32(2)
    end = start + side
    before = np.float32(size - 1)
    if size == 1:
        at = np.float32(0.5) * (start + end) * before + np.zeros(1, np.float32)
    else:
        step = (end - start) * before / np.float32(size - 1)
        at = start * before + np.arange(size, dtype=np.float32) * step
    low = np.floor(at)
    return low.astype(np.int64), np.ceil(at).astype(np.int64), at - low
