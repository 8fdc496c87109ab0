"""Images and instructions as the policy meets them: from a folder, or from the simulated table."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.settings import setting

INSTRUCTIONS = 'instructions.json'
_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.webp'}
_MOST_STEPS = 20  # an expert is about done then


@dataclass(frozen=True)
class FrameSettings:
    """Where images and instructions come from; inherited by the stages that need some."""

    folder: str = setting(
        '',
        'Directory of images with instructions.json ({"image.jpg": "instruction"}) or a .txt '
        'beside each image; empty takes scenes of the simulated table.',
    )
    frames: int = setting(32, 'How many images with their instructions.', low=1, high=4096)


@dataclass(frozen=True)
class Frame:
    """One image with its instruction.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        instruction: What the user says.
        name: Where it is from, for reports.
    """

    image: np.ndarray
    instruction: str
    name: str


def frames_folder(settings: FrameSettings, section: str) -> Path | None:
    """The folder that frames are read from; None where the simulation makes them.

    Raises:
        ConfigError: There is no such folder.
    """
    if not settings.folder:
        return None
    folder = Path(settings.folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f'{section}.folder is {settings.folder!r}; there is no such directory')
    return folder


def collect_frames(settings: FrameSettings, section: str, first_seed: int) -> list[Frame]:
    """Give settings.frames frames, always the same ones.

    Args:
        settings: Where from, and how many.
        section: Name of the settings' section, for messages.
        first_seed: Of the simulation's scenes, where those are used.

    Raises:
        ConfigError: The folder has too few, or one cannot be read.
    """
    folder = frames_folder(settings, section)
    if folder is None:
        return _simulated(settings.frames, first_seed, section)
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if len(images) < settings.frames:
        raise ConfigError(
            f'{folder} has {len(images)} images and {section}.frames is {settings.frames}; add '
            'images or set it lower'
        )
    instructions = _instructions(folder)
    # Spread over all: neighbours in a recording look alike.
    chosen = np.linspace(0, len(images) - 1, settings.frames).round().astype(int)
    return [
        Frame(_read(images[i]), _instruction_of(images[i], instructions), images[i].name)
        for i in chosen
    ]


def read_image(path: Path) -> np.ndarray:
    """Read an image file as [H, W, 3] uint8 RGB.

    Raises:
        ConfigError: There is none, or it is none.
    """
    return _read(path)


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ConfigError(f'image {path} cannot be read: {error}') from error


def _instructions(folder: Path) -> dict[str, str]:
    path = folder / INSTRUCTIONS
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path} is not JSON: {error}') from error
    if not isinstance(content, dict) or not all(isinstance(t, str) for t in content.values()):
        raise ConfigError(f'{path} must map file names to instructions')
    return content


def _instruction_of(image: Path, instructions: dict[str, str]) -> str:
    beside = image.with_suffix('.txt')
    text = instructions.get(image.name, '')
    if not text and beside.is_file():
        text = beside.read_text(encoding='utf-8').strip()
    if not text:
        raise ConfigError(
            f'{image} has no instruction; name it in {INSTRUCTIONS} beside it, or write it into '
            f'{beside.name}'
        )
    return text


def _simulated(count: int, first_seed: int, section: str) -> list[Frame]:
    """One frame of each scene, some steps on the way to one of its goals."""
    with suppress(ImportError):
        # Both bring an LLVM. Where Mesa's, which the simulation renders with, is loaded before
        # triton's, which timm needs later, the process ends in a segmentation fault.
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
