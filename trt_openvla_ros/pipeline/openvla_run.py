"""Predict one action with the artifact: prints action, reasoning and time, and draws a picture.

openvla_run --params-file FILE --image cup.jpg --instruction 'pick up the cup'
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
import logging
from pathlib import Path
from typing import Any

import numpy as np

from trt_openvla_ros.engines.base import DTYPES
from trt_openvla_ros.errors import ArtifactError
from trt_openvla_ros.pictures import PIXELS
from trt_openvla_ros.pipeline.annotation import annotate
from trt_openvla_ros.pipeline.artifact import Artifact
from trt_openvla_ros.pipeline.frames import read_image
from trt_openvla_ros.pipeline.settings import Common, MODEL
from trt_openvla_ros.policy.local import Policy
from trt_openvla_ros.settings import field_of, setting

_DEFAULT_IMAGE = 'coffee.jpg'  # beside this module

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The settings of openvla_run."""

    image: str = setting('', 'Image file, JPEG or PNG; if empty, the photograph of a coffee cup.')
    max_pixels: int = field_of(PIXELS)
    instruction: str = setting('pick up the coffee cup', 'Instruction to follow.')
    engine: str = setting('torch', 'Backend of the language model: torch or tensorrt_llm.')
    vision_engine: str = field_of(MODEL['vision_engine'])
    dtype: str = setting(
        '',
        'Precision of the torch engine; if empty, bfloat16 on a GPU and float32 on the CPU.',
        choices=('', *DTYPES),
    )
    output: str = setting('', 'File for the picture; if empty, openvla_run.png in the artifact.')


def run(settings: Settings, common: Common, artifact: Artifact) -> dict[str, Any]:
    """Predict one step and draw it; this runs every time, because no stage uses the result.

    Raises:
        ArtifactError: save_backbone did not run, or the picture cannot be written.
        PolicyError: The policy cannot be loaded, or it gives no action.
    """
    artifact.facts('save_backbone')
    image = _read(settings.image, settings.max_pixels)
    policy = Policy.from_checkpoint(
        artifact.path,
        common.unnorm_key or None,
        settings.engine,
        common.device or None,
        settings.dtype or None,
        common.prompt_style or None,
        max_new_tokens=common.max_new_tokens,
        vision_engine=settings.vision_engine or None,
        camera=common,
    )
    # A first prediction, untimed, because it also allocates and compiles.
    policy.predict(image, settings.instruction)
    prediction = policy.predict(image, settings.instruction)
    output = (
        Path(settings.output).expanduser()
        if settings.output
        else artifact.path / 'openvla_run.png'
    )
    try:
        annotate(image, settings.instruction, prediction).save(output)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f'picture {output} cannot be written: {error}; set openvla_run.output to a .png'
        ) from error
    _log.info('picture: %s', output)
    return {
        'instruction': settings.instruction,
        'prompt': prediction.prompt,
        'reasoning': prediction.reasoning,
        'action': [float(value) for value in prediction.action],
        'unnorm_key': prediction.unnorm_key,
        'out_of_range': prediction.out_of_range,
        'seconds': {name: round(value, 4) for name, value in prediction.timings.items()},
        'picture': str(output),
    }


def _read(image: str, max_pixels: int) -> np.ndarray:
    if image:
        return read_image(Path(image).expanduser(), max_pixels)
    with as_file(files(__package__) / _DEFAULT_IMAGE) as file:
        return read_image(file, max_pixels)
