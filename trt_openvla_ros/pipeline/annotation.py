"""A picture of one prediction: the image, the instruction, and the model's answer."""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trt_openvla_ros.contracts import MOTION, Prediction

_WIDTH = 640  # [px] of the picture
_MARGIN, _LINE, _BAR = 12, 20, 220  # [px]
_COLUMNS = 78  # characters of a line of text
_MOST_REASONING = 24  # lines
_PAPER, _INK, _FAINT, _ACCENT = (255, 255, 255), (20, 20, 20), (200, 200, 200), (30, 100, 200)
_ROWS = (
    *((name, 'm') for name in MOTION[:3]),
    *((name, 'rad') for name in MOTION[3:]),
    ('gripper', ''),
)


def annotate(image: np.ndarray, instruction: str, prediction: Prediction) -> Image.Image:
    """Draw a prediction.

    Args:
        image: [H, W, 3] uint8 RGB, as the camera gave it.
        instruction: Instruction of the user.
        prediction: Prediction for the image and the instruction.

    Returns:
        The image with the action and the reasoning below it. Each dimension has its value in its
        unit, and a bar whose scale is the 1st to the 99th percentile of the training data.
    """
    picture = Image.fromarray(image)
    height = round(picture.height * _WIDTH / picture.width)
    reasoning = textwrap.wrap(prediction.reasoning, _COLUMNS)
    if len(reasoning) > _MOST_REASONING:
        reasoning = [*reasoning[: _MOST_REASONING - 1], '...']
    asked = textwrap.wrap(f'"{instruction}"', _COLUMNS)
    lines = len(asked) + len(prediction.action) + 1 + len(reasoning)
    page = Image.new('RGB', (_WIDTH, height + lines * _LINE + 3 * _MARGIN), _PAPER)
    page.paste(picture.resize((_WIDTH, height), Image.Resampling.LANCZOS), (0, 0))
    draw = ImageDraw.Draw(page)
    font = _font()
    y = height + _MARGIN
    for text in asked:
        draw.text((_MARGIN, y), text, _ACCENT, font)
        y += _LINE
    for index, value in enumerate(prediction.action):
        name, unit = _ROWS[index] if len(prediction.action) == len(_ROWS) else (f'{index}', '')
        draw.text((_MARGIN, y), name, _INK, font)
        draw.text((_MARGIN + 70, y), f'{value:+.4f} {unit}', _INK, font)
        _draw_bar(draw, y, float(prediction.normalised_action[index]))
        y += _LINE
    seconds = prediction.timings.get('total', 0.0)
    facts = f'{seconds * 1e3:.0f} ms   statistics of {prediction.unnorm_key}'
    draw.text((_MARGIN, y), facts, _INK, font)
    y += _LINE + _MARGIN
    for text in reasoning:
        draw.text((_MARGIN, y), text, _INK, font)
        y += _LINE
    return page


def _draw_bar(draw: ImageDraw.ImageDraw, y: int, value: float) -> None:
    """Draw a value of [-1, 1] from the middle of its scale."""
    right = _WIDTH - _MARGIN
    left, middle = right - _BAR, right - _BAR / 2
    top, bottom = y + 4, y + _LINE - 4
    draw.rectangle((left, top, right, bottom), outline=_FAINT)
    end = middle + value * _BAR / 2
    draw.rectangle((min(middle, end), top, max(middle, end), bottom), fill=_ACCENT)
    draw.line((middle, top - 2, middle, bottom + 2), fill=_INK)


def _font() -> ImageFont.ImageFont:
    try:
        return ImageFont.load_default(14)
    except (TypeError, ImportError):  # Pillow before 10.1, or built without FreeType
        return ImageFont.load_default()
