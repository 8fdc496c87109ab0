"""Work of fixed shape on a device: captured as a CUDA graph, and timed without waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
import time
from typing import Any

import torch

# Runs before a capture: kernels are compiled and libraries allocate what they need.
_WARM_UP = 2


def captured(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Turn work into one launch.

    Args:
        run: Function that reads and writes tensors which stay where they are. It does not wait
            for the device, and its shapes do not depend on data.
        device: Device of the tensors. On a CPU there is nothing to capture.

    Returns:
        Function that does the same work. On CUDA it replays a graph.
    """
    if device.type != 'cuda':
        return run
    here = torch.cuda.current_stream(device)
    aside = torch.cuda.Stream(device)
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            run()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool(device)):
        run()
    return graph.replay


@cache
def _pool(device: torch.device) -> Any:
    # Graphs never run at the same time, and leave nothing behind but what is in the buffers of
    # their owners. So all of a device share the memory of their intermediate results.
    with torch.cuda.device(device):
        return torch.cuda.graph_pool_handle()


class Marks:
    """Points in time of a device's work; setting one does not wait for the device."""

    def __init__(self, device: torch.device) -> None:
        """Set the first mark."""
        self._device = device
        self._marks: list[Any] = []
        self.mark()

    def mark(self) -> None:
        """Set a mark behind all work so far."""
        if self._device.type == 'cuda':
            mark = torch.cuda.Event(enable_timing=True)
            mark.record(torch.cuda.current_stream(self._device))
        else:
            mark = time.perf_counter()
        self._marks.append(mark)

    def seconds(self) -> list[float]:
        """Give the seconds from each mark to the next, once the device has passed the last."""
        if self._device.type != 'cuda':
            return [end - start for start, end in pairwise(self._marks)]
        self._marks[-1].synchronize()
        return [start.elapsed_time(end) / 1e3 for start, end in pairwise(self._marks)]
