"""Fixed sequences of GPU work: captured once, replayed at each step, and timed without waiting."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
import time
from typing import Any

import torch

_WARM_UP = 2  # runs before a capture, in which libraries choose kernels and take their memory


def captured(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture work over static tensors as a CUDA graph; on a CPU, give it back as it is.

    Args:
        run: Work that reads and writes the same tensors each time, and never waits for the GPU.
        device: Device that computes.

    Returns:
        Function that does the work again.
    """
    if device.type != 'cuda':
        return run
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


class Marks:
    """Points in time of a device's work; on a GPU nothing waits until they are read."""

    def __init__(self, device: torch.device) -> None:
        """Begin with no mark."""
        self._on_gpu = device.type == 'cuda'
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Set a mark behind the work that was given to the device so far."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Give the times between the marks [s]; waits for the last one."""
        if not self._on_gpu:
            return [later - earlier for earlier, later in pairwise(self._marks)]
        if self._marks:
            self._marks[-1].synchronize()
        return [earlier.elapsed_time(later) * 1e-3 for earlier, later in pairwise(self._marks)]
