"""Whether memory grows: of processes that are sampled, killed and started again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

WARM_UP = 120.0  # [s] of a process's life in which caches, pools and discovery fill
_LIFE = 300.0  # [s] after the warm-up that a process must live before it is judged
_ALLOWED = 8.0, 0.05  # [MB], and share of its memory, by which it may grow in its life


class Sample(NamedTuple):
    """Memory of a process: time [s], name, number (pid), resident memory [MB]."""

    at: float
    name: str
    number: int
    memory: float


def growth(samples: Iterable[Sample]) -> dict[str, dict[str, Any]]:
    """Judge each process by its name.

    Returns:
        For each name: lives, memory [MB] at the end, slope [MB/h] of all lives together after
        their warm-up (None if they are too short), and whether it `grows`: the median of the last
        quarter of one life is above that of its first by more than 8 MB and 5 %.
    """
    lives: dict[str, dict[int, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if sample.memory > 0.0:
            lives[sample.name][sample.number].append(sample)
    return {name: _judge(list(of_name.values())) for name, of_name in sorted(lives.items())}


def _judge(lives: list[list[Sample]]) -> dict[str, Any]:
    times, memories, grows, longest = [], [], False, 0.0
    for life in lives:
        warm = [s for s in life if s.at - life[0].at >= WARM_UP]
        if len(warm) < 3:
            continue
        at, memory = np.array([s.at for s in warm]), np.array([s.memory for s in warm])
        times.append(at - at.mean())
        memories.append(memory - memory.mean())
        lasted = float(at[-1] - at[0])
        longest = max(longest, lasted)
        if lasted >= _LIFE:
            quarter = max(1, len(memory) // 4)
            first = float(np.median(memory[:quarter]))
            grown = float(np.median(memory[-quarter:])) - first
            grows |= grown > _ALLOWED[0] and grown > _ALLOWED[1] * first
    slope = None
    if times:
        at, memory = np.concatenate(times), np.concatenate(memories)
        slope = round(3600.0 * float(at @ memory / (at @ at)), 2)
    return {
        'lives': len(lives),
        'judged_s': round(longest),
        'memory_mb': round(lives[-1][-1].memory, 1),
        'slope_mb_per_h': slope,
        'grows': bool(grows),
    }
