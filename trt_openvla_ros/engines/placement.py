"""The device and the precision that engines run on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from trt_openvla_ros.engines.base import DTYPES
from trt_openvla_ros.errors import ConfigError, EngineError


def resolve_placement(device: str | None, dtype: str | None) -> tuple[torch.device, torch.dtype]:
    """Choose a device and a dtype.

    The default is the GPU if there is one, with bfloat16 on GPUs and float32 on CPUs.

    Args:
        device: Torch device such as 'cpu' or 'cuda:0'; None or '' takes the default.
        dtype: Name of a torch dtype; None or '' takes the default.

    Raises:
        ConfigError: The name of the device or dtype is unknown.
        EngineError: This machine has no such device.
    """
    try:
        chosen = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ('cpu', 'cuda'):
        raise ConfigError(f"device {device!r} cannot be used; use 'cpu', 'cuda' or 'cuda:N'")
    gpus = torch.cuda.device_count()
    if chosen.type == 'cuda' and (chosen.index or 0) >= gpus:
        raise EngineError(f'device is {device!r}, but torch sees {gpus} GPUs; set device to cpu')
    name = dtype or ('bfloat16' if chosen.type == 'cuda' else 'float32')
    if name not in DTYPES:
        raise ConfigError(f'unknown dtype {dtype!r}; known: {", ".join(DTYPES)}')
    return chosen, getattr(torch, name)


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one of this thread, for libraries that take no device argument.

    It does nothing for a CPU.
    """
    return torch.cuda.device(device) if device.type == 'cuda' else nullcontext()


def capability_of(device: torch.device) -> str | None:
    """Give the compute capability of a GPU, e.g. '9.0'; None for a CPU."""
    if device.type != 'cuda':
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return f'{major}.{minor}'
