"""A thread that always works on the newest frame."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Any


class Worker:
    """Works on one frame after another, and always takes the newest.

    `revoke` cancels the frames so far: after it has returned, no result of theirs is delivered.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        deliver: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Start the thread.

        Args:
            work: Function from a frame to a result, or to None if there is nothing to deliver.
            deliver: Function that takes the result; `revoke` waits for its end.
            failed: Function that takes an exception of the other two; it must not raise.
        """
        self._work, self._deliver, self._failed = work, deliver, failed
        self._ready = threading.Condition()
        self._frame: Any = None
        self._epoch = self._running = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='policy_worker', daemon=True)
        self._thread.start()

    def offer(self, frame: Any) -> bool:
        """Make frame the newest; tell whether it replaced one that was still waiting."""
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

    def unless_revoked(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function from within the running step, unless the step was revoked."""
        with self._ready:
            if self._running == self._epoch:
                function(*args)

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
            try:
                result = self._work(frame)
                if result is not None:
                    self.unless_revoked(self._deliver, result)
            except Exception as error:  # noqa: BLE001 - one bad frame must not end the thread
                self._failed(error)
