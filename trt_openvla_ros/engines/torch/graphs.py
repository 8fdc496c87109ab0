"""Work of fixed shape on a device: captured as a CUDA graph, and timed without waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
import threading
import time
from typing import Any

import torch

# Runs before a capture: kernels are compiled and libraries allocate what they need.
_WARM_UP = 2
# Torch allows one capture at a time, and some releases no replay meanwhile. Captures also share a
# stream, and graphs what libraries keep for it. So the policies of one process take turns.
_TURN = threading.Lock()


def captured(
    run: Callable[[], None], device: torch.device, pool: Any = None
) -> Callable[[], None]:
    """Turn work into one launch.

    Args:
        run: Function that reads and writes tensors which stay where they are. It does not wait
            for the device, and its shapes do not depend on data.
        device: Device of the tensors. On a CPU there is nothing to capture.
        pool: What `shared_memory` gave, for graphs that never run at the same time; None for
            memory of this graph alone.

    Returns:
        Function that does the same work. On CUDA it replays a graph.
    """
    if device.type != 'cuda':
        return run
    with _TURN, torch.cuda.device(device):
        aside = _capturing(device)
        here = torch.cuda.current_stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                run()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads, say of a second policy, may use the GPU meanwhile. Whoever calls this is
        # in inference mode: what torch keeps for all graphs of a process may belong to it, and
        # only there can it be written in every case.
        with torch.cuda.graph(graph, pool, aside, capture_error_mode='thread_local'):
            run()

    def replay() -> None:
        with _TURN, torch.cuda.device(device):  # whose current stream gets the graph
            graph.replay()

    return replay


def shared_memory(device: torch.device) -> Any:
    """Give memory for the intermediate results of several graphs; None on a CPU.

    It must not serve again once all its graphs are gone.
    """
    return torch.cuda.graph_pool_handle() if device.type == 'cuda' else None


@cache
def _capturing(device: torch.device) -> torch.cuda.Stream:
    # One for all captures, because libraries keep memory for each stream that they see.
    return torch.cuda.Stream(device)


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
