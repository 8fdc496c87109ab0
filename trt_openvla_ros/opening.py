"""The settings of a model, the same for all that load one, and the policy that they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trt_openvla_ros.engines import DTYPES
from trt_openvla_ros.errors import ArtifactError, ConfigError
from trt_openvla_ros.layout import failed_verification
from trt_openvla_ros.policy import MAX_NEW_TOKENS, Policy
from trt_openvla_ros.prompt import PROMPT_STYLES
from trt_openvla_ros.settings import setting


@dataclass(frozen=True)
class ModelSettings:
    """Which model, and how it runs."""

    checkpoint: str = setting('', 'Directory of a Hugging Face OpenVLA checkpoint, or its Hub id.')
    unnorm_key: str = setting(
        '',
        'Data set whose statistics turn bins into m and rad; empty where the checkpoint has one.',
    )
    engine: str = setting(
        'torch',
        'Backend that runs the model: torch, or tensorrt_llm (an artifact with its engine).',
    )
    vision_engine: str = setting(
        '',
        'Backend of the vision encoder; empty is tensorrt where engine is tensorrt_llm and the '
        'artifact has such an engine, else torch.',
        choices=('', 'torch', 'tensorrt'),
    )
    device: str = setting(
        '', 'Torch device such as cpu or cuda:0; empty takes a GPU if there is one.'
    )
    dtype: str = setting(
        '', 'Precision; empty is bfloat16 on a GPU and float32 on the CPU.', choices=('', *DTYPES)
    )
    prompt_style: str = setting(
        '',
        'How the model is asked; empty decides from the checkpoint.',
        choices=('', *PROMPT_STYLES),
    )
    max_new_tokens: int = setting(
        MAX_NEW_TOKENS, 'Most tokens an answer with reasoning may have.', low=1, high=8192
    )
    constrain: bool = setting(True, 'Restrict tokens to the action range once the action began.')
    allow_failed_verify: bool = setting(
        False, 'Load an artifact of the pipeline even where its stage verify failed.'
    )


def check_checkpoint(settings: ModelSettings) -> None:
    """Refuse, before anything is loaded, what must not be.

    Raises:
        ConfigError: No checkpoint is named.
        ArtifactError: It is an artifact whose verification failed.
    """
    if not settings.checkpoint:
        raise ConfigError(
            "parameter checkpoint is empty; give an OpenVLA checkpoint's directory or Hub id"
        )
    failures = failed_verification(Path(settings.checkpoint).expanduser())
    if failures and not settings.allow_failed_verify:
        raise ArtifactError(
            f'artifact {settings.checkpoint} failed its verification: {failures}; build it again, '
            'or set the parameter allow_failed_verify to true'
        )


def open_policy(settings: ModelSettings) -> Policy:
    """Load what the settings say.

    Raises:
        PolicyError: The checkpoint or a setting cannot be used.
    """
    check_checkpoint(settings)
    return Policy.from_checkpoint(
        settings.checkpoint,
        settings.unnorm_key or None,
        settings.engine,
        settings.device or None,
        settings.dtype or None,
        settings.prompt_style or None,
        max_new_tokens=settings.max_new_tokens,
        constrain=settings.constrain,
        vision_engine=settings.vision_engine or None,
    )
