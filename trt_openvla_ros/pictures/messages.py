"""Camera messages, from a running node or from a bag, to RGB arrays.

OpenCV is imported with the first message that needs it, because servers may lack it.

H, W: size of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
import logging
import re
from typing import Any

import numpy as np

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.pictures.files import check_size, colours, decode, MAX_PIXELS, upright

_log = logging.getLogger(__name__)
# Types of OpenCV, by which depth and other measurements come.
_TYPE = re.compile(r'\d+[USF]C\d*')
_FILES = ('', 'jpeg', 'jpg', 'png')


@dataclass(frozen=True)
class _Encoding:
    """The form of an encoding in memory.

    Attributes:
        channels: Values per pixel.
        code: OpenCV's name of the conversion to RGB; None if the encoding is RGB.
        dtype: Type of one value.
        row_factor: Rows in memory per row of the image (NV21 appends its colours).
    """

    channels: int
    code: str | None
    dtype: type = np.uint8
    row_factor: float = 1.0

    @property
    def is_grey(self) -> bool:
        """Whether the camera has no colours."""
        return self.code == 'GRAY2RGB'

    @property
    def is_mosaic(self) -> bool:
        """Whether each value is of one colour, in a Bayer pattern."""
        return self.code is not None and self.code.startswith('Bayer')


# OpenCV names Bayer patterns by the second row's second and third pixel: its BG is our RGGB.
_ENCODINGS = {
    'rgb8': _Encoding(3, None),
    'bgr8': _Encoding(3, 'BGR2RGB'),
    'rgba8': _Encoding(4, 'RGBA2RGB'),
    'bgra8': _Encoding(4, 'BGRA2RGB'),
    'mono8': _Encoding(1, 'GRAY2RGB'),
    '8UC1': _Encoding(1, 'GRAY2RGB'),
    '8UC3': _Encoding(3, 'BGR2RGB'),
    '8UC4': _Encoding(4, 'BGRA2RGB'),
    'mono16': _Encoding(1, 'GRAY2RGB', np.uint16),
    'rgb16': _Encoding(3, None, np.uint16),
    'bgr16': _Encoding(3, 'BGR2RGB', np.uint16),
    'rgba16': _Encoding(4, 'RGBA2RGB', np.uint16),
    'bgra16': _Encoding(4, 'BGRA2RGB', np.uint16),
    'uyvy': _Encoding(2, 'YUV2RGB_UYVY'),
    'yuv422': _Encoding(2, 'YUV2RGB_UYVY'),
    'yuyv': _Encoding(2, 'YUV2RGB_YUYV'),
    'yuv422_yuy2': _Encoding(2, 'YUV2RGB_YUYV'),
    'nv21': _Encoding(1, 'YUV2RGB_NV21', row_factor=1.5),
    'bayer_rggb8': _Encoding(1, 'BayerRGGB2RGB'),
    'bayer_bggr8': _Encoding(1, 'BayerBGGR2RGB'),
    'bayer_gbrg8': _Encoding(1, 'BayerGBRG2RGB'),
    'bayer_grbg8': _Encoding(1, 'BayerGRBG2RGB'),
    'bayer_rggb16': _Encoding(1, 'BayerRGGB2RGB', np.uint16),
    'bayer_bggr16': _Encoding(1, 'BayerBGGR2RGB', np.uint16),
    'bayer_gbrg16': _Encoding(1, 'BayerGBRG2RGB', np.uint16),
    'bayer_grbg16': _Encoding(1, 'BayerGRBG2RGB', np.uint16),
}


def unpack(message: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Convert a message with the fields of sensor_msgs/msg/Image.

    Returns:
        [H, W, 3] uint8 RGB; may share memory with the message.

    Raises:
        InputError: `check` refuses the message, or OpenCV cannot convert it.
    """
    row, rows = check(message, max_pixels)
    encoding = _ENCODINGS[message.encoding]
    data = np.frombuffer(message.data, np.uint8, message.step * rows)
    order = '>' if message.is_bigendian else '<'
    pixels = np.ascontiguousarray(data.reshape(rows, message.step)[:, :row])
    pixels = pixels.view(np.dtype(encoding.dtype).newbyteorder(order))
    pixels = pixels.reshape(rows, message.width, encoding.channels)
    if pixels.itemsize == 2:
        pixels = (pixels >> 8).astype(np.uint8)
    return _convert(pixels, message.encoding, message.height)


