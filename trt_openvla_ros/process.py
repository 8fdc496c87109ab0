"""The process of a command: how it begins, how a signal stops it, and how it ends.

A script imports this module before all others, because the libraries behind a command take
seconds to import, and Python's own answer to a signal is a traceback.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNFINISHED = 130  # what a shell reports of a command that was interrupted
_PATIENCE = 1.5  # [s] for the clean-up after a signal; launch kills after 5 s
_FLUSH = 0.3  # [s] for the last lines; nobody may read the pipe that they go to


class _Stop:
    """What a signal does now.

    Attributes:
        code: Exit code after a signal.
        patience: Longest time from the signal to the end [s]. 0 ends the process at once, while
            there is nothing to clean up: during the imports, and after the command's own end.
        asked: Whether a signal came.
        held: Whether its KeyboardInterrupt must wait.
        wake: Function that ends a wait of the main thread, which no signal interrupts.
    """

    code = _UNFINISHED
    patience = 0.0
    asked = False
    held = False
    wake: Callable[[], Any] | None = None


def run(module: str, *arguments: str, stopped: int = _UNFINISHED) -> None:
    """Import a module, call its `main`, and end the process.

    SIGINT, SIGTERM and SIGHUP, which a closed terminal sends, raise KeyboardInterrupt in the main
    thread, once, so nothing interrupts the clean-up. If that takes too long, or the main thread is
    deep in a library, the process ends all the same. Under nohup SIGHUP stays ignored.

    Args:
        module: Full name of the module.
        arguments: Arguments of its `main`.
        stopped: Exit code after a signal: 0 for a service, which ends in no other way.
    """
    if '__mp_main__' in sys.modules:  # a worker of multiprocessing reads the script again
        return
    _Stop.code = stopped
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(receiver,), name='signals', daemon=True).start()
    # A process that was forked off would tell this one of its own signals.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    code, main = 0, None
    try:
        main = import_module(module).main
        try:
            allow(_PATIENCE)
            main(*arguments)
        finally:
            _Stop.patience = 0.0
    except KeyboardInterrupt:
        code = stopped
    # After a signal, an error is no news: the signal interrupted something.
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code and not isinstance(end.code, int) and not _Stop.asked:
            print(end.code, file=sys.stderr)
    except Exception:  # noqa: BLE001 - as Python would
        if not _Stop.asked:
            sys.excepthook(*sys.exc_info())
        # Not 1, with which a command refuses its input, and would again.
        code = os.EX_SOFTWARE if main else 1
    if not _Stop.asked:
        _Stop.code = code
        atexit._run_exitfuncs()
    # Python's own end frees modules and threads for a second or more, and may hang in a library.
    _end(_Stop.code)


def allow(seconds: float) -> None:
    """Give the clean-up after a signal so long."""
    _Stop.patience = seconds


def wake_by(wake: Callable[[], Any]) -> None:
    """Call a function, in another thread, when a signal comes; it must end the current wait."""
    _Stop.wake = wake


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no KeyboardInterrupt fall between a child's start and the place that will end it."""
    _Stop.held = True
    try:
        yield
    finally:
        _Stop.held = False
    if _Stop.asked:
        raise KeyboardInterrupt


def _interrupt(*_: Any) -> None:
    if not _Stop.patience:
        _end(_Stop.code)
    if not _Stop.asked:
        _Stop.asked = True
        # Where nothing can be raised, such as in a destructor, Python would print a traceback.
        sys.unraisablehook = lambda _: None
        if not _Stop.held:
            raise KeyboardInterrupt


def _watch(receiver: int) -> None:
    """Wait for a signal in a thread of its own, whatever the main thread does, and for the end."""
    while os.read(receiver, 1)[0] not in _SIGNALS:
        pass
    if _Stop.wake is not None:
        _Stop.wake()
    time.sleep(_Stop.patience)
    _end(_Stop.code)


def _end(code: int) -> NoReturn:
    flushing = threading.Thread(target=_flush, daemon=True)
    flushing.start()
    flushing.join(_FLUSH)
    os._exit(code)


def _flush() -> None:
    import ctypes

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)  # what libraries in C have printed
