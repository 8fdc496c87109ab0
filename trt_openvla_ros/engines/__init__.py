"""Backends by name. Only the file of a backend imports it, and only when it is asked for."""

from __future__ import annotations

import gc
from importlib import import_module
import sys
from typing import TYPE_CHECKING

from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoint import Checkpoint
    from trt_openvla_ros.engines.base import LanguageEngine, VisionEngine

DTYPES = ('float32', 'bfloat16', 'float16')
VISION_ENGINES = {'torch': 'trt_openvla_ros.engines.torch_vision:TorchVision'}
LANGUAGE_ENGINES = {'torch': 'trt_openvla_ros.engines.torch_language:TorchLanguage'}


def open_engines(
    name: str, checkpoint: Checkpoint, device: str | None, dtype: str | None
) -> tuple[VisionEngine, LanguageEngine]:
    """Load the vision and the language engine of that name.

    Raises:
        ConfigError: The name is unknown, or the checkpoint does not fit the engine.
        EngineError: The backend cannot be used on this machine.
    """
    if name not in LANGUAGE_ENGINES:
        raise ConfigError(f'unknown engine {name!r}; known: {", ".join(LANGUAGE_ENGINES)}')
    from trt_openvla_ros.engines.placement import resolve_placement

    place = resolve_placement(device, dtype)
    return (
        _load(VISION_ENGINES[name])(checkpoint, *place),
        _load(LANGUAGE_ENGINES[name])(checkpoint, *place),
    )


def free_memory() -> None:
    """Give the memory of engines that nothing refers to back to the device."""
    gc.collect()
    # No engine imported it: then there is nothing to free, and no reason to import it.
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load(target: str) -> type:
    module, name = target.split(':')
    return getattr(import_module(module), name)
