"""Conversion of camera messages, from a running node or from a bag, to RGB arrays.

H, W: size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from trt_openvla_ros.errors import InputError


@dataclass(frozen=True)
class _Encoding:
    """The form of an encoding in memory.

    Attributes:
        channels: Values per pixel.
        code: OpenCV's code of the conversion to RGB; None if the encoding is RGB.
        dtype: Type of one value.
        row_factor: Rows in memory per row of the image (NV21 appends its colours).
    """

    channels: int
    code: int | None
    dtype: type = np.uint8
    row_factor: float = 1.0


# OpenCV names Bayer patterns by the second row's second and third pixel: its BG is our RGGB.
_ENCODINGS = {
    'rgb8': _Encoding(3, None),
    'bgr8': _Encoding(3, cv2.COLOR_BGR2RGB),
    'rgba8': _Encoding(4, cv2.COLOR_RGBA2RGB),
    'bgra8': _Encoding(4, cv2.COLOR_BGRA2RGB),
    'mono8': _Encoding(1, cv2.COLOR_GRAY2RGB),
    '8UC1': _Encoding(1, cv2.COLOR_GRAY2RGB),
    '8UC3': _Encoding(3, cv2.COLOR_BGR2RGB),
    '8UC4': _Encoding(4, cv2.COLOR_BGRA2RGB),
    'mono16': _Encoding(1, cv2.COLOR_GRAY2RGB, np.uint16),
    'rgb16': _Encoding(3, None, np.uint16),
    'bgr16': _Encoding(3, cv2.COLOR_BGR2RGB, np.uint16),
    'rgba16': _Encoding(4, cv2.COLOR_RGBA2RGB, np.uint16),
    'bgra16': _Encoding(4, cv2.COLOR_BGRA2RGB, np.uint16),
    'uyvy': _Encoding(2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422': _Encoding(2, cv2.COLOR_YUV2RGB_UYVY),
    'yuyv': _Encoding(2, cv2.COLOR_YUV2RGB_YUYV),
    'yuv422_yuy2': _Encoding(2, cv2.COLOR_YUV2RGB_YUYV),
    'nv21': _Encoding(1, cv2.COLOR_YUV2RGB_NV21, row_factor=1.5),
    'bayer_rggb8': _Encoding(1, cv2.COLOR_BayerRGGB2RGB),
    'bayer_bggr8': _Encoding(1, cv2.COLOR_BayerBGGR2RGB),
    'bayer_gbrg8': _Encoding(1, cv2.COLOR_BayerGBRG2RGB),
    'bayer_grbg8': _Encoding(1, cv2.COLOR_BayerGRBG2RGB),
    'bayer_rggb16': _Encoding(1, cv2.COLOR_BayerRGGB2RGB, np.uint16),
    'bayer_bggr16': _Encoding(1, cv2.COLOR_BayerBGGR2RGB, np.uint16),
    'bayer_gbrg16': _Encoding(1, cv2.COLOR_BayerGBRG2RGB, np.uint16),
    'bayer_grbg16': _Encoding(1, cv2.COLOR_BayerGRBG2RGB, np.uint16),
}


def unpack(message: Any) -> np.ndarray:
    """Convert a message with the fields of sensor_msgs/msg/Image.

    Returns:
        [H, W, 3] uint8 RGB; may share memory with the message.

    Raises:
        InputError: `check` refuses the message, or OpenCV cannot convert it.
    """
    row, rows = check(message)
    encoding = _ENCODINGS[message.encoding]
    item = np.dtype(encoding.dtype).itemsize
    data = np.frombuffer(message.data, np.uint8, message.step * rows)
    order = '>' if message.is_bigendian else '<'
    pixels = np.ascontiguousarray(data.reshape(rows, message.step)[:, :row])
    pixels = pixels.view(np.dtype(encoding.dtype).newbyteorder(order))
    pixels = pixels.reshape(rows, message.width, encoding.channels)
    if item == 2:
        pixels = (pixels >> 8).astype(np.uint8)
    if encoding.code is None:
        return pixels
    try:
        return cv2.cvtColor(pixels, encoding.code)
    except cv2.error as error:
        raise InputError(
            f'image of {message.width}x{message.height} {message.encoding}: {error}'
        ) from error


def check(message: Any) -> tuple[int, int]:
    """Check that the fields of an image agree.

    Returns:
        Bytes of pixels in a row, and number of rows.

    Raises:
        InputError: The encoding is not a colour or grey image, or the data do not fit the size.
    """
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        raise InputError(
            f'image encoding {message.encoding!r} is not a colour or grey image; '
            f'usable are {", ".join(_ENCODINGS)}'
        )
    height, width = message.height, message.width
    item = np.dtype(encoding.dtype).itemsize
    row = width * encoding.channels * item
    rows = int(height * encoding.row_factor)
    if height < 1 or width < 1 or message.step < row or len(message.data) < message.step * rows:
        raise InputError(
            f'image of {width}x{height} {message.encoding} has step {message.step} and '
            f'{len(message.data)} bytes; at least step {row} and {rows} rows of it are needed'
        )
    return row, rows


def decompress(message: Any) -> np.ndarray:
    """Convert a message with the fields of sensor_msgs/msg/CompressedImage.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        InputError: The data are not a JPEG or PNG file, or the file is cut off.
    """
    data = bytes(message.data)
    # OpenCV 4 fills the missing part of a JPEG with grey, and the policy would act on it.
    whole = b'\xff\xd9' in data if data.startswith(b'\xff\xd8') else bool(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if whole else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(
            f'compressed image of {len(data)} bytes, format {message.format!r}, cannot be '
            'decoded; JPEG and PNG can'
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
