"""Backends by name. Only the file of a backend imports it, and only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import gc
from importlib import import_module
import sys
from typing import TYPE_CHECKING

from trt_openvla_ros.errors import BrokenEngineError, ConfigError
from trt_openvla_ros.layout import built_engine

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoint import Checkpoint
    from trt_openvla_ros.engines.base import LanguageEngine, Lengths, VisionEngine

DTYPES = ('float32', 'bfloat16', 'float16')
VISION_ENGINES = {
    'torch': 'trt_openvla_ros.engines.torch_vision:TorchVision',
    'tensorrt': 'trt_openvla_ros.engines.tensorrt:TensorrtVision',
}
LANGUAGE_ENGINES = {
    'torch': 'trt_openvla_ros.engines.torch_language:TorchLanguage',
    'tensorrt_llm': 'trt_openvla_ros.engines.tensorrt_llm:TensorrtLlm',
}


def open_engines(
    name: str,
    checkpoint: Checkpoint,
    device: str | None,
    dtype: str | None,
    lengths: Lengths,
    vision: str | None = None,
) -> tuple[VisionEngine, LanguageEngine]:
    """Load the vision and the language engine of these names.

    Args:
        name: Of the language engine.
        checkpoint: What they are of.
        device: A torch device; None or '' chooses.
        dtype: A torch dtype name; None or '' chooses.
        lengths: Of prompts and answers.
        vision: Of the vision engine; None or '' is the one of the language engine's name or, for
            tensorrt_llm, tensorrt where the artifact has a vision engine, and else torch.

    Raises:
        ConfigError: A name is unknown, or the checkpoint does not fit an engine.
        EngineError: A backend cannot be used on this machine.
    """
    if name not in LANGUAGE_ENGINES:
        raise ConfigError(f'unknown engine {name!r}; known: {", ".join(LANGUAGE_ENGINES)}')
    if not vision:
        built = built_engine(checkpoint.path, 'vision') is not None
        vision = name if name in VISION_ENGINES else 'tensorrt' if built else 'torch'
    if vision not in VISION_ENGINES:
        raise ConfigError(f'unknown vision_engine {vision!r}; known: {", ".join(VISION_ENGINES)}')
    from trt_openvla_ros.engines.placement import resolve_placement

    device, dtype = resolve_placement(device, dtype)
    kinds = _load(VISION_ENGINES[vision]), _load(LANGUAGE_ENGINES[name])
    for kind in kinds:
        if hasattr(kind, 'check'):
            kind.check(checkpoint, device, lengths)
    return tuple(kind(checkpoint, device, dtype) for kind in kinds)


@contextmanager
def computing() -> Iterator[None]:
    """Say what an engine's own errors mean: out of memory, a lost GPU, a kernel that failed."""
    try:
        yield
    except RuntimeError as error:
        raise BrokenEngineError(
            f'an engine failed: {error}; load the policy again, and start its process again where '
            'that does not help (after some errors CUDA answers no more)'
        ) from error


def free_memory() -> None:
    """Give the memory of engines that nothing refers to back to the device."""
    gc.collect()
    # No engine imported it: then there is nothing to free, and no reason to import it.
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_available():
        # After some errors CUDA answers no more. Whoever frees goes on: a life cycle node whose
        # on_error raises cannot be configured again.
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def _load(target: str) -> type:
    module, name = target.split(':')
    return getattr(import_module(module), name)
