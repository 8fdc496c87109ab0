"""The engines by name, and the functions that load them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.engines.base import computing, Engines, WEIGHTS
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from trt_openvla_ros.checkpoints.released import Checkpoint
    from trt_openvla_ros.engines.base import Lengths

VISION_ENGINES = {
    'torch': 'trt_openvla_ros.engines.torch.vision:TorchVision',
    'tensorrt': 'trt_openvla_ros.engines.tensorrt.vision:TensorrtVision',
}
LANGUAGE_ENGINES = {
    'torch': 'trt_openvla_ros.engines.torch.language:TorchLanguage',
    'tensorrt_llm': 'trt_openvla_ros.engines.tensorrt_llm.language:TensorrtLlm',
}


def open_engines(
    checkpoint: Checkpoint,
    lengths: Lengths,
    language: str = 'torch',
    vision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    weights: str | None = None,
) -> Engines:
    """Load the engines of a checkpoint, after each has checked that it fits.

    Args:
        checkpoint: Checkpoint of the model.
        lengths: Lengths of the requests.
        language: Name of the language engine.
        vision: Name of the vision engine. None or '' takes the language engine's name if a vision
            engine has it. Otherwise (tensorrt_llm) it takes tensorrt if the artifact has a vision
            engine, and torch if not.
        device: Torch device; None or '' takes the GPU if there is one.
        dtype: Name of a torch dtype; None or '' takes the default of the device.
        weights: One of WEIGHTS, in which the torch engine holds the language model's weights; None
            or '' takes them as they are stored.

    Raises:
        ConfigError: A name is unknown, or the checkpoint does not fit an engine.
        EngineError: A backend cannot be used on this machine.
    """
    if language not in LANGUAGE_ENGINES:
        raise ConfigError(f'unknown engine {language!r}; known: {", ".join(LANGUAGE_ENGINES)}')
    if not vision:
        built = checkpoint.artifact is not None and checkpoint.artifact.engine('vision')
        vision = language if language in VISION_ENGINES else 'tensorrt' if built else 'torch'
    if vision not in VISION_ENGINES:
        raise ConfigError(f'unknown vision_engine {vision!r}; known: {", ".join(VISION_ENGINES)}')
    options = {}
    if weights:
        if language != 'torch':
            raise ConfigError(
                f'weights is {weights!r}, which only engine torch quantises at load, and engine '
                f'is {language!r}; leave weights empty and set quantize.qformat in the pipeline'
            )
        if weights not in WEIGHTS:
            raise ConfigError(f'unknown weights {weights!r}; known: {", ".join(WEIGHTS)}')
        options = {'weights': weights}
    from trt_openvla_ros.engines.placement import resolve_placement

    with computing():
        place = resolve_placement(device, dtype)
    parts = [
        (VISION_ENGINES[vision], checkpoint, {}),
        (LANGUAGE_ENGINES[language], checkpoint, options),
    ]
    loaded = load_engines(parts, lengths, place)
    return Engines(*loaded, language)


def load_engines(
    parts: Sequence[tuple[str, Checkpoint, Mapping[str, Any]]],
    lengths: Lengths,
    place: tuple[torch.device, torch.dtype],
) -> list[Any]:
    """Load engines, after each has checked that it fits.

    Args:
        parts: Class of each engine, as 'module:name', the checkpoint to load it from, and further
            arguments.
        lengths: Lengths of the requests.
        place: Device and dtype.

    Raises:
        ConfigError: A checkpoint does not fit an engine.
        EngineError: A backend cannot be used on this machine.
    """
    with computing():
        kinds = [(_import(target), *rest) for target, *rest in parts]
        for kind, checkpoint, _ in kinds:
            if hasattr(kind, 'check'):
                kind.check(checkpoint, place[0], lengths)
        return [kind(checkpoint, *place, **options) for kind, checkpoint, options in kinds]


def _import(target: str) -> type:
    module, name = target.split(':')
    return getattr(import_module(module), name)
