"""Results of frames on disk, a JSON line each, with which an interrupted run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from trt_openvla_ros.checkpoints.hashes import files_below
from trt_openvla_ros.errors import ConfigError

FILE = 'frames.jsonl'
_LARGE = 1 << 26  # bytes; of larger files the size and the time count, and not the content


def fingerprint(path: Path) -> dict[str, str]:
    """Tell files apart by content, and those of over 64 MiB by size and time."""
    files = list(files_below(path)) if path.is_dir() else [path]
    return {str(file.relative_to(path)): _fingerprint(file) for file in files}


def _fingerprint(file: Path) -> str:
    stat = file.stat()
    if stat.st_size >= _LARGE:
        return f'{stat.st_size} bytes, {stat.st_mtime_ns} ns'
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Progress:
    """The results of a run so far.

    Attributes:
        done: Results by number of the image.
    """

    def __init__(self, path: Path, done: dict[int, dict[str, Any]]) -> None:
        """Append to a file; callers use `open` instead."""
        self.done = done
        self._file = path.open('a', encoding='utf-8')

    @classmethod
    @contextmanager
    def open(cls, out: Path, configuration: Any, restart: bool) -> Iterator[Progress]:
        """Go on where a run of the same configuration ended, for the body of a with statement.

        Args:
            out: Directory of the results; made if there is none.
            configuration: Whatever the results depend on, in JSON types.
            restart: Whether results that are there are dropped.

        Raises:
            ConfigError: The results there are of another configuration, or another run writes
                there.
        """
        key = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()
        try:
            out.mkdir(parents=True, exist_ok=True)
            lock = (out / '.lock').open('w')
        except OSError as error:
            raise ConfigError(f'cannot write to {out}: {error}') from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f'another evaluate_bag writes to {out}') from error
            path = out / FILE
            if restart:
                path.unlink(missing_ok=True)
            done = _read(path, key)
            if done is None:
                path.write_text(json.dumps({'configuration': key}) + '\n', encoding='utf-8')
            progress = cls(path, done or {})
            try:
                yield progress
            finally:
                progress._file.close()

    def add(self, result: dict[str, Any]) -> None:
        """Keep the result of a frame, on disk too."""
        self.done[result['number']] = result
        self._file.write(json.dumps(result) + '\n')
        self._file.flush()
        os.fsync(self._file.fileno())


def _read(path: Path, key: str) -> dict[int, dict[str, Any]] | None:
    """Read results; cut off what a run did not finish writing."""
    if not path.is_file():
        return None
    whole, _, rest = path.read_text(encoding='utf-8', errors='replace').rpartition('\n')
    lines = whole.splitlines()
    if not lines:
        return None
    try:
        head, *results = map(json.loads, lines)
        done = {result['number']: result for result in results}
        same = head['configuration'] == key
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f'{path} is not by evaluate_bag ({error}); choose another out, or set --restart true'
        ) from error
    if not same:
        raise ConfigError(
            f'{path} has results of other settings, another checkpoint or another bag; choose '
            'another out, or drop them by --restart true'
        )
    if rest:
        os.truncate(path, path.read_bytes().rfind(b'\n') + 1)
    return done
