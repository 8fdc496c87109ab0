"""The rates that this device reaches in this run: copying, reading, multiplying, launching."""

from __future__ import annotations

from collections.abc import Callable
import time

import torch

_TRIES = 12
# Larger than any cache: 2 GiB on a GPU. A CPU is only asked so that the program can be tested.
_BYTES = {'cuda': 2 << 30, 'cpu': 64 << 20}
_SIDE = {'cuda': 8192, 'cpu': 512}
_LAUNCHES = 200


@torch.inference_mode()
def measure_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Measure rates; each is the best of several tries.

    Args:
        device: Device to measure.
        dtype: Type of the product.

    Returns:
        copy_bytes_per_s: Bytes read and written by a copy inside the device's memory.
        read_bytes_per_s: Bytes read by the fastest of a few readers.
        product_flop_per_s: Rate of a large square product.
        launch_s: Time of one small operation, launched by itself.
        captured_launch_s: Time of one small operation in a CUDA graph; missing on a CPU.
    """
    rates = {
        **_memory_rates(device),
        'product_flop_per_s': _product_rate(device, dtype),
        **_launches(device),
    }
    if device.type == 'cuda':
        torch.cuda.empty_cache()
    return rates


def _memory_rates(device: torch.device) -> dict[str, float]:
    size = _BYTES[device.type]
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    copy = 2 * size / _best(lambda: target.copy_(source), device)
    read = max(size / _best(reader, device) for reader in _readers(source))
    return {'copy_bytes_per_s': copy, 'read_bytes_per_s': read}


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = _SIDE[device.type]
    left = torch.randn(side, side, device=device).to(dtype)
    return 2 * side**3 / _best(lambda: left @ left, device)


def _launches(device: torch.device) -> dict[str, float]:
    small = torch.zeros(256, device=device)

    def launch() -> None:
        for _ in range(_LAUNCHES):
            small.add_(1)

    found = {'launch_s': _best(launch, device) / _LAUNCHES}
    if device.type == 'cuda':
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            launch()
        found['captured_launch_s'] = _best(graph.replay, device) / _LAUNCHES
    return found


def _readers(source: torch.Tensor) -> list[Callable[[], object]]:
    readers: list[Callable[[], object]] = [lambda: source.sum(), lambda: source.amax()]
    if source.device.type == 'cuda':
        from on_gpu.read_kernel import read_sums

        readers.append(lambda: read_sums(source))
    return readers


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Give the shortest time of the work [s]."""
    times = []
    for _ in range(_TRIES):
        if device.type == 'cuda':
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
    return min(times[1:])
