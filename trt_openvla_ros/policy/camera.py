"""The settings of what a camera's picture goes through, and what the checkpoint tells of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
import logging
from typing import Any

from trt_openvla_ros.camera_steps import CameraSteps, MIRRORS, RESIZES
from trt_openvla_ros.checkpoints.preprocessor import stated_camera
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.settings import setting

_log = logging.getLogger(__name__)
_SWITCH = ('', 'true', 'false')
_SIDE = 65535  # [px]
# Data sets of fine-tunes whose evaluation has all three steps.
_LIBERO = 'libero_'
# finetune.py of openvla/openvla ends the name of a run with it if crops were random in training.
_AUGMENTED = 'image_aug'


@dataclass(frozen=True)
class CameraSettings:
    """Settings of what is done to a picture before the model sees it."""

    center_crop: str = setting(
        '',
        "Show the model the middle 0.9 of the picture's area, which checkpoints trained with "
        'random crops want; if empty, the checkpoint decides.',
        choices=_SWITCH,
    )
    jpeg_round_trip: str = setting(
        '',
        'Write the picture as JPEG and read it again before it is resized, as TensorFlow does; if '
        'empty, the checkpoint decides.',
        choices=_SWITCH,
    )
    resize: str = setting(
        '',
        "Resizing: processor as the checkpoint's preprocessor_config.json has it, or lanczos3 as "
        'TensorFlow does; if empty, the checkpoint decides.',
        choices=('', *RESIZES),
    )
    rotation: int = setting(
        0, 'Turn of the picture, clockwise [deg]: 0, 90, 180 or 270.', low=0, high=270
    )
    mirror: str = setting(
        'none',
        'Mirror image: horizontal swaps left and right, vertical top and bottom; after rotation.',
        choices=MIRRORS,
    )
    region_x: int = setting(
        0, "Left edge of the region of the camera's picture that is used [px].", low=0, high=_SIDE
    )
    region_y: int = setting(0, 'Upper edge of the region [px].', low=0, high=_SIDE)
    region_width: int = setting(
        0, 'Width of the region [px]; 0, with all of region_*, for all.', low=0, high=_SIDE
    )
    region_height: int = setting(
        0, 'Height of the region [px]; 0, with all of region_*, for all.', low=0, high=_SIDE
    )

    @property
    def of_camera(self) -> CameraSteps:
        """Region, rotation and mirror, without any other step.

        Raises:
            ConfigError: A value is none of a step.
        """
        region = (self.region_x, self.region_y, self.region_width, self.region_height)
        return CameraSteps(region, self.rotation, self.mirror)

    @property
    def of_checkpoint(self) -> dict[str, Any]:
        """The other steps, as far as they are not left to the checkpoint, as CameraSteps has them.

        Raises:
            ConfigError: A value is none of a step.
        """
        given = {
            name: getattr(self, name) for name in ('center_crop', 'jpeg_round_trip', 'resize')
        }
        words = {'true': True, 'false': False}
        return {name: words.get(value, value) for name, value in given.items() if value != ''}


def camera_steps(checkpoint: Checkpoint, settings: CameraSettings | None = None) -> CameraSteps:
    """Decide on the steps: what settings leave open, the checkpoint tells.

    Raises:
        ConfigError: A setting, or what the checkpoint states, cannot be used.
    """
    settings = settings or CameraSettings()
    told, rule = _told(checkpoint)
    steps = replace(settings.of_camera, **{**told, **settings.of_checkpoint})
    why = f'; {rule}' if told.keys() - settings.of_checkpoint.keys() else ''
    _log.info('steps before the image processor: %s%s', steps, why)
    return steps


def _told(checkpoint: Checkpoint) -> tuple[dict[str, Any], str]:
    """Give what a checkpoint tells, and where it does."""
    stated = stated_camera(checkpoint.preprocessor)
    if stated:
        return stated, 'its preprocessor_config.json states them'
    found = [key for key in checkpoint.norm_stats if key.startswith(_LIBERO)]
    if found:
        every = {'center_crop': True, 'jpeg_round_trip': True, 'resize': 'lanczos3'}
        return every, f'its data set {found[0]} is of LIBERO'
    found = [name for name in checkpoint.names if _AUGMENTED in name]
    if found:
        return {'center_crop': True}, f'the name {found[0]} has {_AUGMENTED}'
    return {}, ''
