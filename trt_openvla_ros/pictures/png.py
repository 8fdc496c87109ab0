"""PNG files taken apart, so that size and end are known before decoding.

Source: W3C PNG, third edition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import struct
import zlib

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.pictures.containers import broken, Container, cut

PNG_START = b'\x89PNG\r\n\x1a\n'
_KEPT = (b'IHDR', b'PLTE', b'IDAT', b'IEND')
# Far more than files have, besides one for each KiB; each costs time, and may be 12 bytes long.
_MAX_CHUNKS = 4096
_MAX_EXIF = 2**16
_PALETTE = 3  # kind of pixels
_VALUES = {2: 3, 4: 2, 6: 4}  # values per pixel of the kinds that have several
# First column and row of each pass over an interlaced PNG, and its steps.
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip


def take_apart_png(data: bytes) -> Container:
    """Take a PNG file apart; only its pixels and its orientation are kept.

    Raises:
        InputError: The file is cut off, broken, or an animation.
    """
    kept, header, names = [PNG_START], b'', set()
    for name, start, end in _chunks(data):
        if (not header) != (name == b'IHDR'):
            raise broken('PNG', f'its chunk {name!r} is where another is needed')
        if name not in _KEPT and not name[0] & 0x20:  # an upper-case letter: not to be skipped
            raise broken('PNG', f'its chunk {name!r} is not known')
        if name == b'acTL' and int.from_bytes(data[start + 8 : start + 12], 'big') > 1:
            raise InputError('image is an animated PNG; save one picture of it')
        sound = zlib.crc32(memoryview(data)[start + 4 : end - 4]) == int.from_bytes(
            data[end - 4 : end], 'big'
        )
        if name in _KEPT and not sound:
            raise broken('PNG', f'the checksum of its chunk {name.decode()} is wrong')
        if name == b'IHDR':
            header = data[start + 8 : end - 4]
            if len(header) != 13:
                raise broken('PNG', f'its header has {len(header)} bytes')
        if name in _KEPT or (name == b'eXIf' and sound and end - start <= _MAX_EXIF):
            kept.append(data[start:end])
        names.add(name)
    width, height, _, kind = struct.unpack_from('>IIBB', header)
    if kind == _PALETTE and b'PLTE' not in names:
        raise broken('PNG', 'it has no palette')
    return Container('PNG', width, height, (b''.join(kept),))


def count_rows(container: Container, check: Callable[[], None]) -> None:
    """Find out whether a PNG has all bytes of its rows; Pillow leaves missing rows black.

    Args:
        container: The file.
        check: Function that is called between parts of the work, and may raise.

    Raises:
        InputError: There are fewer bytes than the rows need.
    """
    file = container.pieces[0]
    compressed = b''.join(
        file[start + 8 : end - 4] for name, start, end in _chunks(file) if name == b'IDAT'
    )
    inflate, length = zlib.decompressobj(), 0
    wanted = _length_of_rows(*struct.unpack_from('>IIBBxxB', file, len(PNG_START) + 8))
    while compressed and not inflate.eof and length < wanted:
        check()
        length += len(inflate.decompress(compressed, 2**20))
        compressed = inflate.unconsumed_tail
    if length < wanted:
        raise broken('PNG', f'its rows have {length} of {wanted} bytes')


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Give name, start and end of every chunk up to the end of the PNG."""
    start = len(PNG_START)
    for _ in range(_MAX_CHUNKS + len(data) // 1024):
        if start + 12 > len(data):
            raise cut('PNG', data)
        length, name = struct.unpack_from('>I4s', data, start)
        end = start + 12 + length
        if end > len(data):
            raise cut('PNG', data)
        yield name, start, end
        if name == b'IEND':
            return
        start = end
    raise InputError('image is a PNG of too many chunks; save it anew')


def _length_of_rows(width: int, height: int, bits: int, kind: int, interlaced: int) -> int:
    """Give the bytes of all rows, each with one for its filter."""
    length = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            length += rows * (1 + -(-columns * bits * _VALUES.get(kind, 1) // 8))
    return length
