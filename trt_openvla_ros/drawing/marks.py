"""Marks in a picture: what is painted into pixels here, and what Foxglove draws by itself.

A point [2] is (x right, y down) in pixels; the middle of the first pixel is (0, 0), as in
sensor_msgs/msg/CameraInfo. Widths and sizes are in units, which `unit_of` gives for a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

Colour = tuple[int, int, int]  # red, green, blue from 0 to 255

ACCENT: Colour = (230, 0, 80)
DARK: Colour = (16, 18, 24)
WHITE: Colour = (255, 255, 255)

_REFERENCE = 480  # [px] height of a picture in which a unit is a pixel
_TALLEST = 4  # widths of a picture that count in its height: text of a column has no room
_HEAD = (14.0, 8.0)  # length of an arrow's head, and half its width
_SHORTEST = 8.0  # length of an arrow below which it is a ring: its direction says nothing


@dataclass(frozen=True)
class Stroke:
    """A line through points [N, 2], or the outline or the inside of the polygon that they make."""

    points: np.ndarray
    colour: Colour
    width: float = 2.0
    closed: bool = False
    filled: bool = False


@dataclass(frozen=True)
class Dot:
    """A disc, or a ring of a width if it is hollow."""

    centre: np.ndarray
    radius: float
    colour: Colour
    width: float = 0.0


@dataclass(frozen=True)
class Label:
    """One line of text; corner is its bottom left, size the height of its letters' box.

    Attributes:
        ground: Colour behind the text; None leaves the picture.
    """

    corner: np.ndarray
    text: str
    size: float
    colour: Colour = WHITE
    ground: Colour | None = None


Mark = Stroke | Dot | Label


def unit_of(height: int, width: int) -> float:
    """Give the unit [px] of a picture of a height and a width [px]."""
    return min(height, _TALLEST * width) / _REFERENCE


def arrow(start: np.ndarray, end: np.ndarray, unit: float, colour: Colour = ACCENT) -> list[Mark]:
    """Draw an arrow between two points [2] px, with a dot where it starts.

    An arrow that is too short to have a direction is a ring around the dot.
    """
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = end - start
    length = float(np.hypot(*along))
    dot: list[Mark] = [Dot(start, 7, DARK), Dot(start, 5, colour)]
    if not np.isfinite(length):
        return []
    if length < _SHORTEST * unit:
        return [*dot, Dot(start, 9, colour, width=2)]
    along = along / length
    across = np.array([-along[1], along[0]])
    long, wide = (unit * part for part in _HEAD)
    neck = end - min(long, length) * along
    head = np.array([end, neck + wide * across, neck - wide * across])
    shaft = np.array([start, neck])
    return [
        Stroke(shaft, DARK, 8),
        Stroke(head, DARK, 4, closed=True),
        *dot,
        Stroke(shaft, colour, 5),
        Stroke(head, colour, filled=True, closed=True),
    ]


def moved(marks: Iterable[Mark], scale: float) -> list[Mark]:
    """Give marks of a picture for its copy in another size."""
    half = (scale - 1) / 2  # the middle of the first pixel stays at 0

    def place(point: np.ndarray | Sequence[float]) -> np.ndarray:
        return np.asarray(point, float) * scale + half

    found: list[Mark] = []
    for mark in marks:
        if isinstance(mark, Stroke):
            found.append(replace(mark, points=place(mark.points)))
        elif isinstance(mark, Dot):
            found.append(replace(mark, centre=place(mark.centre)))
        else:
            found.append(replace(mark, corner=place(mark.corner)))
    return found
