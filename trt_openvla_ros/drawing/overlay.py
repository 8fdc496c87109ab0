"""One picture with everything in it.

H, W: size of the camera's picture.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from trt_openvla_ros.drawing.content import Content
from trt_openvla_ros.drawing.marks import Mark, unit_of
from trt_openvla_ros.drawing.paint import paint, shade
from trt_openvla_ros.drawing.panel import GROUND, panel_marks, WIDTH
from trt_openvla_ros.drawing.picture import picture_marks
from trt_openvla_ros.pictures import MAX_PIXELS

PANELS = ('beside', 'over', 'none')
_OPACITY = 0.72  # of the ground of a panel over the picture


def draw(
    image: np.ndarray,
    content: Content,
    panel: str = 'beside',
    min_height: int = 480,
    font: str = '',
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Draw everything into a copy of a picture.

    Args:
        image: [H, W, 3] uint8 RGB.
        content: What to show, in pixels of the picture.
        panel: Where the text stands: 'beside', 'over' the left of the picture, or 'none'.
        min_height: A lower picture is enlarged by a whole number until it is so high [px]; 0
            enlarges none.
        font: Font file; '' takes the built-in one, which has Latin letters only.
        max_pixels: Most pixels to which a picture is enlarged.

    Returns:
        [H', W', 3] uint8 RGB.
    """
    height, width = image.shape[:2]
    most = math.isqrt(max_pixels // (height * width))
    scale = max(1, min(math.ceil(min_height / height), most))
    height, width = height * scale, width * scale
    unit = unit_of(height, width)
    wide = round(WIDTH * unit)
    if panel == 'over':
        wide = min(wide, width)
    canvas = np.empty((height, width + (wide if panel == 'beside' else 0), 3), np.uint8)
    picture = canvas[:, :width]
    if scale == 1:
        picture[:] = image
    else:
        picture[:] = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    paint(picture, picture_marks(content, scale, unit), unit, font)
    if panel == 'none':
        return canvas
    if panel == 'beside':
        side = canvas[:, width:]
        side[:] = GROUND
    else:
        side = canvas[:, :wide]
        shade(side, _OPACITY, GROUND)
    paint(side, panel_marks(content, (0, 0, wide, height), unit, font), unit, font)
    return canvas


def flat_marks(content: Content, height: int, width: int, font: str = '') -> list[Mark]:
    """Give everything as marks over a picture [H, W], for a program that draws by itself."""
    unit = unit_of(height, width)
    area = (0, 0, min(WIDTH * unit, width), height)
    return picture_marks(content, 1, unit) + panel_marks(content, area, unit, font, GROUND)
