"""Reader of images and instructions in a recording by `ros2 bag record`; it needs no ROS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.pictures import decompress, unpack

_IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
_TEXTS = ('std_msgs/msg/String',)


class Bag:
    """The images that have an instruction, in the order of recording.

    As in the node, an instruction applies from its message on, until the next or an empty one.
    """

    def __init__(self, reader: Any, images: str, texts: str, name: str) -> None:
        """Index an open reader of rosbags; callers use `open` instead."""
        self._reader, self._name, self._begin = reader, name, reader.start_time
        self._images = self._connections(images, _IMAGES, 'image_topic')
        texts_of = self._connections(texts, _TEXTS, 'instruction_topic')
        # Time of recording [ns], number among the images of that time, and instruction. In
        # simulation many images share a time: the clock ticks slower than the camera, or stands.
        self._found: list[tuple[int, int, str]] = []
        last, number = None, 0
        instruction = ''
        for connection, stamp, data in reader.messages([*self._images, *texts_of]):
            if connection.topic == texts:
                message = reader.deserialize(data, connection.msgtype)
                instruction = message.data.strip()
                continue
            number = number + 1 if stamp == last else 0
            last = stamp
            if instruction:
                self._found.append((stamp, number, instruction))

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
        try:
            import apsw  # the library by which rosbags reads sqlite3
            from rosbags.highlevel import AnyReader, AnyReaderError
            from rosbags.rosbag2 import ReaderError
            from rosbags.typesys import get_typestore, Stores
        except ImportError as error:
            raise ConfigError(
                f'reading bags needs rosbags ({error}); pip install rosbags, or save images into '
                f'a directory and set {section}.folder to it'
            ) from error
        broken = (AnyReaderError, ReaderError, apsw.Error, OSError, ValueError, KeyError)
        # Bags of Humble and before do not contain the definitions of their messages.
        types = get_typestore(Stores.ROS2_HUMBLE)
        try:
            with AnyReader([path], default_typestore=types) as reader:
                yield cls(reader, images, texts, section)
        except broken as error:
            raise ConfigError(
                f'bag {path} cannot be read: {error}; `ros2 bag info` says more, and `ros2 bag '
                'reindex` repairs a bag whose recording was interrupted'
            ) from error

    def _connections(self, topic: str, kinds: tuple[str, ...], setting: str) -> list[Any]:
        found = [c for c in self._reader.connections if c.topic == topic]
        kind = found[0].msgtype if found else 'missing'
        if kind not in kinds:
            there = sorted(c.topic for c in self._reader.connections if c.msgtype in kinds)
            raise ConfigError(
                f'{self._name}.{setting} {topic!r} is {kind} in the bag; topics of '
                f'{" or ".join(kinds)} in it: {", ".join(there) or "none"}'
            )
        return found

    def __len__(self) -> int:
        """Count the images that have an instruction."""
        return len(self._found)

    def seconds(self, index: int) -> float:
        """Give the time [s] of recording since the beginning of the bag."""
        return (self._found[index][0] - self._begin) / 1e9

    def read(self, index: int, max_pixels: int) -> tuple[np.ndarray, str]:
        """Give an image [H, W, 3] uint8 RGB and its instruction.

        Raises:
            ConfigError: The message is not an image that can be converted.
        """
        stamp, number, instruction = self._found[index]
        at_once = self._reader.messages(self._images, start=stamp, stop=stamp + 1)
        connection, _, data = next(islice(at_once, number, None))
        message = self._reader.deserialize(data, connection.msgtype)
        convert = unpack if connection.msgtype == _IMAGES[0] else decompress
        try:
            return convert(message, max_pixels), instruction
        except InputError as error:
            raise ConfigError(
                f'{connection.topic} at {self.seconds(index):.3f} s: {error}; set '
                f'{self._name}.image_topic to another'
            ) from error
