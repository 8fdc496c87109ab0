"""JPEG, PNG and arrays to RGB images; limits are checked before decoding."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

from trt_openvla_ros.serving.refusal import Refusal

# No encoder makes more passes over the image; a file with more only keeps a processor busy.
_MAX_SCANS = 64
_START_OF_SCAN = b'\xff\xda'
# 16-bit images would be cut to 8 bits by PIL without scaling them.
_MODES = frozenset(('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr'))
# Errors that Pillow and its plugins raise for broken files.
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
    EOFError, RuntimeError, AssertionError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


def read_picture(data: bytes, max_pixels: int) -> np.ndarray:
    """Decode a JPEG or PNG file, turned upright as its EXIF says.

    Args:
        data: The file.
        max_pixels: Largest product of width and height; checked before decoding.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        Refusal: The file is not JPEG or PNG, is broken, or is too large.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=('JPEG', 'PNG'))
    except Image.DecompressionBombError:  # Pillow's own limit, far beyond any camera
        raise Refusal(
            413, f'image has too many pixels; at most {max_pixels} are accepted'
        ) from None
    except _BROKEN:
        raise Refusal(400, 'image is neither a JPEG nor a PNG file') from None
    check_size(*picture.size, max_pixels)
    if picture.format == 'JPEG' and data.count(_START_OF_SCAN) > _MAX_SCANS:
        raise Refusal(400, f'image is a JPEG with more than {_MAX_SCANS} scans; save it anew')
    if picture.mode not in _MODES:
        raise Refusal(400, f'image has pixels of kind {picture.mode}; 8-bit RGB is needed')
    try:
        return np.asarray(ImageOps.exif_transpose(picture).convert('RGB'))
    except _BROKEN as error:
        raise Refusal(400, f'image is a broken {picture.format} file: {error}') from None


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
    check_size(array.shape[1], array.shape[0], max_pixels)
    if array.ndim == 3:
        return np.ascontiguousarray(array[:, :, :3])
    return np.repeat(array[:, :, None], 3, axis=2)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image of more than max_pixels."""
    if width * height > max_pixels:
        raise Refusal(
            413, f'image has {width} x {height} pixels; at most {max_pixels} are accepted'
        )
