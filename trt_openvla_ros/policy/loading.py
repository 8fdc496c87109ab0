"""The settings of a model, which all programs that load one share, and the loading itself."""

from __future__ import annotations

from dataclasses import dataclass
import logging

from trt_openvla_ros.checkpoints.artifact import Manifest
from trt_openvla_ros.checkpoints.foreign import find_directory
from trt_openvla_ros.engines.base import DTYPES, WEIGHTS
from trt_openvla_ros.errors import ArtifactError, ConfigError
from trt_openvla_ros.policy.camera import CameraSettings
from trt_openvla_ros.policy.local import Policy
from trt_openvla_ros.policy.prompt import PROMPT_STYLES
from trt_openvla_ros.policy.spec import DRAFT_TOKENS, MAX_NEW_TOKENS
from trt_openvla_ros.safety.gate import MAX_FORCED_TOKENS
from trt_openvla_ros.settings import setting

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Model:
    """Settings that choose a model and how it runs."""

    checkpoint: str = setting('', 'Directory of a Hugging Face OpenVLA checkpoint, or its Hub id.')
    unnorm_key: str = setting(
        '',
        "Data set whose statistics turn bins into the data set's units; may be empty if the "
        'checkpoint has only one.',
    )
    engine: str = setting(
        'torch',
        'Backend of the language model: torch, or tensorrt_llm for an artifact with its engine.',
    )
    vision_engine: str = setting(
        '',
        'Backend of the vision encoder; if empty, tensorrt for engine tensorrt_llm with an '
        'artifact that has a vision engine, else torch.',
        choices=('', 'torch', 'tensorrt'),
    )
    device: str = setting(
        '', 'Torch device, such as cpu or cuda:0; if empty, a GPU if there is one, else the CPU.'
    )
    dtype: str = setting(
        '', 'Precision; if empty, bfloat16 on a GPU and float32 on the CPU.', choices=('', *DTYPES)
    )
    weights: str = setting(
        '',
        "Format of the language model's weights, which the torch engine quantises while it loads "
        'them; if empty, as they are stored.',
        choices=('', *WEIGHTS),
    )
    prompt_style: str = setting(
        '',
        'Style of the prompt; if empty, the checkpoint decides.',
        choices=('', *PROMPT_STYLES),
    )
    max_new_tokens: int = setting(
        MAX_NEW_TOKENS, 'Most tokens of an answer with reasoning.', low=1, high=8192
    )
    draft_tokens: int = setting(
        DRAFT_TOKENS,
        'Most tokens of the previous answer that one pass of the torch engine tries for the next; '
        '0 for none.',
        low=0,
        high=63,
    )
    keep_reasoning: int = setting(
        0,
        'Steps for which a reasoning model keeps what it wrote before MOVE REASONING, instead of '
        'writing it anew; changes what it does.',
        low=0,
        high=100,
    )
    constrain: bool = setting(
        True, 'Restrict tokens to the action range once the action has begun.'
    )
    max_forced_tokens: int = setting(
        MAX_FORCED_TOKENS,
        'Most tokens of an action that constrain may force, because the model wrote something '
        'else there; with more, or all, there is no action.',
        low=0,
        high=255,
    )
    allow_failed_verify: bool = setting(
        False, 'Load an artifact of the pipeline even if its stage verify failed.'
    )
    read_all: bool = setting(
        False,
        'Read every file of an artifact before it is loaded, and compare it with its hash; '
        'otherwise a file of over 64 MiB is trusted while its size and time stay.',
    )


# Fields of the last base come first.
@dataclass(frozen=True)
class ModelSettings(CameraSettings, _Model):
    """Settings that choose a model, how it runs, and what it sees of an image."""


def check_checkpoint(settings: ModelSettings) -> None:
    """Check, before anything is loaded, that the checkpoint may be loaded.

    Raises:
        ConfigError: No checkpoint is named.
        ArtifactError: The checkpoint is an artifact whose verification failed, or whose manifest
            was changed.
    """
    if not settings.checkpoint:
        raise ConfigError(
            "parameter checkpoint is empty; give an OpenVLA checkpoint's directory or Hub id"
        )
    directory = find_directory(settings.checkpoint)
    manifest = Manifest.read(directory) if directory else None
    if manifest is None:
        return
    if settings.read_all:
        manifest.check_content()
    if manifest.failures and not settings.allow_failed_verify:
        raise ArtifactError(
            f'artifact {settings.checkpoint} failed its verification: {manifest.failures}; build '
            'it again, or set the parameter allow_failed_verify to true'
        )
    if manifest.unverified:
        _log.warning(
            'artifact %s: verify has not compared %s as it is now; run the stage verify',
            settings.checkpoint,
            ', '.join(manifest.unverified),
        )


def open_policy(settings: ModelSettings) -> Policy:
    """Load the policy that the settings name.

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
        max_forced_tokens=settings.max_forced_tokens,
        vision_engine=settings.vision_engine or None,
        weights=settings.weights or None,
        draft_tokens=settings.draft_tokens,
        keep_reasoning=settings.keep_reasoning,
        camera=settings,
    )
