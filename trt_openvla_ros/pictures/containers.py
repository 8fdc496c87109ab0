"""JPEG and PNG files taken apart, so that size, scans and end are known before decoding.

Only what makes pixels, and the orientation, is kept for the decoder: neither further pictures
(MPO) nor colour profiles, comments or compressed texts reach it.

Sources: ITU-T T.81, annex B; W3C PNG, third edition.
"""

from __future__ import annotations

from dataclasses import dataclass
import re
import struct
import zlib

from trt_openvla_ros.errors import InputError

PNG_START = b'\x89PNG\r\n\x1a\n'
JPEG_START = b'\xff\xd8\xff'
# No encoder makes more passes over the image; a file with more only keeps a processor busy.
_MAX_SCANS = 64
# Far more than files have; each costs time in Python, and may be only 4 bytes long.
_MAX_SEGMENTS = 8192
_MAX_EXIF = 2**16

_MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')  # not within a scan, and not filling
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_JFIF, _EXIF, _ADOBE, _COMMENT = 0xE0, 0xE1, 0xEE, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # these three hold tables
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
# No code of a JPEG is all ones, so a decoder that still misses pixels asks for more behind it; one
# that has them all looks at most 8 bytes ahead.
_NO_PIXELS = b'\xff\x00' * 8
# Bits that would change what is missing; the constant is arbitrary, without 0xff.
_OTHER_PIXELS = bytes((73 * i * i + 41 * i + 90) % 255 for i in range(64))


@dataclass(frozen=True)
class Container:
    """A file that may be decoded.

    Attributes:
        kind: Pillow's name of the format.
        width: Size before it is turned upright.
        height: Size before it is turned upright.
        pieces: The file for the decoder, in pieces between which decoding may be stopped.
        doubled: The same with bits that a complete file does not use; empty if the decoder of
            `pieces` itself finds out what is missing.
    """

    kind: str
    width: int
    height: int
    pieces: tuple[bytes, ...]
    doubled: tuple[bytes, ...] = ()


def take_apart(data: bytes) -> Container:
    """Take a JPEG or PNG file apart.

    Raises:
        InputError: It is another file, is cut off, or is of a kind that is not read.
    """
    if data.startswith(JPEG_START):
        return _Jpeg(data).container()
    if data.startswith(PNG_START):
        return _png(data)
    raise InputError(_what_else(data))


