"""Marks painted into pixels.

H, W: size of the picture.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from trt_openvla_ros.drawing.lettering import clean, LINE, mask_of
from trt_openvla_ros.drawing.marks import Dot, Label, Mark, Stroke

_SHIFT = 4  # OpenCV's fixed point: bits behind the point
_FAR = 30_000  # [px] beyond which OpenCV's fixed point runs over


def paint(canvas: np.ndarray, marks: Iterable[Mark], unit: float, font: str = '') -> None:
    """Paint marks over a picture, in place and in their order.

    Args:
        canvas: [H, W, 3] uint8 RGB.
        marks: Marks in its pixels; those that are not finite are left out.
        unit: Unit of widths and sizes [px].
        font: Font file; '' takes the built-in one.
    """
    for mark in marks:
        if isinstance(mark, Label):
            _letter(canvas, mark, unit, font)
        elif isinstance(mark, Dot):
            _disc(canvas, mark, unit)
        else:
            _line(canvas, mark, unit)


def shade(canvas: np.ndarray, opacity: float, colour: tuple[int, int, int]) -> None:
    """Lay a colour over a picture or a part of one, in place."""
    canvas[:] = cv2.addWeighted(
        canvas, 1 - opacity, np.full_like(canvas, colour), opacity, 0
    ).reshape(canvas.shape)


def _fixed(points: np.ndarray) -> np.ndarray | None:
    points = np.asarray(points, float)
    if not np.isfinite(points).all():
        return None
    return np.rint(np.clip(points, -_FAR, _FAR) * (1 << _SHIFT)).astype(np.int32)


def _thick(width: float, unit: float) -> int:
    return max(1, round(width * unit))


def _line(canvas: np.ndarray, stroke: Stroke, unit: float) -> None:
    points = _fixed(stroke.points)
    if points is None or len(points) == 0:
        return
    if stroke.filled:
        cv2.fillPoly(canvas, [points], stroke.colour, cv2.LINE_AA, _SHIFT)
    else:
        thick = _thick(stroke.width, unit)
        cv2.polylines(canvas, [points], stroke.closed, stroke.colour, thick, cv2.LINE_AA, _SHIFT)


def _disc(canvas: np.ndarray, dot: Dot, unit: float) -> None:
    centre = _fixed(dot.centre)
    if centre is not None:
        radius = round(dot.radius * unit * (1 << _SHIFT))
        thick = _thick(dot.width, unit) if dot.width else cv2.FILLED
        at = (int(centre[0]), int(centre[1]))
        cv2.circle(canvas, at, radius, dot.colour, thick, cv2.LINE_AA, _SHIFT)


def _letter(canvas: np.ndarray, label: Label, unit: float, font: str) -> None:
    text = clean(label.text)
    if not text or not np.isfinite(label.corner).all():
        return
    size = max(8, round(label.size * unit))
    mask = mask_of(text, size, font)
    height, width = mask.shape
    pad = round(0.25 * size) if label.ground is not None else 0
    # A label that would hang over an edge moves inside, as far as it fits.
    left = round(float(label.corner[0]))
    left = max(min(left, canvas.shape[1] - width - 2 * pad), 0)
    top = round(float(label.corner[1])) - round(LINE * size)
    top = max(min(top, canvas.shape[0] - height), 0)
    if label.ground is not None:
        canvas[top : top + height, left : left + width + 2 * pad] = label.ground
        left += pad
    part = canvas[top : top + height, left : left + width]
    ink = mask[: part.shape[0], : part.shape[1], None].astype(np.uint16)
    mixed = part * (255 - ink) + np.array(label.colour, np.uint16) * ink
    part[:] = (mixed + 127) // 255
