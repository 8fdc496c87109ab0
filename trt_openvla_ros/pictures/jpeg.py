"""JPEG files taken apart, so that size, scans and end are known before decoding.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
import struct

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.pictures.containers import broken, Container, cut

JPEG_START = b'\xff\xd8\xff'
# No encoder makes more passes over the image; a file with more only keeps a processor busy.
_MAX_SCANS = 64
# Far more than files have; each costs time in Python, and may be only 4 bytes long.
_MAX_SEGMENTS = 8192
_MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')  # not within a scan, and not filling
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_JFIF, _EXIF, _ADOBE, _COMMENT = 0xE0, 0xE1, 0xEE, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # these three hold tables
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
# Stands for the end. No code of a JPEG is all ones, so a decoder that still misses pixels asks for
# more; one that has them all looks at most 8 bytes ahead. At the end itself it would invent them.
_NO_PIXELS = b'\xff\x00' * 8
# Behind the data of each scan. With several scans, the decoder wants an end; what it then invents
# differs from what these bits give. They are arbitrary, without 0xff.
_OTHER_PIXELS = bytes((73 * i * i + 41 * i + 90) % 255 for i in range(64))


def take_apart_jpeg(data: bytes) -> Container:
    """Take a JPEG file apart; only its first picture and its orientation are kept.

    Raises:
        InputError: The file is cut off, broken, or of a kind that is not read.
    """
    return _Walk(data).container()


class _Walk:
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
                raise cut('JPEG', self._data)
            if in_scan:
                self._part.append(self._data[position : found.start()].rstrip(b'\xff'))
                self._parts.append(b''.join(self._part))
                self._part = []
            marker, position, in_scan = found[0][1], found.end(), False
            if marker == _EOI:
                return self._ended()
            if marker == _SOI:
                raise broken('JPEG', 'another picture begins inside of it')
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
            raise cut('JPEG', self._data)
        if length < 2:
            raise broken('JPEG', f'a segment has length {length}')
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
            raise broken('JPEG', 'it describes its size twice')
        if len(content) < 6 or len(content) < 6 + 3 * content[5]:
            raise broken('JPEG', 'the description of its size is too short')
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
            raise broken('JPEG', 'a scan is not described')
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
            raise broken('JPEG', 'it is cut off, some of its scans are missing')
        if self._in_one_scan:
            return Container('JPEG', *self._size, (self._parts[0] + _NO_PIXELS,))
        end = b''.join(self._part) + b'\xff\xd9'
        return Container(
            'JPEG',
            *self._size,
            (*self._parts, end),
            (*(part + _OTHER_PIXELS for part in self._parts), end),
        )
