"""Whether a device writes the right tokens: golden cases and small checkpoints, before any time.

The reference is the torch engine in float32 on the CPU, and for the golden cases also what the
reference implementation wrote. A token that differs is compared by the reference's logits behind
the same tokens: it is a near-tie if its logit is almost the largest one, else it is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from on_gpu.plain import calls_of
from on_gpu.time_left import TimeLeft
from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pictures import read_picture_file
from trt_openvla_ros.policy import Policy

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'test' / 'data' / 'golden'
PHOTO = ROOT / 'test' / 'data' / 'coffee.jpg'
CHECKPOINTS = {
    'golden fused': (GOLDEN / 'fused', 'toy_arm'),
    'golden single': (GOLDEN / 'single', 'toy_arm'),
    'tiny_openvla': (ROOT / 'models' / 'tiny_openvla', None),
    'tiny_ecot': (ROOT / 'models' / 'tiny_ecot', None),
}
_INSTRUCTIONS = ('reach the red cube', 'push the blue cube', 'pick up the green cube')
# Tokens of an answer; tiny_ecot writes some 200. A CPU is only asked so that this can be tested.
_LONGEST = {'cuda': 250, 'cpu': 50}
# How far below the largest logit a chosen one may lie, as a share of the largest logit's distance
# from the mean. bfloat16 on a CPU moved the golden checkpoints' tokens by up to 0.036; a broken
# kernel moves them by the whole.
NEAR = {'float32': 0.0, 'bfloat16': 0.08}


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        ids: Token ids of the prompt.
        pixels: What the vision engine sees.
        decoding: Rules of the answer.
        written: What the reference implementation wrote; None if it was not asked.
    """

    ids: list[int]
    pixels: Any
    decoding: Decoding
    written: list[int] | None


def variants(device: torch.device, formats: tuple[str, ...]) -> list[tuple[str, str, bool]]:
    """List what is compared: weights, dtype, and whether passes are captured.

    Args:
        device: Device; a CPU has no graphs, so both ways are the same there.
        formats: Names of formats of weights, beside the dtype's own.
    """
    rows = [('', 'float32', True), ('', 'float32', False), ('', 'bfloat16', True)]
    rows += [(name, 'bfloat16', True) for name in formats]
    return rows if device.type == 'cuda' else [row for row in rows if row[2]]


def check_tokens(
    device: torch.device, formats: tuple[str, ...], left: TimeLeft
) -> Iterator[dict[str, Any]]:
    """Compare a device with the reference; yield one result for each checkpoint and variant.

    Args:
        device: Device to check.
        formats: Names of formats of weights.
        left: Time that is left for it.
    """
    references = References(_LONGEST[device.type])
    # What matters most comes first, because the time may not be enough for all.
    for weights, dtype, captured in variants(device, formats):
        for name in CHECKPOINTS:
            about = {
                'checkpoint': name,
                'weights': weights or dtype,
                'dtype': dtype,
                'passes': 'captured' if captured and device.type == 'cuda' else 'eager',
            }
            if left.seconds < 0:
                yield {**about, 'skipped': left.why_not(0)}
                continue
            try:
                expected = references.of(name, weights)
                with calls_of(captured):
                    tested = _open(*CHECKPOINTS[name], device, dtype, weights)
                    answers = [_answer(tested, one) for one in expected.requests]
                    tested.close()
            except ConfigError as error:  # the format fits neither GPU nor sizes; it says why
                yield {**about, 'skipped': str(error)}
            except Exception as error:  # noqa: BLE001 - the other checks must still run
                yield {**about, 'failed': f'{type(error).__name__}: {str(error)[:300]}'}
            else:
                yield about | expected.compare(answers, NEAR[dtype])


