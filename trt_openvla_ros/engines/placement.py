"""Which device and which precision the torch engines run on."""

from __future__ import annotations

import torch

from trt_openvla_ros.errors import ConfigError, EngineError

_DTYPES = ('float32', 'bfloat16', 'float16')


def resolve_placement(device: str | None, dtype: str | None) -> tuple[torch.device, torch.dtype]:
    """Choose the GPU where there is one; bfloat16 on GPUs and float32 on CPUs by default.

    Args:
        device: A torch device such as 'cpu' or 'cuda:0'; None or '' chooses.
        dtype: A torch dtype name; None or '' chooses.

    Raises:
        ConfigError: The device or dtype is no known name.
        EngineError: The device is not there.
    """
    try:
        chosen = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    except RuntimeError as error:
        raise ConfigError(
            f"device {device!r} is not a torch device; use 'cpu' or 'cuda'"
        ) from error
    if chosen.type == 'cuda' and not torch.cuda.is_available():
        raise EngineError(f'device {device!r} asked for, but torch sees no GPU; use device cpu')
    name = dtype or ('bfloat16' if chosen.type == 'cuda' else 'float32')
    if name not in _DTYPES:
        raise ConfigError(f'unknown dtype {dtype!r}; known: {", ".join(_DTYPES)}')
    return chosen, getattr(torch, name)
