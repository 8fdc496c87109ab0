"""Images with instructions, from a folder, a bag or the simulated table."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from trt_openvla_ros.checkpoints.json_files import read_object
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.pictures import MAX_PIXELS, PIXELS, read_picture_file
from trt_openvla_ros.settings import field_of, setting
from trt_openvla_ros.text_files import read_text

INSTRUCTIONS = 'instructions.json'
# Of files that hold an image; those that are neither JPEG nor PNG are refused, not left out.
_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.webp', '.gif', '.tif', '.tiff'}
_MOST_STEPS = 20  # after these, the expert is nearly done


@dataclass(frozen=True)
class FrameSettings:
    """The source of images and instructions; stages that need some inherit it."""

    folder: str = setting(
        '',
        'Directory of images, JPEG or PNG. Their instructions are in instructions.json '
        '({"image.jpg": "instruction"}) or in a .txt beside each image. If folder and bag are '
        'empty, the frames come from the simulated table.',
    )
    frames: int = setting(32, 'Number of images with instructions.', low=1, high=4096)
    bag: str = setting(
        '', 'Recording by `ros2 bag record` (sqlite3 or mcap) to use instead of a folder.'
    )
    image_topic: str = setting(
        '/camera/image_raw',
        'Topic of the images in the bag (sensor_msgs/msg/Image or CompressedImage).',
    )
    instruction_topic: str = setting(
        '/instruction',
        'Topic of the instructions in the bag (std_msgs/msg/String). An instruction applies to '
        'the images after it; images after an empty one are left out.',
    )
    max_pixels: int = field_of(PIXELS)

    @property
    def source(self) -> str:
        """Name of the source, for messages and reports."""
        return self.folder or self.bag or 'simulated table'


@dataclass(frozen=True)
class Frame:
    """One image with its instruction.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        instruction: Instruction of the user.
        name: Name of the file, time or scene, for reports.
    """

    image: np.ndarray
    instruction: str
    name: str


def recorded(settings: FrameSettings, section: str) -> Path | None:
    """Give the folder or bag that frames are read from; None if the simulation makes them.

    Raises:
        ConfigError: There is no such folder or bag, or both are given.
    """
    if settings.folder and settings.bag:
        raise ConfigError(
            f'{section}.folder and {section}.bag are both given; empty one (-p {section}.folder:=)'
        )
    for name in ('folder', 'bag'):
        value = getattr(settings, name)
        if not value:
            continue
        path = Path(value).expanduser()
        # A bag may also be one .mcap or .db3 of it.
        if not (path.is_dir() or (name == 'bag' and path.is_file())):
            raise ConfigError(f'{section}.{name} is {value!r}; there is no such directory')
        return path
    return None


def source_key(settings: FrameSettings) -> dict[str, Any]:
    """Give the settings that change the frames, beside the content of the folder or bag."""
    # The artifact hashes the content; the path does not count.
    key: dict[str, Any] = {'folder': bool(settings.folder), 'bag': bool(settings.bag)}
    topics = ('image_topic', 'instruction_topic')
    return key | {name: getattr(settings, name) if settings.bag else '' for name in topics}


def collect_frames(settings: FrameSettings, section: str, first_seed: int) -> list[Frame]:
    """Give settings.frames frames, always the same ones.

    Args:
        settings: Source and number of the frames.
        section: Name of the settings' section, for messages.
        first_seed: Seed of the first simulated scene.

    Raises:
        ConfigError: The folder or bag has too few images, or an image cannot be read.
    """
    place = recorded(settings, section)
    if place is None:
        return _simulated(settings.frames, first_seed, section)
    if settings.bag:
        from trt_openvla_ros.bags.images import Bag

        with Bag.open(place, settings.image_topic, settings.instruction_topic, section) as bag:
            return [
                Frame(
                    *bag.read(index, settings.max_pixels),
                    f'{place.name} at {bag.seconds(index):.3f} s',
                )
                for index in spread(len(bag), settings, 'images with an instruction', section)
            ]
    images = sorted(path for path in place.iterdir() if path.suffix.lower() in _SUFFIXES)
    chosen = spread(len(images), settings, 'images', section)
    instructions = _instructions(place)
    return [
        Frame(
            read_image(images[i], settings.max_pixels),
            _instruction_of(images[i], instructions),
            images[i].name,
        )
        for i in chosen
    ]


def spread(there: int, settings: FrameSettings, of: str, section: str) -> list[int]:
    """Choose settings.frames indices at even distances, as neighbours in a recording look alike.

    Args:
        there: Number of images to choose from.
        settings: Number of images to choose.
        of: Name of the images in messages.
        section: Name of the settings' section, for messages.

    Raises:
        ConfigError: There are fewer images than are wanted.
    """
    if there < settings.frames:
        raise ConfigError(
            f'{settings.source} has {there} {of} and {section}.frames is {settings.frames}; add '
            'images or lower the setting'
        )
    return np.linspace(0, there - 1, settings.frames).round().astype(int).tolist()


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a JPEG or PNG file as [H, W, 3] uint8 RGB, as every door does.

    Raises:
        ConfigError: The file is missing, or is no image that is read.
    """
    try:
        return read_picture_file(path, max_pixels)
    except InputError as error:
        raise ConfigError(str(error)) from error


def _instructions(folder: Path) -> dict[str, str]:
    path = folder / INSTRUCTIONS
    if not path.is_file():
        return {}
    content = read_object(path, '', 'it must map file names to instructions')
    for name, text in content.items():
        if not isinstance(text, str):
            raise ConfigError(
                f'{path} must map file names to instructions, and {name!r:.80} has {text!r:.80}'
            )
    return content


def _instruction_of(image: Path, instructions: dict[str, str]) -> str:
    beside = image.with_suffix('.txt')
    text = instructions.get(image.name, '')
    if not text and beside.is_file():
        text = read_text(beside).strip()
    if not text:
        raise ConfigError(
            f'{image} has no instruction; name it in {INSTRUCTIONS} beside it, or write it into '
            f'{beside.name}'
        )
    return text


def _simulated(count: int, first_seed: int, section: str) -> list[Frame]:
    """Give one frame of each scene, after some steps of the expert towards one of its goals."""
    with suppress(ImportError):
        # Triton, which timm needs later, and Mesa, which renders the simulation, each bring an
        # LLVM. If Mesa's is loaded first, the process ends in a segmentation fault.
        import triton  # noqa: F401
    try:
        from trt_openvla_ros.sim.expert import expert
        from trt_openvla_ros.sim.goals import goals_for, phrase
        from trt_openvla_ros.sim.world import World
    except ImportError as error:
        raise ConfigError(
            f'{section}.folder is empty, and the simulation cannot be used ({error}); install '
            f'mujoco, or set {section}.folder to a directory of images with instructions'
        ) from error
    world = World()
    frames = []
    try:
        for seed in tqdm(range(first_seed, first_seed + count), desc='simulated frames'):
            rng = np.random.default_rng(seed)
            world.reset(seed)
            goals = goals_for(world.things)
            goal = goals[rng.integers(len(goals))]
            for _ in range(rng.integers(_MOST_STEPS)):
                world.step(expert(world.state, goal))
            frames.append(Frame(world.image(), phrase(goal, rng), f'simulated scene {seed}'))
    finally:
        world.close()
    return frames
