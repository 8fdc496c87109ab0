"""The service behind all dialects: one policy for many clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
import itertools
import logging
import platform
import threading
import time
from typing import Any

from trt_openvla_ros.codec import encode_description
from trt_openvla_ros.contracts import BasePolicy, Description, Prediction
from trt_openvla_ros.errors import BrokenEngineError, OutputError, PolicyError
from trt_openvla_ros.safety.gate import admit
from trt_openvla_ros.serving.budget import Budget
from trt_openvla_ros.serving.dialects import Question
from trt_openvla_ros.serving.metrics import Metrics
from trt_openvla_ros.serving.refusal import Refusal, refusal_of
from trt_openvla_ros.serving.request_queue import RequestQueue
from trt_openvla_ros.serving.settings import ServerSettings
from trt_openvla_ros.timings import PARTS, Timings
from trt_openvla_ros.version import package_version

_log = logging.getLogger(__name__)
_LIBRARIES = ('torch', 'timm', 'numpy', 'pillow', 'fastapi', 'uvicorn')
# Requests that are parsed at once. More would not be faster, and each takes memory meanwhile.
_READERS = 4
_LAST_WORDS = 0.2  # [s] for refusals to be sent, and for a step of the policy to end
_MAX_NAME = 64  # characters of a client's name
_THROTTLE = 2.0  # [s] between two warnings


class Service:
    """Answers questions with one policy, one at a time.

    Attributes:
        settings: Settings of the server.
        metrics: Counters and times of the server.
        metadata: Facts for clients, as plain JSON.
        broken: Whether the engine failed, so that the process must be started again.
        queue: Queue of the questions; it exists between `start` and `close`.
        budget: Bytes that requests hold.
    """

    queue: RequestQueue

    def __init__(self, policy: BasePolicy, settings: ServerSettings) -> None:
        """Hold a policy; closing the service closes it."""
        self.settings, self._policy = settings, policy
        self._numbers = itertools.count()
        self.broken = False
        self.budget = Budget(settings.max_memory)
        self._warned = -_THROTTLE
        self._open = 0
        self.metadata = metadata_of(policy.description, settings)
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
        """Open the queue in the running event loop."""
        self._readers = asyncio.Semaphore(_READERS)
        self.queue = RequestQueue(self.settings.queue_size, self.metrics.left)
        self.metrics.watch(lambda: self.queue.inside, lambda: self.queue.waiting)

    @contextmanager
    def conversing(self) -> Iterator[None]:
        """Let `drain` wait for a question until its answer, or why there is none, is sent."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def drain(self) -> None:
        """Answer the open questions, if that lasts no longer than `shutdown_timeout`."""
        self.queue.stop_taking()
        await self._until_answered(self.settings.shutdown_timeout)
        self.queue.refuse()
        await self._until_answered(_LAST_WORDS)

    async def _until_answered(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while (self.queue.inside or self._open) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Close the queue, then the policy, unless it is in the middle of a question."""
        if await self.queue.close(_LAST_WORDS):
            self._policy.close()

    def client_of(self, address: str | None, name: str | None) -> str:
        """Name a client by its address and name; a request without a name is its own client.

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

        Cancelling stops the parser, which asks the event between parts of its work.

        Raises:
            Refusal: The request cannot be used.
        """
        begun = time.perf_counter()
        stopped = threading.Event()
        try:
            async with self._readers:
                question = await asyncio.to_thread(
                    parse, data, self.settings.max_pixels, stopped.is_set
                )
        finally:
            stopped.set()
        return question, time.perf_counter() - begun

    async def answer(self, client: str, question: Question, reading: float) -> Prediction:
        """Ask the policy.

        Args:
            client: Client, as named by `client_of`.
            question: Parsed request.
            reading: Time of `read` [s], for the timings.

        Raises:
            Refusal: There is no action.
        """
        asked = time.perf_counter()
        try:
            # Before the queue, so nobody waits only to hear of a typing error.
            self._policy.check(question.instruction, question.unnorm_key)
            with self.budget.hold(question.image.nbytes):
                prediction, begun = await self.queue.run(
                    client, partial(self._predict, question), self.settings.timeout
                )
            admit(prediction, self._policy.description, self.settings.max_forced_tokens)
        except PolicyError as error:
            if isinstance(error, BrokenEngineError):
                self.broken = True
            if isinstance(error, OutputError):
                self.metrics.refused()
            refusal = refusal_of(error)
            now = time.monotonic()
            if refusal.status >= 500 and refusal is not error and now > self._warned + _THROTTLE:
                self._warned = now
                _log.warning('no action: %s', error)
            raise refusal from None
        timings = Timings(
            read=reading,
            queue=begun - asked,
            **{part: prediction.timings[part] for part in PARTS},
            request=time.perf_counter() - asked + reading,
        )
        self.metrics.predicted(timings, prediction.out_of_range)
        return replace(prediction, timings=timings)

    def _predict(self, question: Question) -> tuple[Prediction, float]:
        begun = time.perf_counter()
        return self._policy.predict(
            question.image, question.instruction, question.unnorm_key
        ), begun


def metadata_of(description: Description, settings: ServerSettings) -> dict[str, Any]:
    """Write the facts about a policy and its server for clients, as plain JSON."""
    return {
        'name': 'trt_openvla_ros',
        'version': package_version(),
        **encode_description(description),
        'limits': {
            name: getattr(settings, name)
            for name in ('max_body', 'max_pixels', 'max_memory', 'queue_size', 'timeout')
        },
        'versions': {
            'python': platform.python_version(),
            **{name: _version(name) for name in _LIBRARIES},
        },
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return 'unknown'
