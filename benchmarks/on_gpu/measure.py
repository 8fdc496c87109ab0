"""The measuring of rows: in groups that fit into the memory, in turn, until the time is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
import time
from typing import Any

import numpy as np
import torch

from on_gpu.engines import Loaded, Pool
from on_gpu.models import Model
from on_gpu.plain import calls_of
from on_gpu.rows import Row, TINY
from on_gpu.time_left import at_most, TimeIsOverError, TimeLeft
from trt_openvla_ros.engines.memory import free_memory

_WARM_UP = 2
# Longer predictions are divided into parts only so often, because that runs them again.
_LONG, _FEW = 0.5, 3  # [s]
_SLOW = 3.0  # [s] of a first prediction, behind which none warms up any more
_FREE = 0.9  # part of the free memory that a group may fill


@dataclass
class Measured:
    """A row that is loaded, and its samples.

    Attributes:
        row: The row.
        loaded: Its runner.
        model: Its model.
        first: Time of the first prediction, which compiles and captures [s].
        peak: Memory that loading and the first prediction took at most [bytes].
        logits: [V] first logits.
        actions: Times of whole predictions [s].
        parts: Times by part [s].
        wrong: Number of answers that were not the model's.
    """

    row: Row
    loaded: Loaded
    model: Model
    first: float
    peak: int
    logits: np.ndarray
    actions: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    wrong: int = 0

    def sample(self, image: np.ndarray) -> None:
        """Predict once, and time the parts."""
        with calls_of(self.row.variant != 'eager'):
            seconds, ids = self.loaded.runner.time(image)
            self.actions.append(seconds)
            self.wrong += ids != self.model.answer
            if seconds < _LONG or len(self.parts) < _FEW:
                self.parts.append(self.loaded.runner.time_parts(image, len(self.model.answer)))


def groups_that_fit(rows: Sequence[Row], free: float) -> Iterator[list[Row]]:
    """Split rows, in their order, into groups whose models fit into so many bytes together."""
    group: list[Row] = []
    filled = 0.0
    for row in rows:
        if group and filled + row.bytes_of_7b > free:
            yield group
            group, filled = [], 0.0
        group.append(row)
        filled += row.bytes_of_7b
    if group:
        yield group


class Measuring:
    """Measures groups of rows, and tells of each row as soon as there is something."""

    def __init__(
        self,
        size: str,
        device: torch.device,
        dtype: torch.dtype,
        image: np.ndarray,
        left: TimeLeft,
        tell: Callable[[Measured], None],
        skip: Callable[[Row, str], None],
        finish: Callable[[Measured], None],
    ) -> None:
        """Prepare.

        Args:
            size: 'tiny' or '7b'.
            device: Device that computes.
            dtype: Precision of all that is not quantised.
            image: [H, W, 3] uint8 picture.
            left: Time that is left.
            tell: Function that gets a row with new samples.
            skip: Function that gets a row that was not measured, and the reason.
            finish: Function that gets each row when its samples are complete, while it is loaded.
        """
        self._size, self._device, self._dtype = size, device, dtype
        self._image, self._left = image, left
        self._tell, self._skip, self._finish = tell, skip, finish
        self._shrink = TINY if size == 'tiny' else 1.0

    def run(self, rows: Sequence[Row], share: float, most: int | None = None) -> None:
        """Measure the rows of a group.

        Args:
            rows: The rows; those that do not fit into the memory together follow one another.
            share: Part of the time left that the group may take.
            most: Samples that are enough; None takes what each row says.
        """
        for group in self._fitting(rows):
            part = len(group) / len(rows)
            self._run(group, time.monotonic() + share * part * max(self._left.seconds, 0), most)

    def _fitting(self, rows: Sequence[Row]) -> list[list[Row]]:
        free = float('inf')
        if self._device.type == 'cuda' and self._size != 'tiny':
            free = _FREE * torch.cuda.mem_get_info(self._device)[0]
        return list(groups_that_fit(rows, free))

    def _run(self, rows: Sequence[Row], until: float, most: int | None) -> None:
        pool = Pool(self._size, self._device, self._dtype)
        loaded = [one for one in (self._load(pool, row) for row in rows) if one]
        # The clocks and the temperature of a GPU drift, so rows take turns.
        waiting = loaded
        while waiting and time.monotonic() < min(until, self._left.end):
            # One that fails is not tried again.
            waiting = [one for one in waiting if self._wants(one, most) and self._sample(one)]
        for one in loaded:
            self._finish(one)
            one.loaded.runner.close()
        loaded.clear()
        pool.clear()

    def _wants(self, one: Measured, most: int | None) -> bool:
        enough = len(one.actions) >= (most or one.row.samples)
        return not enough and self._left.seconds > 2 * one.actions[-1]

    def _sample(self, one: Measured) -> bool:
        try:
            one.sample(self._image)
        except Exception as error:  # noqa: BLE001 - what was measured must be kept
            self._skip(one.row, _reason(error))
            return False
        self._tell(one)
        return True

    def _load(self, pool: Pool, row: Row) -> Measured | None:
        needed = row.load_seconds * self._shrink
        if why := self._left.why_not(needed):
            self._skip(row, why)
            return None
        print(f'{self._left.spent:6.1f} s  {row.name}', flush=True)
        # Only a compiler takes longer than anyone can foresee.
        limit = self._left.seconds if row.variant == 'compiled' else 1e6
        try:
            with at_most(limit):
                one = self._warm(pool, row)
        except (Exception, TimeIsOverError) as error:  # noqa: BLE001 - others must still run
            self._skip(row, _reason(error))
            del error  # and the frames that hold a part of the model
            free_memory()
            return None
        self._tell(one)
        return one

    def _warm(self, pool: Pool, row: Row) -> Measured:
        cuda = self._device.type == 'cuda'
        before = 0
        if cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
        with calls_of(row.variant != 'eager'):
            loaded = pool.load(row)
            first, _ = loaded.runner.time(self._image)
            peak = torch.cuda.max_memory_allocated(self._device) - before if cuda else 0
            logits = loaded.runner.first_logits(self._image)
            model = pool.model(row.model)
            for _ in range(_WARM_UP if first < _SLOW else 0):
                loaded.runner.time(self._image)
            loaded.runner.time_parts(self._image, len(model.answer))
        one = Measured(row, loaded, model, first, peak, logits)
        one.sample(self._image)
        return one


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f'{type(error).__name__}: {text[0][:300] if text else ""}'


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Give the 50th, 95th and 99th percentile of times in s; the results are in ms."""
    p50, p95, p99 = 1e3 * np.percentile(seconds, (50, 95, 99))
    return {'p50': round(p50, 3), 'p95': round(p95, 3), 'p99': round(p99, 3)}


def result_of(one: Measured) -> dict[str, Any]:
    """Give what a row measured, in JSON types."""
    row, runner = one.row, one.loaded.runner
    times = {name: percentiles_ms([p[name] for p in one.parts]) for name in one.parts[0]}
    times['action'] = percentiles_ms(one.actions)
    return {
        'model': row.model,
        'engine': row.engine,
        'variant': row.variant,
        'weights': row.weights,
        'accepted': row.accepted,
        'samples': len(one.actions),
        'ms': times,
        'positions': one.model.positions,
        'tokens': len(one.model.answer),
        'passes': runner.passes,
        'load_s': round(one.loaded.seconds, 3),
        'first_s': round(one.first, 3),
        'peak_bytes': one.peak,
        'wrong_answers': one.wrong,
    }
