"""Measure what each step from a camera's picture to the model's view takes.

The picture is the photograph of the pipeline, enlarged to the sizes of cameras.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
import time
from typing import Any

import numpy as np
from PIL import Image

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints.preprocessor import write_preprocessor
from trt_openvla_ros.evaluation.report import percentiles, write_json
from trt_openvla_ros.pictures import read_picture_file
from trt_openvla_ros.policy.images import ImageProcessor
from trt_openvla_ros.policy.resampling import center_crop, jpeg_round_trip, lanczos3
from trt_openvla_ros.policy.views import as_camera_shows, Views

PHOTO = files('trt_openvla_ros.pipeline') / 'coffee.jpg'
SIZES = {'640x480': (640, 480), '1920x1080': (1920, 1080), '3840x2160': (3840, 2160)}
SIDE = 224  # [px] of openvla-7b's views
LIBERO = {'jpeg_round_trip': True, 'resize': 'lanczos3', 'center_crop': True}


def steps_of(image: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Give each step, and both whole ways, for a picture [H, W, 3] uint8."""
    norms = [([0.5] * 3, [0.5] * 3)] * 2  # two towers of one geometry, as openvla-7b has
    processor = ImageProcessor.from_config(write_preprocessor(SIDE, norms, letterbox=False))
    height, width = image.shape[:2]
    half = CameraSteps((width // 4, height // 4, width // 2, height // 2))
    view = lanczos3(image, SIDE, SIDE)
    return {
        'region': lambda: as_camera_shows(image, half),
        'rotation of 90': lambda: as_camera_shows(image, CameraSteps(rotation=90)),
        'rotation of 180': lambda: as_camera_shows(image, CameraSteps(rotation=180)),
        'mirror': lambda: as_camera_shows(image, CameraSteps(mirror='horizontal')),
        'jpeg_round_trip': lambda: jpeg_round_trip(image),
        'resize lanczos3': lambda: lanczos3(image, SIDE, SIDE),
        'resize processor': lambda: processor(image),
        'center_crop': lambda: center_crop(view),
        'all of LIBERO, with rotation': lambda: Views(
            processor, CameraSteps(rotation=180, **LIBERO)
        )(image),
        'none of them': lambda: Views(processor)(image),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=100, help='number of runs of each step')
    parser.add_argument('--json', type=Path, help='write the result here')
    args = parser.parse_args()
    photo = Image.fromarray(read_picture_file(PHOTO))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, size in SIZES.items():
        image = np.asarray(photo.resize(size, Image.Resampling.BICUBIC))
        steps = steps_of(image)
        seconds: dict[str, list[float]] = {step: [] for step in steps}
        # In turns, so that other work on the machine meets all of them.
        for index in range(args.repeat + 2):
            for step, run in steps.items():
                start = time.perf_counter()
                run()
                if index >= 2:  # the first ones make tables
                    seconds[step].append(time.perf_counter() - start)
        found[name] = {step: percentiles(values) for step, values in seconds.items()}
    print(f'{"p50 [ms]":30}' + ''.join(f'{name:>12}' for name in found))
    for step in next(iter(found.values())):
        print(f'{step:30}' + ''.join(f'{some[step]["p50_ms"]:12.2f}' for some in found.values()))
    if args.json:
        write_json(args.json, {'steps': found}, ('numpy', 'PIL', 'simplejpeg'))


if __name__ == '__main__':
    main()
