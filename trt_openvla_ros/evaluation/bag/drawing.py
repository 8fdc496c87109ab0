"""Plots of a comparison, and a video in which each image has both actions beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from trt_openvla_ros.bags.video import VideoWriter
from trt_openvla_ros.contracts import MOTION
from trt_openvla_ros.drawing.content import Box, Content, Step
from trt_openvla_ros.drawing.overlay import draw
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.evaluation.bag.comparison import pairs, units
from trt_openvla_ros.policy.pointing import boxes_of, points_of
from trt_openvla_ros.policy.reasoning import parse_fields
from trt_openvla_ros.policy.seen_view import SeenView
from trt_openvla_ros.robot.meaning import Meaning

_WANTED, _PREDICTED = (31, 119, 180), (214, 60, 0)
_FPS = (1, 30)


def plot(results: Sequence[dict[str, Any]], meaning: Meaning, path: Path) -> None:
    """Draw each dimension over time, recorded and predicted, and the latency."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    wanted, predicted = pairs(results)
    factors, (length, angle) = units(meaning)
    seconds = [r['seconds'] for r in results if r['predicted'] is not None]
    figure, axes = pyplot.subplots(4, 2, figsize=(11, 9), layout='constrained')
    for i, (name, place) in enumerate(zip((*MOTION, 'gripper'), axes.T.flat, strict=False)):
        factor = factors[i] if i < 6 else 1.0
        for values, colour, label in (
            (wanted, _WANTED, 'recorded'),
            (predicted, _PREDICTED, 'predicted'),
        ):
            shade = [part / 255 for part in colour]
            style = {'color': shade, 'label': label, 'linewidth': 0.8, 'markersize': 3}
            place.plot(seconds, factor * values[:, i], '.-', **style)
        unit = f' [{length if i < 3 else angle}]' if i < 6 else ''
        place.set_ylabel(name + unit)
        place.spines[['top', 'right']].set_visible(False)
    axes[0, 0].legend(frameon=False, ncols=2)
    last = axes[3, 1]
    last.hist([1e3 * r['timings']['total'] for r in results if r['timings']], 30)
    last.set_xlabel('time of a prediction [ms]')
    for place in (axes[3, 0], axes[2, 1]):
        place.set_xlabel('time in the bag [s]')
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write_video(
    results: Sequence[dict[str, Any]],
    images: Iterator[np.ndarray | InputError],
    meaning: Meaning,
    view: SeenView,
    path: Path,
) -> None:
    """Draw each image with its instruction, reasoning and both actions.

    Args:
        results: Results of frames, in the order of the images.
        images: [H, W, 3] uint8 RGB of each; what is none is left out.
        meaning: Meaning of the numbers.
        view: What the model saw of the images.
        path: File to write (MP4, H.264), at the rate at which the images were recorded.

    Raises:
        ConfigError: The video cannot be encoded, or none of them is an image.
    """
    wanted, _ = pairs(results)
    largest = np.append(np.abs(wanted[:, :6]).max(axis=0, initial=1e-9), 1.0)
    gaps = np.diff([r['seconds'] for r in results])
    rate = 1 / np.median(gaps) if len(gaps) and np.median(gaps) > 0 else 5.0
    fps = Fraction(float(np.clip(rate, *_FPS))).limit_denominator(100)
    size = None
    with VideoWriter.open(path, fps) as video:
        for result, image in zip(results, images, strict=True):
            if isinstance(image, InputError):
                continue
            shown = draw(image, content_of(result, image.shape[:2], meaning, view, largest))
            size = size or shown.shape[1::-1]
            if shown.shape[1::-1] != size:  # a camera may change its size; a video has one
                shown = np.asarray(Image.fromarray(shown).resize(size))
            video.add(shown)
        if size is None:
            raise ConfigError(f'no image is left for a video: {image}; set image_topic to another')


def content_of(
    result: dict[str, Any],
    size: tuple[int, int],
    meaning: Meaning,
    view: SeenView,
    largest: np.ndarray,
) -> Content:
    """Say what is shown of a result.

    Args:
        result: Result of one frame.
        size: Height and width of its image [px].
        meaning: Meaning of the numbers.
        view: What the model saw of the image.
        largest: [7] numbers of an action at which bars have their full length.
    """

    def step(action: Sequence[float] | None, recorded: Step | None = None) -> Step:
        numbers = np.full(7, np.nan) if action is None else np.array(action, np.float64)
        return Step(
            numbers,
            numbers / largest,
            translation_unit=meaning.translation_unit,
            rotation_unit=meaning.rotation_unit,
            gripper=meaning.gripper,
            recorded=recorded,
        )

    fields = parse_fields(result['reasoning'])
    named, points = boxes_of(fields), points_of(fields)
    title = f'image {result["number"]}, {result["seconds"]:.2f} s'
    return Content(
        instruction=result['instruction'],
        reasoning={'STEP': title, **fields},
        boxes=[Box(name, corners) for name, corners in view.boxes_to_camera(named, size)],
        points=view.to_camera(points, size) if len(points) else points,
        arrow_note=f'no action: {result["refused"]}' if result['refused'] else '',
        step=step(result['predicted'], step(result['wanted'])),
        timings=result['timings'],
    )
