"""The device and the precision that engines run on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from trt_openvla_ros.engines.base import DTYPES
from trt_openvla_ros.errors import ConfigError, EngineError


def resolve_placement(device: str | None, dtype: str | None) -> tuple[torch.device, torch.dtype]:
    """Choose the GPU if there is one; bfloat16 on GPUs and float32 on CPUs by default.

    Args:
        device: A torch device such as 'cpu' or 'cuda:0'; None or '' chooses.
        dtype: A torch dtype name; None or '' chooses.

    Raises:
        ConfigError: The device or dtype is no known name.
        EngineError: The device is not there.
    """
    try:
        chosen = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ('cpu', 'cuda'):
        raise ConfigError(f"device {device!r} cannot be used; use 'cpu', 'cuda' or 'cuda:N'")
    gpus = torch.cuda.device_count()
    if chosen.type == 'cuda' and (chosen.index or 0) >= gpus:
        raise EngineError(f'device {device!r} asked for, but torch sees {gpus} GPUs; use cpu')
    name = dtype or ('bfloat16' if chosen.type == 'cuda' else 'float32')
    if name not in DTYPES:
        raise ConfigError(f'unknown dtype {dtype!r}; known: {", ".join(DTYPES)}')
    return chosen, getattr(torch, name)


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one of this thread, for libraries that ask for none; skip a CPU."""
    return torch.cuda.device(device) if device.type == 'cuda' else nullcontext()


def capability_of(device: torch.device) -> str | None:
    """Give the compute capability of a GPU, e.g. '9.0'; None for a CPU."""
    if device.type != 'cuda':
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return f'{major}.{minor}'