def check(message: Any, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Check that the fields of an image agree.

    Returns:
        Bytes of pixels in a row, and number of rows.

    Raises:
        InputError: The encoding is not a colour or grey image, or the data do not fit the size.
        SizeError: The image has more pixels than max_pixels.
    """
    encoding = _encoding(message.encoding)
    height, width = message.height, message.width
    item = np.dtype(encoding.dtype).itemsize
    row = width * encoding.channels * item
    rows = int(height * encoding.row_factor)
    if height < 1 or width < 1 or message.step < row or len(message.data) < message.step * rows:
        raise InputError(
            f'image of {width}x{height} {message.encoding} has step {message.step} and '
            f'{len(message.data)} bytes; at least step {row} and {rows} rows of it are needed'
        )
    check_size(width, height, max_pixels)
    return row, rows


def decompress(
    message: Any, max_pixels: int = MAX_PIXELS, warn: Callable[[str], object] | None = None
) -> np.ndarray:
    """Convert a message with the fields of sensor_msgs/msg/CompressedImage.

    What `format` has before ';' is the encoding of the image before it was compressed, and is
    judged as the encoding of an Image.

    Args:
        message: The message.
        max_pixels: Largest product of width and height; checked before decoding.
        warn: Function that gets a sentence if the sender lost the colours; None logs it once.

    Returns:
        [H, W, 3] uint8 RGB; may be read-only.

    Raises:
        InputError: The encoding is not a colour or grey image, or the data are not a whole JPEG
            or PNG file.
        SizeError: The image has more pixels than max_pixels.
    """
    try:
        encoding = _before_compression(message.format)
        pixels, orientation = decode(bytes(message.data), max_pixels)
        if encoding is not None:
            pixels = _restore(pixels, encoding, message.format, warn or _warn_once)
        return upright(colours(pixels), orientation)
    except InputError as error:
        raise type(error)(
            f'compressed image of {len(message.data)} bytes, format {message.format[:80]!r}, '
            f'cannot be decoded: {error}'
        ) from error


def _before_compression(form: str) -> str | None:
    """Give the encoding that the format of a compressed image names; None if it names none.

    Source: compressed_image_transport writes 'rgb8; jpeg compressed bgr8', others 'jpeg'.
    """
    if 'compresseddepth' in form.lower():
        raise InputError('it is a depth image (compressedDepth); take an image with colours')
    name, semicolon, _ = (part.strip() for part in form.partition(';'))
    named = semicolon or name in _ENCODINGS or _TYPE.fullmatch(name)
    if not named or name.lower() in _FILES:
        return None
    _encoding(name)
    return name


def _restore(
    pixels: np.ndarray, name: str, form: str, warn: Callable[[str], object]
) -> np.ndarray:
    """Give colours to the mosaic of a Bayer camera; tell if colours are lost."""
    encoding = _ENCODINGS[name]
    grey = pixels if pixels.ndim == 2 else pixels[:, :, 0]
    if pixels.ndim == 3 and not (encoding.is_mosaic and (pixels == grey[:, :, None]).all()):
        return pixels  # the sender has made colours of it already
    if encoding.is_mosaic:
        return _convert(grey[:, :, None], name, len(grey))
    if encoding.row_factor != 1:
        raise InputError(f'the colours of {name} are not in it; take the raw topic')
    if not encoding.is_grey:
        warn(
            f'images of format {form[:80]!r} are grey: their sender lost the colours; take the '
            'raw topic, or let the camera publish rgb8'
        )
    return pixels


def _encoding(name: str) -> _Encoding:
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        raise InputError(
            f'image encoding {name[:80]!r} is not a colour or grey image; '
            f'usable are {", ".join(_ENCODINGS)}'
        )
    return encoding


def _convert(pixels: np.ndarray, name: str, height: int) -> np.ndarray:
    """Make RGB [height, W, 3] of [rows, W, channels] uint8 in an encoding."""
    code = _ENCODINGS[name].code
    if code is None:
        return pixels
    import cv2

    try:
        return cv2.cvtColor(pixels, getattr(cv2, f'COLOR_{code}'))
    except cv2.error as error:
        raise InputError(f'image of {pixels.shape[1]}x{height} {name}: {error}') from error


@cache
def _warn_once(text: str) -> None:
    _log.warning(text)
