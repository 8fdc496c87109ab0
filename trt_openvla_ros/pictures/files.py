"""JPEG and PNG files to RGB arrays.

H, W: size of the image.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
import io
from itertools import accumulate
from pathlib import Path
import struct
import time
import zlib

import numpy as np
from PIL import Image

from trt_openvla_ros.errors import InputError, SizeError
from trt_openvla_ros.pictures.containers import Container
from trt_openvla_ros.pictures.jpeg import JPEG_START, take_apart_jpeg
from trt_openvla_ros.pictures.png import count_rows, PNG_START, take_apart_png
from trt_openvla_ros.settings import Setting

MAX_PIXELS = 8 * 2**20  # 4K is 8294400
# Beyond the highest value, Pillow has limits of its own.
PIXELS = Setting(MAX_PIXELS, 'Largest image: width times height [pixels].', low=1, high=2**26)
_MAX_SECONDS = 5.0
_ORIENTATION = 0x0112  # tag of EXIF
# Errors that Pillow and its plugins raise for broken files.
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
    EOFError, RuntimeError, AssertionError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
# First bytes of formats that are told by name.
_OTHERS = {
    b'BM': 'BMP',
    b'GIF8': 'GIF',
    b'II*\0': 'TIFF',
    b'MM\0*': 'TIFF',
    b'II+\0': 'TIFF',
    b'MM\0+': 'TIFF',
    b'\xff\x0a': 'JPEG XL',
    b'\0\0\0\x0cJXL ': 'JPEG XL',
    b'\0\0\0\x0cjP  ': 'JPEG 2000',
    b'\xff\x4f\xff\x51': 'JPEG 2000',
    b'8BPS': 'Photoshop',
}


def read_picture(
    data: bytes, max_pixels: int = MAX_PIXELS, stopped: Callable[[], bool] = lambda: False
) -> np.ndarray:
    """Read a JPEG or PNG file, turned upright as its EXIF says.

    16-bit values are divided by 256. Transparency and colour profiles are ignored.

    Args:
        data: The file.
        max_pixels: Largest product of width and height; checked before decoding.
        stopped: Function that tells whether nobody waits for the image any more.

    Returns:
        [H, W, 3] uint8 RGB; may be read-only.

    Raises:
        InputError: The file is not JPEG or PNG, is broken or cut off, took too long, or was
            stopped.
        SizeError: The file has more pixels than max_pixels.
    """
    pixels, orientation = decode(data, max_pixels, stopped)
    return upright(colours(pixels), orientation)


def read_picture_file(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a picture as `read_picture` does; errors name the file.

    Raises:
        InputError: The file cannot be read, or is no picture as `read_picture` takes it.
    """
    longest = 8 * max_pixels + 2**24  # 16-bit RGBA that is not compressed, and what describes it
    try:
        with Path(path).open('rb') as file:
            data = file.read(longest + 1)
    except OSError as error:
        raise InputError(f'image {path} cannot be read: {error.strerror or error}') from error
    if len(data) > longest:
        raise SizeError(f'image {path} cannot be read: it is longer than {longest} bytes')
    try:
        return read_picture(data, max_pixels)
    except InputError as error:
        raise type(error)(f'image {path} cannot be read: {error}') from error


def decode(
    data: bytes, max_pixels: int, stopped: Callable[[], bool] = lambda: False
) -> tuple[np.ndarray, int]:
    """Decode a file as it is stored, for `read_picture`, whose arguments and errors it has.

    Returns:
        [H, W] or [H, W, 3] uint8, grey or RGB, and the orientation of EXIF, 1 to 8.
    """
    container = _take_apart(data)
    check_size(container.width, container.height, max_pixels)
    if not container.width or not container.height:
        raise InputError(f'image has {container.width} x {container.height} pixels')
    deadline = time.monotonic() + _MAX_SECONDS

    def check() -> None:
        if stopped():
            raise InputError('image was not decoded, because nobody waits for it any more')
        if time.monotonic() > deadline:
            raise InputError(f'image was not decoded within {_MAX_SECONDS:g} s; save it anew')

    pixels, orientation = _decode(container, container.pieces, check)
    if container.doubled:
        again, _ = _decode(container, container.doubled, check)
        if not np.array_equal(pixels, again):
            raise InputError('image is a broken JPEG file: it is cut off inside a scan')
    return pixels, orientation


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise SizeError for an image of more than max_pixels."""
    if width * height > max_pixels:
        raise SizeError(
            f'image has {width} x {height} pixels; at most {max_pixels} are accepted (max_pixels)'
        )


def colours(pixels: np.ndarray) -> np.ndarray:
    """Make [H, W, 3] of [H, W]."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror [H, W, 3] as EXIF's orientation says; unknown ones change nothing."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _take_apart(data: bytes) -> Container:
    """Tell the format of a file by its content, and take it apart."""
    if data.startswith(JPEG_START):
        return take_apart_jpeg(data)
    if data.startswith(PNG_START):
        return take_apart_png(data)
    raise InputError(_what_else(data))


def _what_else(data: bytes) -> str:
    """Say what a file is, of which none of the doors takes pixels."""
    if data[12:20] == PNG_START:  # image_transport's header: a format and two floats
        return 'image is a depth image (compressedDepth); take an image with colours'
    name = next((name for start, name in _OTHERS.items() if data.startswith(start)), '')
    if data.startswith(b'RIFF') and data[8:12] == b'WEBP':
        name = 'WebP'
    elif data[4:8] == b'ftyp':
        name = 'HEIF, AVIF or a film'
    but = f', but {name}; save it as one of them' if name else ''
    return f'image is neither a JPEG nor a PNG file{but}'


class _Feed(io.BytesIO):
    """A file whose every read first asks whether to go on, and ends with a piece at the latest."""

    def __init__(self, pieces: tuple[bytes, ...], check: Callable[[], None]) -> None:
        super().__init__(b''.join(pieces))
        self._ends, self._check = list(accumulate(map(len, pieces))), check

    def read(self, size: int = -1) -> bytes:
        self._check()
        index = bisect_right(self._ends, self.tell())
        left = self._ends[index] - self.tell() if index < len(self._ends) else 0
        return super().read(left if size < 0 else min(size, left))


def _decode(
    container: Container, pieces: tuple[bytes, ...], check: Callable[[], None]
) -> tuple[np.ndarray, int]:
    try:
        with Image.open(_Feed(pieces, check), formats=(container.kind,)) as picture:
            picture.load()
            if container.kind == 'PNG' and not _has_last_row(picture):
                count_rows(container, check)
            return _pixels(picture), _orientation(picture)
    except _BROKEN as error:
        raise InputError(f'image is a broken {container.kind} file: {error}') from None


def _pixels(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith('I'):
        # Pillow would cut 16 bits to 255. Its kind of whole numbers varies by version.
        return (np.asarray(picture) >> 8).astype(np.uint8)
    return np.asarray(picture.convert('L' if picture.mode in ('1', 'L', 'LA') else 'RGB'))


def _has_last_row(picture: Image.Image) -> bool:
    """Tell whether the last row of a PNG is there for sure; a missing one is 0."""
    width, height = picture.size
    last = np.asarray(picture.crop((0, height - 1, width, height)))
    return bool(last.any()) and not picture.info.get('interlace')


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except _BROKEN:  # EXIF that nobody can read turns nothing
        return 1
