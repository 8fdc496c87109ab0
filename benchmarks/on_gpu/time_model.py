"""A model of the time: counted bytes, arithmetic and launches, times the rates of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from on_gpu.counting import count_language, count_vision, LanguageWork, Work
from on_gpu.machine import NOMINAL, Rates
from on_gpu.models import Model

# What a kernel's end costs inside a CUDA graph on an H100 [s]. Source: arXiv 2605.30571.
CAPTURED_LAUNCH = 1.3e-6
# Part of the vendor's memory rate that an H100 reads at best. Source: the same.
READ_AT_BEST = 0.95
# GPUs in the table of a machine that has none of them.
SHOWN = ('H100', 'H200', 'GeForce RTX 4090', 'Orin')
_REASONED = ('ecot',)


@dataclass(frozen=True)
class Times:
    """Times of one action [s]."""

    vision: float
    prefill: float
    token: float
    action: float


@dataclass(frozen=True)
class Counted:
    """The work of a model in one format.

    Attributes:
        vision: Work of the towers and the projector.
        language: Work of the language model.
        positions: Positions of the prompt.
        tokens: Tokens of an answer.
    """

    vision: Work
    language: LanguageWork
    positions: int
    tokens: int

    def step(self, passes: int) -> Work:
        """Give the work of an average pass behind the prompt, in an answer of so many passes."""
        rows = max(1, round(self.tokens / passes))
        return self.language.step(self.positions + self.tokens / 2, rows)

    def times(self, rates: Rates, launch: float, passes: int | None = None) -> Times:
        """Compute times.

        Args:
            rates: Rates of the machine.
            launch: Time that each launch costs beside its work [s].
            passes: Passes of the language model; None runs one for each token.
        """
        passes = passes or self.tokens
        vision = _time(self.vision, rates, launch)
        prefill = _time(self.language.prefill, rates, launch)
        token = _time(self.step(passes), rates, launch)
        return Times(vision, prefill, token, vision + prefill + (passes - 1) * token)


def count_model(model: Model, formats: Sequence[str] = ('bfloat16',)) -> dict[str, Counted]:
    """Count a model with its language model's weights in each of these formats."""
    checkpoint = model.checkpoint
    acts = model.name not in _REASONED
    actions = (model.spec.tokens.first, model.spec.tokens.vocab_size) if acts else None
    vision = count_vision(checkpoint.towers, checkpoint.llm)
    return {
        name: Counted(
            vision=vision,
            language=count_language(
                checkpoint, model.ids, actions, '' if name == 'bfloat16' else name
            ),
            positions=model.positions,
            tokens=len(model.answer),
        )
        for name in formats
    }


def _time(work: Work, rates: Rates, launch: float) -> float:
    arithmetic = work.flop / (rates.eight_bit if work.eight_bit else rates.bf16)
    if not launch:  # the roof: nothing but what must be
        return max(work.bytes / rates.memory, arithmetic)
    moved = (work.bytes + work.spilled) / rates.memory
    return max(moved, arithmetic) + work.launches * launch


def expected(counted: Counted, rates: Rates) -> dict[str, Any]:
    """Give roof and model of a machine that is not here, in JSON types [ms]."""
    real = rates._replace(memory=READ_AT_BEST * rates.memory)
    roof, model = counted.times(rates, 0.0), counted.times(real, CAPTURED_LAUNCH)
    return {'roof_ms': _ms(roof), 'model_ms': _ms(model)}


def expected_everywhere(counted: Counted) -> dict[str, Any]:
    """Give roof and model of the GPUs that are shown."""
    return {name: expected(counted, NOMINAL[name]) for name in SHOWN}


def compare(
    counted: Counted, result: dict[str, Any], nominal: Rates | None, measured: dict[str, float]
) -> dict[str, Any]:
    """Put a measured row beside its roofs and the model.

    Args:
        counted: Work of the row's model and format.
        result: The row's result, as `measure.result_of` gives it.
        nominal: The vendor's rates; None if they are not known.
        measured: Rates of `measure_rates`, from the same run.

    Returns:
        The model's times [ms], and for 'token' and 'action' the share of the roofs that was
        reached, by the nominal and by the measured rates.
    """
    eight_bit = nominal.eight_bit / nominal.bf16 if nominal else 1.0
    product = measured['product_flop_per_s']
    real = Rates(measured['read_bytes_per_s'], product, eight_bit * product)
    launch = measured.get('captured_launch_s', measured['launch_s'])
    passes = max(result['passes'], 1)
    roofs = {'measured': counted.times(real, 0.0, passes)}
    if nominal:
        roofs['nominal'] = counted.times(nominal, 0.0, passes)
    # A row with drafts gives its time for each token, and each pass may write several.
    per_token = (passes - 1) / max(result['tokens'] - 1, 1)
    took = {part: result['ms'][part]['p50'] / 1e3 for part in ('token', 'action')}
    return {
        'model_ms': _ms(counted.times(real, launch, passes)),
        'step_bytes': counted.step(passes).bytes,
        'step_launches': counted.language.token.launches,
        'share_of_roof': {
            name: {
                'token': round(roof.token * per_token / took['token'], 4)
                if took['token']
                else None,
                'action': round(roof.action / took['action'], 4),
            }
            for name, roof in roofs.items()
        },
    }


def work_of(counted: Counted) -> dict[str, Any]:
    """Give the counted work in JSON types."""
    return {
        'vision': asdict(counted.vision),
        'prefill': asdict(counted.language.prefill),
        'step': asdict(counted.step(counted.tokens)),
        'cache_bytes_per_position': counted.language.cache_bytes,
        'weights_bytes': counted.language.held_bytes,
        'positions': counted.positions,
        'tokens': counted.tokens,
        'torch': torch.__version__,
    }


def _ms(times: Times) -> dict[str, float]:
    return {name: round(1e3 * value, 3) for name, value in asdict(times).items()}
