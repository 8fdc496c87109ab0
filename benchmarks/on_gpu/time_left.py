"""The time that a benchmark may take, and work that is broken off when it takes too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
import signal
import sys
import threading
import time


class TimeIsOverError(Exception):
    """A piece of work took longer than it may."""


class TimeLeft:
    """The time that is left of the whole run."""

    def __init__(self, seconds: float, start: float | None = None) -> None:
        """Start.

        Args:
            seconds: Time of the whole run [s].
            start: Beginning of the run by time.monotonic() [s]; None is now.
        """
        self.start = time.monotonic() if start is None else start
        self.end = self.start + seconds

    @property
    def seconds(self) -> float:
        """Time that is left [s]; negative if the time is over."""
        return self.end - time.monotonic()

    @property
    def spent(self) -> float:
        """Time since the beginning [s]."""
        return time.monotonic() - self.start

    def why_not(self, seconds: float) -> str:
        """Tell why work of that length [s] cannot begin any more; '' if it can."""
        left = self.seconds
        if left >= seconds:
            return ''
        return f'it takes about {seconds:.0f} s, and {max(left, 0):.0f} s were left'


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Break off what runs inside after some seconds, if this is the main thread.

    A call into a library is broken off when it comes back to Python. Compilers do so often.

    Raises:
        TimeIsOverError: The time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeIsOverError(f'it was broken off after {seconds:.0f} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def end_process_after(seconds: float, say: Callable[[], object]) -> None:
    """End the process with code 3 after some seconds, whatever hangs; `say` is called before."""

    def end() -> None:
        say()
        sys.stdout.flush()
        os._exit(3)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
