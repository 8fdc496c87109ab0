"""Write recordings as a data set of LeRobot, in its format v3.0.

An episode is what happened under one instruction; each bag may have several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
import logging
from pathlib import Path
import re
import shutil
import sys
import tempfile
from typing import Any

import numpy as np
from tqdm import tqdm

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.bags.lerobot.episodes import Episodes
from trt_openvla_ros.bags.lerobot.settings import BagToLeRobotSettings
from trt_openvla_ros.bags.lerobot.writer import DataSetWriter
from trt_openvla_ros.bags.recording import read_pictures
from trt_openvla_ros.errors import ConfigError, InputError, PolicyError
from trt_openvla_ros.process import allow
from trt_openvla_ros.settings import describe_settings

_NAME = 'bag_to_lerobot'
_CLEAN_UP = 5.0  # [s] after a signal, to close a large video and remove all


def convert(settings: BagToLeRobotSettings) -> dict[str, Any]:
    """Write a data set; nothing is left of one that fails.

    Returns:
        Numbers of episodes and rows, the tasks, and what was left out.

    Raises:
        PolicyError: A bag or a setting cannot be used.
    """
    if not settings.bags or not settings.out:
        raise ConfigError('bags or out is empty; give --bags "[DIRECTORY]" and --out DIRECTORY')
    if not re.fullmatch(r'[\w-]+', settings.camera):
        raise ConfigError(
            f'camera is {settings.camera!r}; letters, digits, _ and - make a name for it'
        )
    out = Path(settings.out).expanduser().absolute()
    if out.exists():
        raise ConfigError(f'{out} exists; choose another out, or remove it')
    bags = [Episodes(Path(bag).expanduser(), settings) for bag in settings.bags]
    rates = {bag.rate for bag in bags}
    if len(rates) > 1:
        raise ConfigError(f'the bags have the rates {sorted(rates)}; set fps')
    keys = sorted({bag.unnorm_key for bag in bags} - {''})
    if len(keys) > 1:
        names = ', '.join(keys)
        raise ConfigError(f'the bags have actions of several data sets: {names}')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.parent))
    except OSError as error:
        raise ConfigError(f'cannot write to {out.parent}: {error}') from error
    try:
        with DataSetWriter.open(scratch, rates.pop(), settings.camera, settings.crf) as writer:
            for bag in bags:
                _add(bag, settings, writer)
            if not writer.episodes:
                raise ConfigError(_no_episode(bags, settings))
        writer.write_info(settings.robot_type)
        scratch.chmod(0o755)
        scratch.rename(out)
    except OSError as error:
        raise ConfigError(f'cannot write {out}: {error}') from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {
        'out': str(out),
        'episodes': writer.episodes,
        'rows': writer.frames,
        'tasks': list(writer.tasks),
        'left_out': _left_out(bags),
    }


def _add(bag: Episodes, settings: BagToLeRobotSettings, writer: DataSetWriter) -> None:
    episodes = list(bag)
    if not episodes:
        return
    numbers = [row.picture.number for episode in episodes for row in episode.rows]
    path = episodes[0].bag
    images = read_pictures(path, settings.image_topic, numbers, settings.max_pixels)
    shown = iter(tqdm(images, f'writing {path.name}', len(numbers), unit='image'))
    for episode in episodes:
        writer.add(episode, _some(shown, len(episode.rows)))
    # The reader ends behind its last image; a further one would be of no row.
    if next(chain(shown, [None])) is not None:
        raise ConfigError(f'{path} has more images than rows')


def _some(images: Iterator[np.ndarray | InputError], count: int) -> Iterator[np.ndarray]:
    for image in islice(images, count):
        if isinstance(image, InputError):
            raise ConfigError(f'{image}; leave that bag out, or set image_topic to another')
        yield image


def _no_episode(bags: list[Episodes], settings: BagToLeRobotSettings) -> str:
    left = ', '.join(f'{count} {reason}' for reason, count in _left_out(bags).items())
    clock = ''
    if settings.clock == 'header':
        clock = '; if the stamps of images and poses stand still or go back, set clock to received'
    return f'no episode is in the bags; left out: {left or "nothing"}{clock}'


def _left_out(bags: list[Episodes]) -> dict[str, int]:
    counts = sum((bag.left_out for bag in bags), Counter())
    return {reason: count for reason, count in counts.items() if count}


def main() -> None:
    """Run the command; exit with 1 and a message if it fails.

    Raises:
        KeyboardInterrupt: A signal stopped it; nothing was written.
    """
    arguments = sys.argv[1:]
    if {'-h', '--help'} & set(arguments):
        print(f'{_NAME} [--params-file FILE] [-p NAME:=VALUE ...] [--NAME VALUE ...]\n')
        print(f'{__doc__}\n{describe_settings(BagToLeRobotSettings)}')
        return
    logging.basicConfig(format='%(message)s', stream=sys.stderr)
    allow(_CLEAN_UP)
    try:
        done = convert(read_settings(BagToLeRobotSettings, arguments, _NAME))
    except PolicyError as error:
        sys.exit(f'{_NAME}: {error}')
    print(f'{done["out"]}: {done["episodes"]} episodes, {done["rows"]} rows')
    for task in done['tasks']:
        print(f'  {task}')
    for reason, count in done['left_out'].items():
        print(f'  {count} {reason}')
