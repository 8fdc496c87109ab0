"""The settings that all parts of the pipeline share."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.policy.camera import camera_steps, CameraSettings
from trt_openvla_ros.policy.loading import ModelSettings
from trt_openvla_ros.settings import field_of, list_settings, setting

# Settings of a model by name, which other programs declare too.
MODEL = list_settings(ModelSettings)


@dataclass(frozen=True)
class _Model:
    """Artifact, checkpoint, and use of the model."""

    artifact: str = setting('', 'Directory of the artifact, which the pipeline writes.')
    checkpoint: str = setting('', 'OpenVLA checkpoint: a directory or a Hub id.')
    unnorm_key: str = field_of(MODEL['unnorm_key'])
    prompt_style: str = field_of(MODEL['prompt_style'])
    device: str = field_of(MODEL['device'])
    max_new_tokens: int = field_of(MODEL['max_new_tokens'])


# Fields of the last base come first.
@dataclass(frozen=True)
class Common(CameraSettings, _Model):
    """The settings of all stages."""

    def steps(self, checkpoint: Checkpoint) -> CameraSteps:
        """Decide on what is done to images before the image processor of a checkpoint.

        Raises:
            ConfigError: A setting cannot be used.
        """
        return camera_steps(checkpoint, self)
