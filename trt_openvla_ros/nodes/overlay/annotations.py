"""Marks as foxglove_msgs/msg/ImageAnnotations.

Its pixels begin at the upper left corner of the first pixel, and ours at its middle.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np

from trt_openvla_ros.drawing.lettering import clean
from trt_openvla_ros.drawing.marks import Colour, Dot, Label, Mark, Stroke

_NONE = (0.0, 0.0, 0.0, 0.0)
_GROUND = 0.75  # opacity behind a text


def annotations_of(marks: Iterable[Mark], unit: float, stamp: Any) -> Any:
    """Make a message of marks.

    Args:
        marks: Marks in pixels of the picture; those that are not finite are left out.
        unit: Unit of widths and sizes [px].
        stamp: Stamp of the picture.
    """
    message = _kind('ImageAnnotations')()
    points_kind = _kind('PointsAnnotation')
    for mark in marks:
        if isinstance(mark, Stroke) and np.isfinite(mark.points).all() and len(mark.points):
            closed = mark.closed or mark.filled
            kind = points_kind.LINE_LOOP if closed else points_kind.LINE_STRIP
            message.points.append(
                points_kind(
                    timestamp=stamp,
                    type=kind,
                    points=[_point(point) for point in mark.points],
                    outline_color=_colour(mark.colour),
                    fill_color=_colour(mark.colour) if mark.filled else _rgba(_NONE),
                    thickness=max(mark.width * unit, 1.0),
                )
            )
        elif isinstance(mark, Dot) and np.isfinite(mark.centre).all():
            message.circles.append(
                _kind('CircleAnnotation')(
                    timestamp=stamp,
                    position=_point(mark.centre),
                    diameter=2 * mark.radius * unit,
                    thickness=max(mark.width * unit, 1.0),
                    outline_color=_colour(mark.colour),
                    fill_color=_rgba(_NONE) if mark.width else _colour(mark.colour),
                )
            )
        elif isinstance(mark, Label) and mark.text and np.isfinite(mark.corner).all():
            message.texts.append(
                _kind('TextAnnotation')(
                    timestamp=stamp,
                    position=_point(mark.corner),
                    text=clean(mark.text),
                    font_size=mark.size * unit,
                    text_color=_colour(mark.colour),
                    background_color=_rgba(_NONE)
                    if mark.ground is None
                    else _colour(mark.ground, _GROUND),
                )
            )
    return message


def _kind(name: str) -> Any:
    return getattr(import_module('foxglove_msgs.msg'), name)


def _point(point: np.ndarray) -> Any:
    return _kind('Point2')(x=float(point[0]) + 0.5, y=float(point[1]) + 0.5)


def _colour(colour: Colour, opacity: float = 1.0) -> Any:
    return _rgba((*(part / 255 for part in colour), opacity))


def _rgba(values: tuple[float, ...]) -> Any:
    return _kind('Color')(**dict(zip('rgba', values, strict=True)))
