"""The queue of requests for the one policy. It is bounded; a client's newest request wins."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import math
import time
from typing import Any

from trt_openvla_ros.serving.refusal import Refusal


@dataclass(eq=False)
class _Ticket:
    client: str
    work: Callable[[], Any]
    answer: asyncio.Future
    begun: float = 0.0


class RequestQueue:
    """Runs work one at a time in one thread, in the order of arrival.

    All methods belong to the event loop's thread.

    Attributes:
        inside: Number of requests that are being received, waiting or being computed.
        closing: Whether new requests are refused, because the server is shutting down.
    """

    def __init__(self, places: int, count: Callable[[str], None] = lambda reason: None) -> None:
        """Start with an empty queue.

        Args:
            places: Most requests that may be inside, which bounds their memory.
            count: Function that gets the reason if a request leaves without an answer: full,
                superseded, timeout, abandoned.
        """
        self.places, self.inside, self._count = places, 0, count
        self._waiting: deque[_Ticket] = deque()
        self._current: _Ticket | None = None
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='policy')
        self._working: asyncio.Future | None = None
        self.closing = self._closed = False
        self._pace = 0.0  # [s] smoothed time of one request
        self._runner = asyncio.create_task(self._run())

    @property
    def waiting(self) -> int:
        """Number of requests that wait for the policy."""
        return len(self._waiting)

    @property
    def busy_for(self) -> float:
        """Seconds since the policy began the current request; 0 if idle."""
        return time.monotonic() - self._current.begun if self._current else 0.0

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Hold a place from before a request is read until it is answered.

        Raises:
            Refusal: All places are taken, and no older request of this client waits; or the
                server is shutting down.
        """
        if self.closing:
            raise shutting_down()
        if self.inside >= self.places and not self._supersede(client):
            self._count('full')
            raise Refusal(
                503, f'all {self.places} places are taken; try again later', self._patience()
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, client: str, work: Callable[[], Any], timeout: float) -> Any:
        """Wait in the queue, then give the result of work.

        An older waiting request of the same client is refused. Cancelling takes the request out of
        the queue.

        Args:
            client: Name of the client.
            work: Function that is called in the policy's thread.
            timeout: Longest time for waiting and computing [s].

        Raises:
            Refusal: The time is up, a newer request of the client came, or the server is
                shutting down.
        """
        if self._closed:
            raise shutting_down()
        self._supersede(client)
        ticket = _Ticket(client, work, asyncio.get_running_loop().create_future())
        self._waiting.append(ticket)
        self._arrived.set()
        try:
            return await asyncio.wait_for(ticket.answer, timeout)
        except (asyncio.TimeoutError, TimeoutError):
            self._count('timeout')
            if ticket.begun:
                raise Refusal(504, f'no answer within {timeout:g} s') from None
            raise Refusal(
                503, f'waited {timeout:g} s for the policy; try again later', self._patience()
            ) from None
        except asyncio.CancelledError:
            self._count('abandoned')
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(ticket)

    def stop_taking(self) -> None:
        """Refuse new requests; those inside are still answered."""
        self.closing = True

    def refuse(self) -> None:
        """Refuse all that is not answered yet."""
        self.closing = self._closed = True
        self._runner.cancel()
        for ticket in (self._current, *self._waiting):
            if ticket is not None and not ticket.answer.done():
                ticket.answer.set_exception(shutting_down())

    async def close(self, patience: float) -> bool:
        """Refuse all that is not answered; tell whether the policy's thread has ended in time."""
        self.refuse()
        self._thread.shutdown(wait=False)
        if self._working is None or self._working.done():
            return True
        await asyncio.wait({self._working}, timeout=patience)
        # So that its late result is not handed to an event loop that is gone.
        return not self._working.cancel()

    def _supersede(self, client: str) -> bool:
        for ticket in self._waiting:
            if ticket.client == client and not ticket.answer.done():
                self._count('superseded')
                ticket.answer.set_exception(
                    Refusal(409, "a newer request of the same client took this one's place")
                )
                self._waiting.remove(ticket)
                return True
        return False

    def _patience(self) -> int:
        return max(1, min(60, math.ceil(self._pace * (len(self._waiting) + 1))))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            ticket = self._waiting.popleft()
            if ticket.answer.done():
                continue
            ticket.begun = time.monotonic()
            self._current = ticket
            # Not awaited itself, because its exception belongs to the client.
            self._working = done = loop.run_in_executor(self._thread, ticket.work)
            await asyncio.wait({done})
            self._current = None
            elapsed = time.monotonic() - ticket.begun
            self._pace = 0.8 * self._pace + 0.2 * elapsed if self._pace else elapsed
            _hand_over(done, ticket.answer)


def shutting_down() -> Refusal:
    """Say that the server is shutting down."""
    return Refusal(503, 'the server is shutting down', 5)


def _hand_over(done: asyncio.Future, answer: asyncio.Future) -> None:
    error = done.exception()
    if answer.done():  # nobody waits any more
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())
