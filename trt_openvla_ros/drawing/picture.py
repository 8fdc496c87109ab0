"""Marks at the places in the picture that they speak of: boxes, points and the action's arrow."""

from __future__ import annotations

import numpy as np

from trt_openvla_ros.drawing.content import Content
from trt_openvla_ros.drawing.marks import arrow, Colour, DARK, Dot, Label, Mark, Stroke, WHITE

LABEL = 13.0  # size of names
# Colours of boxes in their order; their names stand beside them, for whoever cannot tell them.
PALETTE: tuple[Colour, ...] = (
    (255, 209, 70),
    (90, 200, 250),
    (140, 235, 120),
    (255, 150, 90),
    (205, 150, 255),
    (255, 140, 190),
)
_POINTS: Colour = (0, 225, 235)


def picture_marks(content: Content, scale: float, unit: float) -> list[Mark]:
    """Give the marks of a picture, in pixels of its copy of another size.

    Args:
        content: What to show, in pixels of the camera's picture.
        scale: Size of the copy in sizes of the picture.
        unit: Unit of the copy [px].
    """
    half = (scale - 1) / 2  # the middle of the first pixel stays at 0
    marks: list[Mark] = []
    names: list[Mark] = []
    for index, box in enumerate(content.boxes):
        colour = PALETTE[index % len(PALETTE)]
        left, top, right, bottom = np.asarray(box.corners, float) * scale + half
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        marks.append(Stroke(corners, colour, 2, closed=True))
        # Above the box, or below its upper edge if there is no room above.
        line = 1.3 * LABEL * unit
        at = top if top > line else top + line
        names.append(Label(np.array([left, at]), box.name, LABEL, DARK, colour))
    points = np.asarray(content.points, float) * scale + half
    if len(points) > 1:
        marks += [Stroke(points, DARK, 4), Stroke(points, _POINTS, 2)]
    for index, point in reversed(list(enumerate(points))):
        # The present place is the largest.
        radius = 6.0 if index == 0 else 3.5
        marks += [Dot(point, radius + 1.5, DARK), Dot(point, radius, _POINTS)]
        if index == 0:
            marks.append(Dot(point, 2, WHITE))
    marks += names
    if content.arrow is not None:
        start, end = np.asarray(content.arrow, float) * scale + half
        marks += arrow(start, end, unit)
    return marks
