"""One policy, asked by many: what all dialects share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
import itertools
import logging
import platform
import time
from typing import Any

from trt_openvla_ros.actions import ActionStatistics
from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.errors import BrokenEngineError, PolicyError
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.prompt import is_prompt
from trt_openvla_ros.serving.dialects import Answer, Question
from trt_openvla_ros.serving.line import Line
from trt_openvla_ros.serving.metrics import Metrics
from trt_openvla_ros.serving.refusal import Refusal, refusal_of
from trt_openvla_ros.serving.settings import ServerSettings

_log = logging.getLogger(__name__)
_LIBRARIES = ('torch', 'timm', 'numpy', 'pillow', 'fastapi', 'uvicorn')
_MAX_NAME = 64  # characters of a client's name


class Service:
    """Answers questions by one policy, one at a time.

    Attributes:
        settings: The server's.
        metrics: What is counted.
        metadata: What clients may know, plain JSON.
        broken: The engine failed, and the process has to be started again.
        line: Where questions wait; there between `start` and `close`.
    """

    line: Line

    def __init__(self, policy: Policy, settings: ServerSettings) -> None:
        """Hold a policy; it is closed with the service."""
        self.settings, self._policy = settings, policy
        self._default_key = policy.unnorm_key
        self._numbers = itertools.count()
        self.broken = False
        self.metadata = describe(policy, settings)
        self.metrics = Metrics()
        self.metrics.describe(
            {
                'version': self.metadata['version'],
                **{
                    key: str(self.metadata[key])
                    for key in ('checkpoint', 'engine', 'dtype', 'device')
                },
            }
        )

    def start(self) -> None:
        """Open the line, in the event loop that runs."""
        self.line = Line(self.settings.queue_size, self.metrics.left)
        self.metrics.watch(lambda: self.line.inside, lambda: self.line.waiting)

    async def close(self) -> None:
        """Close the line, then the policy."""
        await self.line.close()
        self._policy.close()

    def client_of(self, address: str | None, name: str | None) -> str:
        """Say who asks: the named client at an address; without a name each request is its own.

        Raises:
            Refusal: The name is too long.
        """
        if name is None:
            return f'#{next(self._numbers)}'
        if len(name) > _MAX_NAME:
            raise Refusal(400, f'X-Client-Id has {len(name)} characters; {_MAX_NAME} are allowed')
        return f'{address} {name}'

    async def read(self, parse: Callable[..., Question], data: Any) -> tuple[Question, float]:
        """Parse a request outside the event loop's thread; give the time it took [s].

        Raises:
            Refusal: It cannot be used.
        """
        begun = time.perf_counter()
        question = await asyncio.to_thread(parse, data, self.settings.max_pixels)
        return question, time.perf_counter() - begun

    async def answer(self, client: str, question: Question, reading: float) -> Answer:
        """Ask the policy.

        Args:
            client: From `client_of`.
            question: What is asked.
            reading: Time that reading took [s], for the timings.

        Raises:
            Refusal: There is no action.
        """
        asked = time.perf_counter()
        try:
            # Before the line: nobody should wait to hear of a typing error.
            key, _ = self._policy.statistics(question.unnorm_key or self._default_key)
            prediction, begun = await self.line.run(
                client, lambda: self._predict(question, key), self.settings.timeout
            )
        except PolicyError as error:
            if isinstance(error, BrokenEngineError):
                self.broken = True
            refusal = refusal_of(error)
            if refusal.status >= 500 and refusal is not error:
                _log.warning('no action: %s', error)
            raise refusal from None
        timings = {
            'read': reading,
            'queue': begun - asked,
            **prediction.timings,
            'request': time.perf_counter() - asked + reading,
        }
        self.metrics.predicted(timings, prediction.out_of_range)
        tokenizer = self._policy.prompter.tokenizer
        return Answer(
            prediction,
            timings,
            lambda: self._prompt_ids(prediction.prompt),
            # Those of the image have no text.
            lambda ids: tokenizer.decode([i for i in ids if i < tokenizer.vocab_size]),
            tokenizer.eos_id,
        )

    def _predict(self, question: Question, key: str) -> tuple[Prediction, float]:
        begun = time.perf_counter()
        if key != self._policy.unnorm_key:
            self._policy.set_unnorm_key(key)
        return self._policy.predict(
            question.image, question.instruction, verbatim=is_prompt(question.instruction)
        ), begun

    def _prompt_ids(self, prompt: str) -> list[int]:
        _, ids = self._policy.prompter(prompt, verbatim=True)
        # TensorRT-LLM's virtual ids: image tokens are counted on from the vocabulary's rows.
        rows = self._policy.checkpoint.llm.vocab_size
        return [ids[0], *range(rows, rows + self._policy.image_tokens), *ids[1:]]


def describe(policy: Policy, settings: ServerSettings) -> dict[str, Any]:
    """Write down, as plain JSON, what clients may know of a policy and its server."""
    return {
        'name': 'trt_openvla_ros',
        'version': _version('trt_openvla_ros'),
        'engine': settings.engine,
        **policy.origin,
        'vision_towers': [tower.timm_id for tower in policy.checkpoint.towers],
        'llm_backbone': policy.checkpoint.llm_backbone_id,
        'reasons': policy.prompter.style.reasons,
        'prompt': policy.prompter.style.template,
        'special_tokens': list(policy.prompter.tokenizer.special),
        'image_tokens': policy.image_tokens,
        'unnorm_key': policy.unnorm_key,
        'unnorm_keys': {
            key: _ranges(ActionStatistics.from_norm_stats(entry, key))
            for key, entry in policy.checkpoint.norm_stats.items()
        },
        'preprocessor': policy.checkpoint.preprocessor,
        'limits': {
            name: getattr(settings, name)
            for name in ('max_body', 'max_pixels', 'queue_size', 'timeout')
        },
        'versions': {
            'python': platform.python_version(),
            **{name: _version(name) for name in _LIBRARIES},
        },
    }


def _ranges(statistics: ActionStatistics) -> dict[str, Any]:
    return {
        'q01': statistics.q01.tolist(),
        'q99': statistics.q99.tolist(),
        'mask': statistics.mask.tolist(),
        'text': statistics.describe(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return 'unknown'
