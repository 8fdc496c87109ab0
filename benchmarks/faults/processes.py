"""Processes of the loop: started, signalled, measured and ended by their own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from ament_index_python.packages import get_package_prefix

from trt_openvla_ros.process import uninterrupted

_PACKAGE = 'trt_openvla_ros'
_DEVICES = Path(__file__).with_name('devices.py')
_MOST = 30.0  # [s] until a process that does not end is killed


def executable(name: str) -> str:
    """Give the path of an installed executable of the package."""
    return str(Path(get_package_prefix(_PACKAGE)) / 'lib' / _PACKAGE / name)


def device(kind: str, *words: str) -> list[str]:
    """Give the command of a device; words are further arguments."""
    return [sys.executable, str(_DEVICES), kind, *words]


class Processes:
    """Processes by name; one that was killed can be started again.

    Attributes:
        logs: Directory with the output of each.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        """Start none."""
        self._environment, self.logs = {**os.environ, **environment}, logs
        logs.mkdir(parents=True, exist_ok=True)
        self._commands: dict[str, list[str]] = {}
        self._running: dict[str, subprocess.Popen] = {}

    def start(self, name: str, command: Sequence[str] = ()) -> None:
        """Start a process, with the command it had before unless one is given."""
        self._commands[name] = list(command) or self._commands[name]
        with (self.logs / f'{name}.log').open('ab') as log, uninterrupted():
            self._running[name] = subprocess.Popen(
                self._commands[name], env=self._environment, stdout=log, stderr=log
            )

    def send(self, name: str, number: int) -> float:
        """Send a signal; give the time right before it [s, steady]."""
        now = time.monotonic()
        self._running[name].send_signal(number)
        return now

    def kill(self, name: str) -> float:
        """Kill a process; give the time right before it."""
        now = self.send(name, signal.SIGKILL)
        self._running.pop(name).wait(_MOST)
        return now

    def wait(self, name: str) -> int:
        """Wait for the end of a process; give its exit code."""
        return self._running.pop(name).wait(_MOST)

    def runs(self, name: str) -> bool:
        """Whether a process was started and has not ended."""
        return name in self._running and self._running[name].poll() is None

    def ended(self) -> list[str]:
        """Name those that ended by themselves."""
        return [name for name, one in self._running.items() if one.poll() is not None]

    def output(self, name: str) -> str:
        """Give what a process has written so far."""
        log = self.logs / f'{name}.log'
        return log.read_text(errors='replace') if log.is_file() else ''

    def memory(self) -> dict[str, tuple[int, float]]:
        """Give number and resident memory [MB] of each that runs, by name."""
        return {
            name: (one.pid, resident(one.pid)) for name, one in self._running.items() if one.pid
        }

    def number(self, name: str) -> int:
        """Give the number (pid) of a process."""
        return self._running[name].pid

    def close(self) -> None:
        """End all: those that are stopped go on first."""
        for number in (signal.SIGCONT, signal.SIGTERM):
            for one in self._running.values():
                one.send_signal(number)
        for one in self._running.values():
            _end(one)
        self._running.clear()


def end_by_signals() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, so that no process is left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def resident(number: int) -> float:
    """Give the resident memory of a process [MB]; 0 of one that ended."""
    try:
        pages = int(Path(f'/proc/{number}/statm').read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def descriptors(number: int) -> int:
    """Count the open file descriptors of a process."""
    return len(os.listdir(f'/proc/{number}/fd'))


def threads(number: int) -> int:
    """Count the threads of a process."""
    return len(os.listdir(f'/proc/{number}/task'))


def _end(process: subprocess.Popen) -> None:
    try:
        process.wait(_MOST)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
