"""The runner of the installed TensorRT-LLM, and the loading of an engine with it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, metadata
import inspect
from typing import Any

import torch

from trt_openvla_ros.engines.tensorrt_llm.config import EngineConfig
from trt_openvla_ros.errors import EngineError


def open_runner(
    config: EngineConfig, device: torch.device, processors: dict[str, Callable[..., None]]
) -> Any:
    """Load an engine, with those of our arguments that its runner accepts.

    Args:
        config: Configuration of the engine.
        device: Device that computes.
        processors: Logits processors by name, for the C++ runner.

    Raises:
        EngineError: TensorRT-LLM is not installed, or cannot load the engine on this GPU.
    """
    kind = find_runner()
    known = inspect.signature(kind.from_dir).parameters
    # The Python runner takes the GPU of its rank, not the current one.
    if device.index and 'device_ids' not in known:
        raise EngineError(
            f'device is {device}, and {kind.__name__} computes on the first GPU only; let the '
            f'environment variable CUDA_VISIBLE_DEVICES be {device.index}, and set device to cuda'
        )
    wanted: dict[str, Any] = {
        'rank': 0,
        'max_batch_size': 1,
        'max_beam_width': 1,
        # A number of tokens, not a share of the GPU's memory: another program may leave little
        # memory, and one sequence needs no more.
        'max_tokens_in_paged_kv_cache': config.cache_tokens,
        # Two steps share nothing but <s>, because the image comes right behind it.
        'kv_cache_enable_block_reuse': False,
        'cuda_graph_mode': True,
        'multi_block_mode': True,
        'logits_processor_map': processors,
    }
    if device.type == 'cuda':
        wanted['device_ids'] = [device.index or 0]
        # Without it, the Python runner would make its own stream current in this thread. Another
        # thread may use the runner.
        wanted['stream'] = torch.cuda.current_stream(device)
    arguments = {name: value for name, value in wanted.items() if name in known}
    try:
        return kind.from_dir(str(config.path), **arguments)
    except (RuntimeError, AssertionError, ValueError, OSError) as error:
        raise EngineError(
            f'TensorRT-LLM cannot load {config.path}: {error}; if another GPU or another release '
            'built it, run the stage build_engine here'
        ) from error


def takes_processor_names(runner: Any) -> bool:
    """Tell whether a runner takes processors by name (C++), or the processor itself (Python)."""
    return 'logits_processor_names' in inspect.signature(runner.generate).parameters


def find_runner() -> Any:
    """Find the class that runs an engine: ModelRunnerCpp, or ModelRunner if there is none.

    Raises:
        EngineError: TensorRT-LLM cannot be imported, or has neither.
    """
    try:
        runtime = import_module('tensorrt_llm.runtime')
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f'engine tensorrt_llm needs TensorRT-LLM, and importing it failed: {error}; use its '
            'container (docker/compose.yaml), or set engine to torch'
        ) from error
    for name in ('ModelRunnerCpp', 'ModelRunner'):
        if hasattr(runtime, name):
            return getattr(runtime, name)
    raise EngineError(
        f'TensorRT-LLM {installed_version()} runs no engines any more; 1.2.1 is the last stable '
        'release that does (docker/Dockerfile)'
    )


def installed_version() -> str | None:
    """Give the installed version of TensorRT-LLM without importing it; None if there is none."""
    try:
        return metadata.version('tensorrt_llm')
    except metadata.PackageNotFoundError:
        return None