class _Jpeg:
    """The walk through the segments of a JPEG file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size: tuple[int, int] | None = None
        self._frame = self._scans = 0
        self._exif = self._in_one_scan = False
        self._unfinished: dict[int, set[int]] = {}  # coefficients that a component still lacks
        self._part: list[bytes] = [b'\xff\xd8']
        self._parts: list[bytes] = []

    def container(self) -> Container:
        position = 2
        in_scan = False
        for _ in range(_MAX_SEGMENTS):
            found = _MARKER.search(self._data, position)
            if found is None:
                raise _cut('JPEG', self._data)
            if in_scan:
                self._part.append(self._data[position : found.start()].rstrip(b'\xff'))
                self._parts.append(b''.join(self._part))
                self._part = []
            marker, position, in_scan = found[0][1], found.end(), False
            if marker == _EOI:
                return self._ended()
            if marker == _SOI:
                raise _broken('JPEG', 'another picture begins inside of it')
            if marker == _TEM:
                continue
            content = self._segment(position)
            position += 2 + len(content)
            self._take(marker, content)
            in_scan = marker == _SOS
        raise InputError(f'image is a JPEG with more than {_MAX_SEGMENTS} segments; save it anew')

    def _segment(self, position: int) -> bytes:
        length = int.from_bytes(self._data[position : position + 2], 'big')
        if position + length > len(self._data) or position + 2 > len(self._data):
            raise _cut('JPEG', self._data)
        if length < 2:
            raise _broken('JPEG', f'a segment has length {length}')
        return self._data[position + 2 : position + length]

    def _take(self, marker: int, content: bytes) -> None:
        if marker in _FRAMES:
            self._take_frame(marker, content)
        elif marker == _SOS:
            self._take_scan(content)
        elif marker == _EXIF and content.startswith(b'Exif\0\0') and not self._exif:
            self._exif = True
        elif marker == _COMMENT or (marker & 0xF0 == 0xE0 and marker not in (_JFIF, _ADOBE)):
            return
        self._part.append(struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content)

    def _take_frame(self, marker: int, content: bytes) -> None:
        if self._size is not None:
            raise _broken('JPEG', 'it describes its size twice')
        if len(content) < 6 or len(content) < 6 + 3 * content[5]:
            raise _broken('JPEG', 'the description of its size is too short')
        bits, height, width, components = struct.unpack_from('>BHHB', content)
        if marker not in (_BASELINE, _EXTENDED, _PROGRESSIVE) or bits != 8:
            raise InputError(
                f'image is a JPEG of kind SOF{marker - 0xC0} with {bits} bits; save it as '
                'baseline or progressive JPEG with 8 bits'
            )
        if components not in (1, 3, 4):
            raise InputError(f'image is a JPEG with {components} components; save it in RGB')
        self._frame, self._size = marker, (width, height)
        self._unfinished = {content[6 + 3 * i]: set(range(64)) for i in range(components)}

    def _take_scan(self, content: bytes) -> None:
        components = content[0] if content else 0
        if self._size is None or not components or len(content) < 4 + 2 * components:
            raise _broken('JPEG', 'a scan is not described')
        self._scans += 1
        if self._scans > _MAX_SCANS:
            raise InputError(f'image is a JPEG with more than {_MAX_SCANS} scans; save it anew')
        first, last, precision = content[1 + 2 * components : 4 + 2 * components]
        if self._frame != _PROGRESSIVE:
            first, last, precision = 0, 63, 0
            if self._scans == 1:
                self._in_one_scan = components == len(self._unfinished)
        if precision & 0x0F == 0:
            for i in range(components):
                self._unfinished.get(content[1 + 2 * i], set()).difference_update(
                    range(first, last + 1)
                )

    def _ended(self) -> Container:
        if self._size is None or any(self._unfinished.values()):
            raise _broken('JPEG', 'it is cut off, some of its scans are missing')
        if self._in_one_scan:
            return Container('JPEG', *self._size, (self._parts[0] + _NO_PIXELS,))
        end = b''.join(self._part) + b'\xff\xd9'
        return Container(
            'JPEG',
            *self._size,
            (*self._parts, end),
            (*(part + _OTHER_PIXELS for part in self._parts), end),
        )


def _png(data: bytes) -> Container:
    kept, size, kind, exif, palette = [PNG_START], None, 0, False, False
    position = len(PNG_START)
    for _ in range(_MAX_SEGMENTS + len(data) // 1024):
        if position + 12 > len(data):
            raise _cut('PNG', data)
        length, name = struct.unpack_from('>I4s', data, position)
        end = position + 12 + length
        if end > len(data):
            raise _cut('PNG', data)
        content = data[position + 8 : end - 4]
        if (size is None) != (name == b'IHDR'):
            raise _broken('PNG', f'chunk {name!r} where another is needed')
        take = name in (b'IHDR', b'PLTE', b'IDAT', b'IEND')
        if not take and not name[0] & 0x20:  # an upper-case letter: not to be skipped
            raise _broken('PNG', f'chunk {name!r} is not known')
        if name == b'IHDR':
            if length != 13:
                raise _broken('PNG', 'its header has another length')
            *size, _, kind = struct.unpack_from('>IIBB', content)
        elif name == b'acTL' and int.from_bytes(content[:4], 'big') > 1:
            raise InputError('image is an animated PNG; save one picture of it')
        elif name == b'eXIf' and length <= _MAX_EXIF and not exif:
            take = exif = zlib.crc32(data[position + 4 : end - 4]) == _crc(data, end)
        if take:
            if zlib.crc32(data[position + 4 : end - 4]) != _crc(data, end):
                raise _broken('PNG', f'the checksum of its chunk {name.decode()} is wrong')
            kept.append(data[position:end])
        palette = palette or name == b'PLTE'
        if name == b'IEND':
            if kind == 3 and not palette:
                raise _broken('PNG', 'it has no palette')
            return Container('PNG', *size, (b''.join(kept),))
        position = end
    raise InputError('image is a PNG of too many chunks; save it anew')


def _crc(data: bytes, end: int) -> int:
    return int.from_bytes(data[end - 4 : end], 'big')


def _cut(kind: str, data: bytes) -> InputError:
    return _broken(kind, f'it is cut off, {len(data)} bytes have no end')


def _broken(kind: str, why: str) -> InputError:
    return InputError(f'image is a broken {kind} file: {why}')


def _what_else(data: bytes) -> str:
    """Say what a file is, of which none of the doors takes pixels."""
    if data[12:20] == PNG_START:  # image_transport's header: a format and two floats
        return 'image is a depth image (compressedDepth); take an image with colours'
    starts = {
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
    name = next((name for start, name in starts.items() if data.startswith(start)), '')
    if data.startswith(b'RIFF') and data[8:12] == b'WEBP':
        name = 'WebP'
    elif data[4:8] == b'ftyp':
        name = 'HEIF, AVIF or a film'
    but = f', but {name}; save it as one of them' if name else ''
    return f'image is neither a JPEG nor a PNG file{but}'
