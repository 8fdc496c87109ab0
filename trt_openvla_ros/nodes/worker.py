"""A thread that always works on the newest frame, and one that looks ahead for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import statistics
import threading
import time
from typing import Any

_STEPS = 8  # that are remembered, to expect the end of the next one
_PREPARATIONS = 4  # of frames during one step
_CLOSING = 5.0  # [s] for freeing what the steps needed: collecting garbage takes half a second


class Foresight:
    """Tells when the waiting frame shall be prepared, so that it is ready as a step ends.

    A camera sends many frames during a step, and all but the newest are dropped. So the first one
    is prepared shortly before the expected end of the step, and then each that is newer. A step
    has at most _PREPARATIONS, because no more than one of them is to be gained.
    """

    def __init__(self) -> None:
        """Know nothing yet, and so expect the end at once."""
        self._steps: deque[float] = deque(maxlen=_STEPS)
        self._preparation = 0.0
        self._left = 0

    def begin_step(self) -> None:
        """Allow the preparations of another step."""
        self._left = _PREPARATIONS

    def end_step(self, seconds: float) -> None:
        """Learn how long a step took."""
        self._steps.append(seconds)

    def note_preparation(self, seconds: float) -> None:
        """Learn how long it took to prepare a frame."""
        self._preparation = seconds
        self._left -= 1

    def wait(self, busy: float) -> float | None:
        """Give the time to wait [s], if the running step has taken busy [s]; None for its rest."""
        if self._left <= 0:
            return None
        # A step may end a twentieth earlier, or by as much as a preparation takes.
        end = 0.95 * statistics.median(self._steps) if self._steps else 0.0
        return max(0.0, end - 2 * self._preparation - busy)


class Worker:
    """Works on one frame after another, and always takes the newest.

    While it works, a second thread prepares the frame that waits, at most one at a time.
    `revoke` cancels the frames so far: after it has returned, no result of theirs is delivered.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        deliver: Callable[[Any], None],
        failed: Callable[[BaseException], None],
        finish: Callable[[], None],
        ahead: Callable[[Any], None] = lambda frame: None,
    ) -> None:
        """Start the threads.

        Args:
            work: Function from a frame to a result, or to None if there is nothing to deliver.
            deliver: Function that takes the result; `revoke` waits for its end.
            failed: Function that takes an exception of the other two.
            finish: Function that frees what `work` needs. The thread calls it at its end, because
                nobody else knows when the last step has returned.
            ahead: Function that prepares a frame for `work`, in the second thread. It keeps its
                errors to itself; `work` may get a frame that was not prepared.
        """
        self._work, self._deliver, self._failed = work, deliver, failed
        self._finish, self._ahead = finish, ahead
        self._foresight = Foresight()
        self._ready = threading.Condition()
        self._frame: Any = None
        self._epoch = self._running = 0
        self._begin: float | None = None  # of the running step [s], by a steady clock
        self._closed = False
        self._returned = threading.Event()  # from the last step
        self._death = 'nobody knows why'
        self._thread = threading.Thread(target=self._run, name='policy_worker', daemon=True)
        self._lookout = threading.Thread(target=self._look_ahead, name='policy_ahead', daemon=True)
        self._thread.start()
        self._lookout.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def trouble(self, limit: float) -> str:
        """Say that the thread ended, or works longer on one step than so long [s]; '' if not."""
        if not self.alive:
            return f'the worker ended: {self._death}'
        busy = self.busy
        if busy <= limit:
            return ''
        return (
            f'the engine has worked on one step for {busy:.1f} s, limit {limit} s '
            '(max_step_time); no action comes before it returns; if it never does, restart the '
            'process'
        )

    @property
    def busy(self) -> float:
        """Time that the running step has taken so far [s]; 0 if none runs."""
        begin = self._begin
        return 0.0 if begin is None else time.monotonic() - begin

    def offer(self, frame: Any) -> bool:
        """Make frame the newest; tell whether it replaced one that was still waiting."""
        with self._ready:
            dropped = self._frame is not None
            self._frame = frame
            self._ready.notify_all()
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

    def close(self, patience: float) -> bool:
        """Revoke, and end the threads after the running step.

        Args:
            patience: Longest wait for the step [s]. A thread cannot be killed: one whose step
                takes longer ends when the step does, or never.

        Returns:
            Whether the thread has ended, and freed what it needed.
        """
        self.revoke()
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        if self._returned.wait(patience):
            self._thread.join(_CLOSING)
            self._lookout.join(_CLOSING)
        return not self.alive

    def _run(self) -> None:
        try:
            while not self._closed:
                self._step()
        except BaseException as error:  # noqa: BLE001 - the node must know why it has no worker
            self._death = f'{type(error).__name__}: {error}'
        finally:
            self._returned.set()
            self._finish()

    def _step(self) -> None:
        with self._ready:
            self._ready.wait_for(lambda: self._frame is not None or self._closed)
            if self._closed:
                return
            frame, self._frame = self._frame, None
            self._running = self._epoch
            self._begin = time.monotonic()
            self._foresight.begin_step()
        try:
            result = self._work(frame)
            if result is not None:
                self._foresight.end_step(self.busy)
                self.unless_revoked(self._deliver, result)
        except BaseException as error:  # noqa: BLE001 - one bad frame must not end the thread
            self._failed(error)
        finally:
            self._begin = None

    def _look_ahead(self) -> None:
        done = None
        while True:
            with self._ready:
                while not self._closed and (wait := self._until_due(done)) != 0:
                    self._ready.wait(wait)
                if self._closed:
                    return
                done = self._frame
            start = time.monotonic()
            self._ahead(done)
            self._foresight.note_preparation(time.monotonic() - start)

    def _until_due(self, done: Any) -> float | None:
        """Give the time until the waiting frame is to be prepared [s]; None if it is not."""
        # Without a step that runs, the frame has its own step at once.
        if self._frame is None or self._frame is done or self._begin is None:
            return None
        return self._foresight.wait(self.busy)