@dataclass(frozen=True)
class Reference:
    """The reference of one checkpoint in one format.

    Attributes:
        policy: Policy in float32 on the CPU.
        requests: Requests.
        answers: Its answers.
    """

    policy: Policy
    requests: list[Request]
    answers: list[list[int]]

    def compare(self, answers: list[list[int]], near: float) -> dict[str, Any]:
        """Count tokens that are right, nearly so, and wrong, in other answers.

        Args:
            answers: Answers to the same requests.
            near: How far below the largest a near-tie's logit may lie, as NEAR has it.
        """
        found = {'answers': len(answers), 'equal_answers': 0}
        found |= {'tokens': 0, 'near_ties': 0, 'wrong': 0}
        for request, answer, expected in zip(self.requests, answers, self.answers, strict=True):
            found['tokens'] += len(answer)
            found['equal_answers'] += answer == expected
            if answer != expected:
                gaps = _gaps(self.policy, request, answer)
                found['near_ties'] += int(((gaps > 0) & (gaps <= near)).sum())
                found['wrong'] += int((gaps > near).sum())
            if request.written and request.written != expected:
                found['wrong'] += 1  # the reference itself is not what was recorded
        return found


class References:
    """The references that were needed so far."""

    def __init__(self, longest: int) -> None:
        """Hold none.

        Args:
            longest: Most tokens of an answer.
        """
        self._longest = longest
        self._made: dict[tuple[str, str], Reference] = {}

    def of(self, name: str, weights: str) -> Reference:
        """Give the reference of a checkpoint, by its name, in a format of weights."""
        if (name, weights) not in self._made:
            path, key = CHECKPOINTS[name]
            policy = _open(path, key, torch.device('cpu'), 'float32', weights)
            requests = _requests(name, path, policy, self._longest)
            if weights:  # what was recorded is not quantised
                requests = [replace(one, written=None) for one in requests]
            answers = [_answer(policy, one) for one in requests]
            self._made[name, weights] = Reference(policy, requests, answers)
        return self._made[name, weights]


def is_right(result: dict[str, Any]) -> bool:
    """Tell whether a result of `check_tokens` has no error; one that was skipped has none."""
    return 'skipped' in result or result.get('wrong') == 0


def _open(path: Path, key: str | None, device: torch.device, dtype: str, weights: str) -> Policy:
    options = {'weights': weights} if weights else {}
    return Policy.from_checkpoint(path, key, device=str(device), dtype=dtype, **options)


def _requests(name: str, path: Path, policy: Policy, longest: int) -> list[Request]:
    spec = policy.spec
    if name.startswith('golden'):
        arrays = dict(np.load(path / 'golden.npz'))
        return [
            Request(
                case['input_ids'],
                spec.views(arrays[f'{case["case"][:5]}0_image']),
                Decoding(max_new_tokens=len(case['generated_ids']), eos_id=2),
                case['generated_ids'],
            )
            for case in json.loads((path / 'golden.json').read_text())
        ]
    photo = read_picture_file(PHOTO)
    pictures = photo, np.ascontiguousarray(photo[:, ::-1]), 255 - photo
    decoding = spec.decoding(spec.statistics[spec.unnorm_key])
    rules = replace(decoding, max_new_tokens=min(decoding.max_new_tokens, longest))
    return [
        Request(spec.prompter(text)[1], spec.views(picture), rules, None)
        for picture, text in zip(pictures, _INSTRUCTIONS, strict=True)
    ]


def _answer(policy: Policy, request: Request) -> list[int]:
    embeddings = policy.engines.vision.encode(request.pixels)
    return policy.engines.language.generate(request.ids, embeddings, request.decoding).ids


def _gaps(reference: Policy, request: Request, answer: list[int]) -> np.ndarray:
    """Give how far below the largest each token's logit lies; 0 for the reference's choice.

    Tokens may be restricted to an action's range. Within it, the largest logit is the range's.
    """
    embeddings = reference.engines.vision.encode(request.pixels)
    prompt = len(request.ids) + len(embeddings)
    logits = reference.engines.language.prefill(
        [*request.ids, *answer[:-1]], embeddings, every=True
    )[prompt - 1 :].float()
    chosen = logits.gather(1, torch.tensor(answer, device=logits.device)[:, None])[:, 0]
    best = logits.max(dim=1).values
    spread = best - logits.mean(dim=1)
    if request.decoding.actions is not None and request.decoding.constrain:
        first, end = request.decoding.actions
        bound = logits[:, first:end].max(dim=1).values
        acting = torch.tensor([first <= token < end for token in answer], device=logits.device)
        best = torch.where(acting, bound, best)
    return ((best - chosen) / spread).cpu().numpy()
