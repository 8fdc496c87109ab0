"""Places in the image that a reasoning names: boxes of objects, and points of the gripper.

Source: MichalZawalski/embodied-CoT, prismatic/vla/datasets/rlds/dataset.py, which writes the text
of training: `name [left, top, right, bottom], ...` under VISIBLE OBJECTS, and under GRIPPER
POSITION one list `[x, y, x, y, ...]` of now and of the next four steps. Both count pixels of an
image of 256 x 256, whatever the size of the view.
"""

from __future__ import annotations

from collections.abc import Mapping
import re

import numpy as np

SIDE = 256  # [px] of the image in which the numbers count
_MOST = 32  # boxes or points; a model that repeats itself writes more
_LIST = re.compile(r'\[([^\[\]]*)\]')
_BREAK = re.compile(r'[,\[\]]')
_NUMBER = re.compile(r'-?[0-9]+(?:\.[0-9]+)?')


def boxes_of(fields: Mapping[str, str]) -> list[tuple[str, np.ndarray]]:
    """Find the boxes of objects.

    Args:
        fields: Parts of a reasoning by tag, as parse_fields gives them.

    Returns:
        Name, and [4] left, top, right, bottom in sizes of the view, 0 to 1. What cannot be read
        as a box with an inside is left out.
    """
    found = []
    pieces = _LIST.split(fields.get('VISIBLE OBJECTS', ''))
    for before, numbers in list(zip(pieces[::2], pieces[1::2], strict=False))[:_MOST]:
        corners = _numbers(numbers)
        if len(corners) != 4:
            continue
        left, top, right, bottom = np.clip(corners, 0, 1)
        if left < right and top < bottom:
            name = _BREAK.split(before)[-1].strip(' ;.')
            found.append((name, np.array([left, top, right, bottom])))
    return found


def points_of(fields: Mapping[str, str]) -> np.ndarray:
    """Find the points of the gripper: [N, 2] x, y in sizes of the view, now and later.

    The list ends before the first point outside of the view, and before half a point.
    """
    lists = _LIST.split(fields.get('GRIPPER POSITION', ''))[1::2]
    numbers = _numbers(lists[-1]) if lists else np.empty(0)
    points = numbers[: len(numbers) // 2 * 2].reshape(-1, 2)[:_MOST]
    outside = ((points < 0) | (points > 1)).any(1)
    return points[: int(outside.argmax())] if outside.any() else points


def _numbers(text: str) -> np.ndarray:
    """Read numbers between commas; none if anything else is among them."""
    words = [word.strip() for word in text.split(',')]
    if not all(_NUMBER.fullmatch(word) and len(word) < 9 for word in words):
        return np.empty(0)
    # The middle of a pixel, so that the last one, 255, lies as far inside as the first.
    return (np.array([float(word) for word in words]) + 0.5) / SIDE
