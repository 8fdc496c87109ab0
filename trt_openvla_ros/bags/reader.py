"""The one reader of bags: connections and messages in the order in which they stand in a bag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
import struct
from typing import Any, NamedTuple

from trt_openvla_ros.bags.definitions import PACKAGE, typestore
from trt_openvla_ros.errors import ConfigError

IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
TEXTS = ('std_msgs/msg/String',)


class Recorded(NamedTuple):
    """One message in a bag.

    Attributes:
        topic, kind: Topic, and type such as std_msgs/msg/String.
        received: Time of recording [ns].
        data: The message as it was sent (CDR).
    """

    topic: str
    kind: str
    received: int
    data: bytes

    @property
    def stamp(self) -> int:
        """Stamp [ns] of a message that begins with a std_msgs/Header, without reading the rest.

        Raises:
            ConfigError: The message is too short to have a header.
        """
        if len(self.data) < 12:
            raise ConfigError(f'a message of {self.topic} has {len(self.data)} bytes, no header')
        order = '<' if self.data[1] & 1 else '>'
        seconds, nanoseconds = struct.unpack_from(f'{order}iI', self.data, 4)
        return 10**9 * seconds + nanoseconds


class BagReader:
    """An open bag.

    Attributes:
        path: Directory of the bag, or one file of it.
        topics: Type of each topic.
    """

    def __init__(self, path: Path, reader: Any, broken: tuple[type[Exception], ...]) -> None:
        """Wrap an open reader of rosbags; callers use `open_bag`."""
        self.path, self._reader, self._broken = path, reader, broken
        self._has_definitions = any(one.msgdef.data for one in reader.connections)
        self.topics = {one.topic: one.msgtype for one in reader.connections}

    @property
    def begin(self) -> int:
        """Time of recording of the first message [ns]; 0 if there is none."""
        return self._reader.start_time if self._reader.message_count else 0

    def require(self, topic: str, kinds: Sequence[str], setting: str) -> str:
        """Check that a topic is in the bag and of one of these types.

        Args:
            topic: Name of the topic.
            kinds: Types that do.
            setting: Name of the setting that names the topic, for messages.

        Returns:
            The topic's type.

        Raises:
            ConfigError: It is not; the message lists the topics that are.
        """
        kind = self.topics.get(topic, 'missing')
        if kind not in kinds:
            there = sorted(name for name, other in self.topics.items() if other in kinds)
            raise ConfigError(
                f'{setting} {topic!r} is {kind} in the bag; topics of {" or ".join(kinds)} in it: '
                f'{", ".join(there) or "none"}'
            )
        return kind

    def messages(
        self, topics: Sequence[str], start: int | None = None, stop: int | None = None
    ) -> Iterator[Recorded]:
        """Give the messages of some topics, in the order in which they were recorded.

        Args:
            topics: Names of the topics; others are not read.
            start: First time of recording [ns]; None is that of the bag.
            stop: Time of recording [ns] behind the last; None is that of the bag.

        Raises:
            ConfigError: The bag is damaged.
        """
        chosen = [one for one in self._reader.connections if one.topic in topics]
        if not chosen:  # rosbags would give all
            return
        with self._sentences():
            for one, received, data in self._reader.messages(chosen, start, stop):
                yield Recorded(one.topic, one.msgtype, received, data)

    def read(self, message: Recorded) -> Any:
        """Deserialise a message: an object with the fields of its type.

        Raises:
            ConfigError: The bag is damaged, or nobody here has the definition of the type with
                which it was recorded.
        """
        try:
            return self._reader.deserialize(message.data, message.kind)
        except self._broken as error:
            raise ConfigError(self._why_unread(message.kind, error)) from error

    def _why_unread(self, kind: str, error: Exception) -> str:
        way_out = 'where it was recorded, `ros2 bag convert` to mcap adds the definitions'
        if isinstance(error, KeyError):
            return f'bag {self.path} has no definition of {kind}, nor is there one here; {way_out}'
        if self._has_definitions or not kind.startswith(f'{PACKAGE}/'):
            return _sentence(self.path, error)
        return (
            f'bag {self.path} has no definition of {kind}, and that of this release does not fit '
            f'({error}): another release recorded it, or it is damaged; {way_out}'
        )

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except self._broken as error:
            raise ConfigError(_sentence(self.path, error)) from error


@contextmanager
def open_bag(path: Path, otherwise: str = '') -> Iterator[BagReader]:
    """Open a bag for the body of a with statement.

    Args:
        path: Directory of the bag, or one file in it.
        otherwise: What a user may do instead who has no rosbags, for messages.

    Raises:
        ConfigError: There is no such bag, or it cannot be read.
    """
    try:
        import apsw  # the library by which rosbags reads sqlite3
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.rosbag2 import ReaderError
        from rosbags.typesys import TypesysError
    except ImportError as error:
        raise ConfigError(
            f'reading bags needs rosbags ({error}); pip install rosbags{otherwise}'
        ) from error
    broken = (
        *(AnyReaderError, ReaderError, TypesysError, apsw.Error),
        *(OSError, ValueError, LookupError, AssertionError, struct.error),
    )
    reader = None
    try:
        reader = AnyReader([path], default_typestore=typestore())
        reader.open()
    except broken as error:
        raise ConfigError(_sentence(path, error)) from error
    try:
        yield BagReader(path, reader, broken)
    finally:
        reader.close()


def _sentence(path: Path, error: Exception) -> str:
    text = str(error) or type(error).__name__
    return (
        f'bag {path} cannot be read: {text}; `ros2 bag info` says more, and `ros2 bag reindex` '
        'repairs a bag whose recording was interrupted'
    )
