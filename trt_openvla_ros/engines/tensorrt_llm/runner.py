"""Finds the runner of a TensorRT-LLM, and loads an engine by the arguments that it accepts."""

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
    """Load an engine.

    Args:
        config: Configuration of the engine.
        device: Device that computes.
        processors: Logits processors by name, for the C++ runner.

    Raises:
        EngineError: There is no TensorRT-LLM, or it cannot load the engine, or not on this GPU.
    """
    kind = find_runner()
    known = inspect.signature(kind.from_dir).parameters
    # The Python runner takes the GPU of its rank, and not the current one.
    if device.index and 'device_ids' not in known:
        raise EngineError(
            f'device is {device}, and {kind.__name__} computes on the first GPU only; let the '
            f'environment variable CUDA_VISIBLE_DEVICES be {device.index}, and device cuda'
        )
    wanted: dict[str, Any] = {
        'rank': 0,
        'max_batch_size': 1,
        'max_beam_width': 1,
        # Not a share of the GPU's memory: a planner beside it may leave little, and one sequence
        # needs no more than this.
        'max_tokens_in_paged_kv_cache': config.cache_tokens,
        # The image comes right behind <s>, so that two steps have nothing but <s> in common.
        'kv_cache_enable_block_reuse': False,
        'cuda_graph_mode': True,
        'multi_block_mode': True,
        'logits_processor_map': processors,
    }
    if device.type == 'cuda':
        wanted['device_ids'] = [device.index or 0]
        # Else the Python runner would make its own stream current in this thread, and it is used
        # in another.
        wanted['stream'] = torch.cuda.current_stream(device)
    arguments = {name: value for name, value in wanted.items() if name in known}
    try:
        return kind.from_dir(str(config.path), **arguments)
    except (RuntimeError, AssertionError, ValueError, OSError) as error:
        raise EngineError(
            f'TensorRT-LLM cannot load {config.path}: {error}; if it was built on another GPU or '
            'by another release, run the stage build_engine here'
        ) from error


def takes_processor_names(runner: Any) -> bool:
    """Tell the C++ runner from the Python one, which is given the processor itself."""
    return 'logits_processor_names' in inspect.signature(runner.generate).parameters


def find_runner() -> Any:
    """Find the class that runs an engine: ModelRunnerCpp, or else ModelRunner.

    Raises:
        EngineError: TensorRT-LLM cannot be imported, or has neither.
    """
    try:
        runtime = import_module('tensorrt_llm.runtime')
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f'engine tensorrt_llm needs TensorRT-LLM, and importing it failed: {error}; its '
            'container has it (docker/compose.yaml), and engine torch needs none'
        ) from error
    for name in ('ModelRunnerCpp', 'ModelRunner'):
        if hasattr(runtime, name):
            return getattr(runtime, name)
    raise EngineError(
        f'TensorRT-LLM {installed_version()} runs no engines any more; 1.2.1 is the last stable '
        'release that does (docker/Dockerfile)'
    )


def installed_version() -> str | None:
    """Give the version of TensorRT-LLM that is installed, without importing it."""
    try:
        return metadata.version('tensorrt_llm')
    except metadata.PackageNotFoundError:
        return None
