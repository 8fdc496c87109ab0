"""All of a recording but its pixels: which images there are, what was asked, done and measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from trt_openvla_ros.bags.images import to_rgb
from trt_openvla_ros.bags.reader import BagReader, IMAGES, open_bag, Recorded, TEXTS
from trt_openvla_ros.bags.settings import RecordingSettings
from trt_openvla_ros.errors import ConfigError, InputError

ACTIONS = ('trt_openvla_ros/msg/VlaAction',)
GATES = ('trt_openvla_ros/msg/GateReport',)
_STAMPED = ('geometry_msgs/msg/PoseStamped', 'sensor_msgs/msg/JointState')
_DIM = 7
_HOLD = 2  # of GateRule, and STOP above it


@dataclass(frozen=True)
class Picture:
    """One image of a recording, without its pixels.

    Attributes:
        number: Number among the images of its topic, from 0.
        time: Time [ns] by the clock that the settings name.
        stamp: Stamp of its header [ns].
        instruction: Instruction that applied when it was recorded; '' if none did.
        task: Number of that instruction among all, by which equal ones after a blank one differ.
    """

    number: int
    time: int
    stamp: int
    instruction: str
    task: int


@dataclass(frozen=True)
class Act:
    """One action of the policy that was recorded.

    Attributes:
        stamp: Stamp of the image that it answers [ns].
        action: [7] float64 as it was published.
        unlimited: [7] float64 as the statistics gave it, before the node's limits.
        instruction, reasoning, unnorm_key: The message's fields.
        sequence: Number of the action since the node was activated.
        control_rate: Rate at which its data set was recorded [Hz]; 0 if not known.
        steps: Number of steps of its chunk; 1 without a chunk.
    """

    stamp: int
    action: np.ndarray
    unlimited: np.ndarray
    instruction: str
    reasoning: str
    unnorm_key: str
    sequence: int
    control_rate: float
    steps: int

    @property
    def is_finite(self) -> bool:
        """Whether every number is finite; the bridge makes no motion of another one."""
        return bool(np.isfinite(self.action).all() and np.isfinite(self.unlimited).all())


@dataclass
class Recording:
    """What one bag holds beside pixels.

    Attributes:
        path: Directory of the bag, or one file of it.
        begin: Time of recording of the first message [ns].
        pictures: Its images, in the order in which they stand in it.
        acts: Actions of the policy, in that order.
        held: Numbers of the actions of which the motion gate's first report said hold or stop.
        extra: Messages of further topics that were asked for, deserialised, with their time.
    """

    path: Path
    begin: int
    pictures: list[Picture] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    extra: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)

    def answers(self) -> tuple[dict[int, int], int, int]:
        """Match actions with the images that they answer, by stamp.

        Returns:
            The numbers of actions by number of their image; the number of images left out
            because several have the stamp of one action, or several actions that of one image;
            and the number of actions whose image is not in the bag: recording began after it, or
            best effort lost it on the way to the recorder.
        """
        shared = Counter(one.stamp for one in self.pictures)
        said = Counter(act.stamp for act in self.acts)
        by_stamp = {act.stamp: number for number, act in enumerate(self.acts)}
        found, ambiguous = {}, 0
        for picture in self.pictures:
            number = by_stamp.get(picture.stamp)
            if number is None:
                continue
            if shared[picture.stamp] > 1 or said[picture.stamp] > 1:
                ambiguous += 1
            else:
                found[picture.number] = number
        unseen = sum(act.stamp not in shared for act in self.acts)
        return found, ambiguous, unseen

    def unnorm_key(self, numbers: Iterable[int]) -> str:
        """Give the unnorm_key that the actions of these numbers share; '' if there are none.

        Raises:
            ConfigError: They are of several data sets, so one number means several things.
        """
        keys = sorted({self.acts[number].unnorm_key for number in numbers})
        if len(keys) > 1:
            raise ConfigError(
                f'the actions of {self.path} are of several data sets: {", ".join(keys)}'
            )
        return keys[0] if keys else ''


def read_recording(
    path: Path,
    settings: RecordingSettings,
    *,
    acts: bool,
    texts: bool = True,
    extra: Sequence[tuple[str, tuple[str, ...], str]] = (),
    gate: str = '',
) -> Recording:
    """Read all of a bag but its pixels.

    Args:
        path: Directory of the bag, or one file in it.
        settings: Names of its topics.
        acts: Whether it must have actions of the policy.
        texts: Whether it must have instructions.
        extra: Name, allowed types and setting of each further topic that it must have.
        gate: Topic of the motion gate's reports, which are heeded if the bag has them.

    Raises:
        ConfigError: The bag cannot be read, lacks a topic, or has no image.
    """
    if not path.exists():
        raise ConfigError(f'there is no bag {path}')
    with open_bag(path) as reader:
        return _Indexer(reader, settings, acts, texts, extra, gate).recording


class _Indexer:
    def __init__(
        self,
        reader: BagReader,
        settings: RecordingSettings,
        acts: bool,
        texts: bool,
        extra: Sequence[tuple[str, tuple[str, ...], str]],
        gate: str,
    ) -> None:
        self._reader, self._settings = reader, settings
        wanted = [(settings.image_topic, IMAGES, 'image_topic'), *extra]
        if texts:
            wanted.append((settings.instruction_topic, TEXTS, 'instruction_topic'))
        if acts:
            wanted.append((settings.action_topic, ACTIONS, 'action_topic'))
        for topic, kinds, name in wanted:
            reader.require(topic, kinds, name)
        self.recording = Recording(reader.path, reader.begin)
        self.recording.extra = {topic: [] for topic, _, _ in extra}
        self._instruction, self._task = '', -1
        self._unjudged: dict[int, int] = {}  # numbers of actions by sequence, without a report
        self._gate = gate if reader.topics.get(gate) in GATES else ''
        topics = [*(topic for topic, _, _ in wanted), *filter(None, [self._gate])]
        for message in tqdm(reader.messages(topics), f'reading {reader.path.name}', leave=False):
            self._take(message)
        if not self.recording.pictures:
            raise ConfigError(
                f'bag {reader.path} has no message of {settings.image_topic}; was the camera '
                'running, and its QoS as the recorder asked for?'
            )

    def _take(self, message: Recorded) -> None:
        settings, found = self._settings, self.recording
        if message.topic == settings.image_topic:
            number, stamp = len(found.pictures), message.stamp
            found.pictures.append(
                Picture(number, self._time(message), stamp, self._instruction, self._task)
            )
        elif message.topic == settings.instruction_topic:
            text = self._reader.read(message).data.strip()
            if text and text != self._instruction:  # said again is no news
                self._task += 1
            self._instruction = text
        elif message.topic == self._gate:
            report = self._reader.read(message)
            number = self._unjudged.pop(report.sequence, None)
            if number is not None and report.verdict >= _HOLD:
                found.held.add(number)
        elif message.topic in found.extra:
            stamped = message.kind in _STAMPED
            time = self._time(message) if stamped else message.received
            found.extra[message.topic].append((time, self._reader.read(message)))
        else:
            act = _act(message, self._reader.read(message))
            self._unjudged[act.sequence] = len(found.acts)
            found.acts.append(act)

    def _time(self, message: Recorded) -> int:
        return message.stamp if self._settings.clock == 'header' else message.received


def _act(recorded: Recorded, message: Any) -> Act:
    action = np.asarray(message.action, np.float64)
    # Recordings of 0.1 and before have neither.
    unlimited = np.asarray(getattr(message, 'unlimited_action', action), np.float64)
    meaning = getattr(message, 'meaning', None)
    if action.shape != (_DIM,) or unlimited.shape != (_DIM,):
        raise ConfigError(f'an action of {recorded.topic} has {action.size} numbers, not {_DIM}')
    return Act(
        recorded.stamp,
        action,
        unlimited,
        message.instruction,
        message.reasoning,
        message.unnorm_key,
        int(getattr(message, 'sequence', 0)),
        float(getattr(meaning, 'control_rate', 0.0)),
        max(1, len(getattr(message, 'chunk', ())) // _DIM),
    )


def read_pictures(
    path: Path, topic: str, numbers: Sequence[int], max_pixels: int
) -> Iterator[np.ndarray | InputError]:
    """Read images of a bag, one after another.

    Args:
        path: Directory of the bag, or one file in it.
        topic: Topic of the images.
        numbers: Numbers of the images, which never decrease; a repeated one is given again.
        max_pixels: Largest product of width and height.

    Yields:
        [H, W, 3] uint8 RGB for each number, or why its message is no such image.

    Raises:
        ConfigError: The bag cannot be read.
    """
    wanted = iter(numbers)
    number = next(wanted, None)
    with open_bag(path) as reader:
        for count, message in enumerate(reader.messages([topic])):
            if number is None:
                return
            if number != count:
                continue
            try:
                image = to_rgb(reader.read(message), message.kind, max_pixels)
            except InputError as error:
                seconds = (message.received - reader.begin) / 1e9
                image = InputError(
                    f'image {count} of {topic}, at {seconds:.3f} s of {path}: {error}'
                )
            while number == count:
                yield image
                number = next(wanted, None)
