"""Text as pixels: how wide it is, where its lines break, and its letters as a mask."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trt_openvla_ros.errors import ConfigError

LINE = 1.3  # height of a line of text in its sizes
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
    """Break a text into lines of at most a width [px]; a longer word is broken too."""
    lines: list[str] = []
    line = ''
    for word in clean(text).split(' '):
        trial = f'{line} {word}' if line else word
        if width_of(trial, size, path) <= width:
            line = trial
            continue
        if line:
            lines.append(line)
        line = word
        while width_of(line, size, path) > width and len(line) > 1:
            count = len(line) - 1
            while count > 1 and width_of(line[:count], size, path) > width:
                count -= 1
            lines.append(line[:count])
            line = line[count:]
    return (*lines, line) if line else tuple(lines)
