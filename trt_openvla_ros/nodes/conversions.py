"""Camera messages to RGB arrays and back: by cv_bridge if it is installed, else by OpenCV.

H, W: size of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import cv2  # noqa: F401 - at the start, and not with the first image
import numpy as np
from rclpy.clock import Clock
from sensor_msgs.msg import CompressedImage, Image

from trt_openvla_ros.pictures import check, decompress, MAX_PIXELS, unpack

# Encodings that every cv_bridge converts as we do; its 16-bit, 8UC and YUV rules vary by version.
_BY_CV_BRIDGE = {'rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8'}


def to_rgb(
    message: Image | CompressedImage,
    max_pixels: int = MAX_PIXELS,
    warn: Callable[[str], object] | None = None,
) -> np.ndarray:
    """Convert a camera image.

    Args:
        message: The image.
        max_pixels: Largest product of width and height.
        warn: Function that gets a sentence if the sender of a compressed image lost its colours.

    Returns:
        [H, W, 3] uint8 RGB; may share memory with the message.

    Raises:
        InputError: The encoding is not a colour or grey image, or the data do not fit the size.
        SizeError: The image has more pixels than max_pixels.
    """
    if isinstance(message, CompressedImage):
        return decompress(message, max_pixels, warn)
    bridge = _cv_bridge()
    if bridge is None or message.encoding not in _BY_CV_BRIDGE:
        return unpack(message, max_pixels)
    check(message, max_pixels)
    return bridge.imgmsg_to_cv2(message, desired_encoding='rgb8')


def to_message(image: np.ndarray) -> Image:
    """Make an rgb8 message of [H, W, 3] uint8 RGB; the header is left to the caller."""
    height, width = image.shape[:2]
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
    # Bytes and not an array: the setter would check every element in Python.
    message.data.frombytes(np.ascontiguousarray(image).tobytes())
    return message


@cache
def _cv_bridge() -> ModuleType | None:
    try:
        import cv_bridge
    except (ImportError, AttributeError):  # absent, or built for another numpy
        return None
    # cv_bridge hides that its C++ half did not load (another numpy again), and crashes later.
    return cv_bridge.CvBridge() if hasattr(cv_bridge, 'getCvType') else None


def stamp_of(message: Any) -> int:
    """Give the stamp of a message [ns]; negative ones, which rclpy's Time refuses, included."""
    return 10**9 * message.header.stamp.sec + message.header.stamp.nanosec


def age_of(message: Image | CompressedImage, clock: Clock) -> float:
    """Give the age of an image by a clock [s]; negative if its stamp lies in the future."""
    return (clock.now().nanoseconds - stamp_of(message)) * 1e-9
