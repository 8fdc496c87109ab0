"""One image and one instruction through the artifact: action, reasoning, time, and a picture.

openvla_run --params-file FILE --image cup.jpg --instruction 'pick up the cup'
"""

from __future__ import annotations

from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.engines import DTYPES
from trt_openvla_ros.errors import ArtifactError, ConfigError
from trt_openvla_ros.pipeline.annotation import annotate
from trt_openvla_ros.pipeline.frames import read_image
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.settings import setting

if TYPE_CHECKING:
    from trt_openvla_ros.pipeline.artifact import Artifact
    from trt_openvla_ros.pipeline.configuration import Config

_DEFAULT_IMAGE = 'coffee.jpg'

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What openvla_run can be told."""

    image: str = setting('', 'Image file; empty takes a photograph of a coffee cup.')
    instruction: str = setting('pick up the coffee cup', 'What to do.')
    engine: str = setting('torch', 'Backend that runs the model: torch or tensorrt_llm.')
    vision_engine: str = setting(
        '',
        'Backend of the vision encoder; empty is tensorrt where engine is tensorrt_llm and the '
        'artifact has such an engine, else torch.',
        choices=('', 'torch', 'tensorrt'),
    )
    dtype: str = setting(
        '',
        'Precision of torch; empty is bfloat16 on a GPU and float32 on the CPU.',
        choices=('', *DTYPES),
    )
    output: str = setting('', 'Where the picture goes; empty is openvla_run.png in the artifact.')


def run(config: Config, artifact: Artifact) -> dict[str, Any]:
    """Predict one step and draw it; every time, as nothing is built on it.

    Raises:
        ArtifactError: save_backbone did not run, or the picture cannot be written.
        PolicyError: The policy cannot be loaded, or gives no action.
    """
    settings = config.openvla_run
    artifact.facts('save_backbone')
    image = read_image(Path(settings.image).expanduser() if settings.image else _default_image())
    policy = Policy.from_checkpoint(
        artifact.path,
        config.unnorm_key or None,
        settings.engine,
        config.device or None,
        settings.dtype or None,
        config.prompt_style or None,
        max_new_tokens=config.max_new_tokens,
        vision_engine=settings.vision_engine or None,
    )
    # Once before, because a first call also allocates and compiles.
    policy.predict(image, settings.instruction)
    prediction = policy.predict(image, settings.instruction)
    output = (
        Path(settings.output).expanduser()
        if settings.output
        else artifact.path.joinpath('openvla_run.png')
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


def _default_image() -> Path:
    # In share/ where colcon installed it, in test/data of a checkout.
    for parent in Path(__file__).resolve().parents:
        for folder in ('share/trt_openvla_ros/images', 'test/data'):
            if (parent / folder / _DEFAULT_IMAGE).is_file():
                return parent / folder / _DEFAULT_IMAGE
    raise ConfigError(f'{_DEFAULT_IMAGE} is not installed; give an image by --image FILE')
