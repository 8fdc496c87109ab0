"""What is known of a file before it is decoded: its size, and what a decoder gets of it."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.errors import InputError


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


def cut(kind: str, data: bytes) -> InputError:
    """Make the error for a file without its end."""
    return broken(kind, f'it is cut off, {len(data)} bytes have no end')


def broken(kind: str, why: str) -> InputError:
    """Make the error for a file that breaks the rules of its format."""
    return InputError(f'image is a broken {kind} file: {why}')
