"""A thread that always works on the newest frame."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Any


class Worker:
    """Runs one step after another, each on the newest frame at its start.

    A step returns what to do with its result, which happens unless the result was revoked in
    the meantime; so nothing is published after `revoke` has returned.
    """

    def __init__(self, step: Callable[[Any], Callable[[], None] | None]) -> None:
        """Start the thread; step must not raise."""
        self._step = step
        self._ready = threading.Condition()
        self._frame: Any = None
        self._epoch = self._running = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='policy_worker', daemon=True)
        self._thread.start()

    def offer(self, frame: Any) -> bool:
        """Make frame the newest; tell whether one that nobody had worked on was dropped."""
        with self._ready:
            dropped = self._frame is not None
            self._frame = frame
            self._ready.notify()
        return dropped

    def revoke(self) -> None:
        """Forget the waiting frame, and the result of the step that is running."""
        with self._ready:
            self._frame = None
            self._epoch += 1

    def meanwhile(self, deliver: Callable[[], None]) -> None:
        """Let the running step deliver something before its end, unless it was revoked."""
        with self._ready:
            if self._running == self._epoch:
                deliver()

    def close(self) -> None:
        """Revoke, wait for the running step, and end the thread."""
        self.revoke()
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._frame is not None or self._closed)
                if self._closed:
                    return
                frame, self._frame = self._frame, None
                self._running = self._epoch
            deliver = self._step(frame)
            with self._ready:
                if deliver is not None and self._running == self._epoch:
                    deliver()
