"""Which kernels take the time of a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import profile, ProfilerActivity

from on_gpu.runner import Runner

_MOST = 15  # kernels


def profile_one(runner: Runner, image: np.ndarray, trace: Path) -> list[dict[str, Any]]:
    """Predict once under torch's profiler.

    Args:
        runner: A runner that is warm.
        image: [H, W, 3] uint8 picture.
        trace: File for Chrome's trace viewer or Perfetto; its name may end with .gz.

    Returns:
        The kernels (on a CPU: operators) that took longest: name, calls and time [us].
    """
    cuda = runner.device.type == 'cuda'
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as made:
        runner.predict(image)
        runner.wait()
    trace.parent.mkdir(parents=True, exist_ok=True)
    made.export_chrome_trace(str(trace))
    kind = torch.autograd.DeviceType.CUDA if cuda else torch.autograd.DeviceType.CPU
    found = [
        {
            'name': one.key[:200],
            'calls': one.count,
            'us': round(one.self_device_time_total if cuda else one.self_cpu_time_total, 1),
        }
        for one in made.key_averages()
        if one.device_type == kind
    ]
    return sorted(found, key=lambda one: -one['us'])[:_MOST]
