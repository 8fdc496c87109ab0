"""Images of a bag with their instructions, at random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trt_openvla_ros.bags.reader import BagReader, IMAGES, open_bag, TEXTS
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.pictures import decompress, MAX_PIXELS, unpack


class Bag:
    """The images that have an instruction, in the order of recording.

    As in the node, an instruction applies from its message on, until the next or an empty one.
    """

    def __init__(self, reader: BagReader, images: str, texts: str, section: str) -> None:
        """Index an open bag; callers use `open` instead."""
        self._reader, self._images, self._section = reader, images, section
        reader.require(images, IMAGES, f'{section}.image_topic')
        reader.require(texts, TEXTS, f'{section}.instruction_topic')
        # Time of recording [ns], number among the images of that time, and instruction. In
        # simulation many images share a time: the clock ticks slower than the camera, or stands.
        self._found: list[tuple[int, int, str]] = []
        last, number = None, 0
        instruction = ''
        for message in reader.messages([images, texts]):
            if message.topic == texts:
                instruction = reader.read(message).data.strip()
                continue
            number = number + 1 if message.received == last else 0
            last = message.received
            if instruction:
                self._found.append((message.received, number, instruction))

    @classmethod
    @contextmanager
    def open(cls, path: Path, images: str, texts: str, section: str) -> Iterator[Bag]:
        """Open a bag for the body of a with statement.

        Args:
            path: Directory of the bag, or one file in it.
            images: Recorded topic of the images.
            texts: Recorded topic of the instructions.
            section: Name of the settings' section, for messages.

        Raises:
            ConfigError: The bag cannot be read, or lacks a topic.
        """
        otherwise = f', or save images into a directory and set {section}.folder to it'
        with open_bag(path, otherwise) as reader:
            yield cls(reader, images, texts, section)

    def __len__(self) -> int:
        """Count the images that have an instruction."""
        return len(self._found)

    def seconds(self, index: int) -> float:
        """Give the time [s] of recording since the beginning of the bag."""
        return (self._found[index][0] - self._reader.begin) / 1e9

    def read(self, index: int, max_pixels: int) -> tuple[np.ndarray, str]:
        """Give an image [H, W, 3] uint8 RGB and its instruction.

        Raises:
            ConfigError: The message is not an image that can be converted.
        """
        stamp, number, instruction = self._found[index]
        at_once = self._reader.messages([self._images], stamp, stamp + 1)
        message = next(islice(at_once, number, None))
        try:
            return to_rgb(self._reader.read(message), message.kind, max_pixels), instruction
        except InputError as error:
            raise ConfigError(
                f'{self._images} at {self.seconds(index):.3f} s: {error}; set '
                f'{self._section}.image_topic to another'
            ) from error


def to_rgb(message: Any, kind: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Convert a message of a type of IMAGES to [H, W, 3] uint8 RGB.

    Raises:
        InputError: The message is not an image that can be converted.
    """
    convert = unpack if kind == IMAGES[0] else decompress
    return convert(message, max_pixels)
