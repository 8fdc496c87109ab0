"""Text as pixels: how wide it is, where its lines break, and its letters as a mask."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trt_openvla_ros.errors import ConfigError

LINE = 1.3  # height of a line of text in its sizes
MOST = 8000  # characters of a text that are shown; no picture has room for them
_KEPT = 1024  # lines of text whose pixels are kept: those of a few frames


def clean(text: str) -> str:
    """Make one line of a text, without characters that no font shows."""
    return ''.join(c if c.isprintable() else '\N{REPLACEMENT CHARACTER}' for c in fold(text))


def fold(text: str) -> str:
    """Make one space of every run of white space."""
    return ' '.join(text.split())


@lru_cache(maxsize=64)
def font_of(size: int, path: str = '') -> ImageFont.FreeTypeFont:
    """Open a font in a size [px].

    Args:
        size: Size [px].
        path: TrueType or OpenType file; '' takes Pillow's own, which has Latin letters only.

    Raises:
        ConfigError: The file is not a font.
    """
    if not path:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(path, size)
    except OSError as error:
        raise ConfigError(f'font {path!r} cannot be read ({error}); give a .ttf file') from error


@lru_cache(maxsize=4 * _KEPT)
def width_of(text: str, size: int, path: str = '') -> float:
    """Give the width of one line of text [px]."""
    return float(font_of(size, path).getlength(text))


@lru_cache(maxsize=_KEPT)
def mask_of(text: str, size: int, path: str = '') -> np.ndarray:
    """Give the letters of one line: [line height, width] uint8, 255 where there is ink."""
    width = max(1, int(np.ceil(width_of(text, size, path))))
    picture = Image.new('L', (width, round(LINE * size)))
    # Anchored by ascender, so that lines of one size stand on one base line each.
    ImageDraw.Draw(picture).text((0, 0), text, 255, font_of(size, path), anchor='la')
    return np.asarray(picture)


@lru_cache(maxsize=_KEPT)
def wrap(text: str, width: float, size: int, path: str = '') -> tuple[str, ...]:
    """Break the first MOST characters of a text into lines of at most a width [px].

    A longer word is broken too.
    """
    lines: list[str] = []
    line = ''
    for word in clean(text[:MOST]).split(' '):
        trial = f'{line} {word}' if line else word
        if width_of(trial, size, path) <= width:
            line = trial
            continue
        if line:
            lines.append(line)
        line = word
        while (count := _fitting(line, width, size, path)) < len(line):
            lines.append(line[:count])
            line = line[count:]
    return (*lines, line) if line else tuple(lines)


def _fitting(text: str, width: float, size: int, path: str) -> int:
    """Count the first characters that fit into a width [px], at least one."""

    def wide(count: int) -> float:
        return width_of(text[:count], size, path)

    # From the front: a text is many times as long as a line, and measuring takes its length.
    most = 1
    while most < len(text) and wide(most) <= width:
        most = min(2 * most, len(text))
    return max(1, bisect_right(range(1, most + 1), width, key=wide))
