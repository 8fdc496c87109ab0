"""The one reader of bags: connections and messages in the order in which they stand in a bag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, ExitStack
from pathlib import Path
import struct
from typing import Any, NamedTuple

from trt_openvla_ros.bags.definitions import PACKAGE, typestore
from trt_openvla_ros.bags.repair import plainly_named, way_out
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

    def __init__(self, path: Path, reader: Any) -> None:
        """Wrap an open reader of rosbags; callers use `open_bag`."""
        self.path, self._reader = path, reader
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
        with _sentences(self.path):
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
        except Exception as error:
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
def open_bag(path: Path, otherwise: str = '') -> Iterator[BagReader]:
    """Open a bag for the body of a with statement.

    Args:
        path: Directory of the bag, or one file in it.
        otherwise: What a user may do instead who has no rosbags, for messages.

    Raises:
        ConfigError: There is no such bag, or it cannot be read.
    """
    try:
        from rosbags.highlevel import AnyReader
    except ImportError as error:
        raise ConfigError(
            f'reading bags needs rosbags ({error}); pip install rosbags{otherwise}'
        ) from error
    if path.is_file() and path.suffix == '.bag':
        raise ConfigError(
            f'bag {path} is of ROS 1; `rosbags-convert --src {path.name} --dst {path.stem}` makes '
            'one of ROS 2'
        )
    with ExitStack() as closed:
        with _sentences(path):
            place = closed.enter_context(plainly_named(path))
            reader = AnyReader([place], default_typestore=typestore())
            closed.enter_context(reader)
        yield BagReader(path, reader)


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Say of a bag what any error of the body says.

    rosbags has errors of its own, and lets those of its decompressors and of Python out, too: no
    list of them was complete.
    """
    try:
        yield
    except Exception as error:
        raise ConfigError(_sentence(path, error)) from error


def _sentence(path: Path, error: Exception) -> str:
    text = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
    return f'bag {path} cannot be read: {text}; {way_out(path)}'
