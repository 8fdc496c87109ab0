"""Files of a run: the results of frames, with which an interrupted one goes on, and reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from trt_openvla_ros.bags.repair import files_of
from trt_openvla_ros.checkpoints.hashes import files_below
from trt_openvla_ros.errors import ConfigError

FILE = 'frames.jsonl'
REPORTS = ('report.json', 'report.md', 'report.png', 'video.mp4')
_LOCK = '.lock'
_LARGE = 1 << 26  # bytes; of larger files the size and the time count, and not the content


def fingerprint_of_bag(path: Path) -> dict[str, str]:
    """Tell bags apart by their files; others in the directory do not count."""
    return _fingerprints(path, files_of(path) if path.is_dir() else [path])


def fingerprint(directory: Path, out: Path) -> dict[str, str]:
    """Tell directories apart by all files in them but those of a run that writes to `out`."""
    own, names = out.resolve(), (FILE, _LOCK, *REPORTS)
    files = [
        file
        for file in files_below(directory)
        if file.name not in names or file.parent.resolve() != own
    ]
    return _fingerprints(directory, files)


def _fingerprints(path: Path, files: Iterable[Path]) -> dict[str, str]:
    """Tell files apart by content, and those of over 64 MiB by size and time."""
    return {str(file.relative_to(path)): _fingerprint(file) for file in files}


def _fingerprint(file: Path) -> str:
    stat = file.stat()
    if stat.st_size >= _LARGE:
        return f'{stat.st_size} bytes, {stat.st_mtime_ns} ns'
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of a file or directory what hinders the body in writing it.

    Raises:
        ConfigError: The body had an OSError, such as a full disk.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f'{path} cannot be written: {error}; make room there, or choose another out'
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the body a file to write that takes the place of another when it is whole.

    Raises:
        ConfigError: It cannot be written; what was there before stays.
    """
    part = path.with_name(f'{path.stem}.part{path.suffix}')  # libraries go by the suffix
    try:
        with writing(path):
            yield part
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


class Progress:
    """The results of a run so far.

    Attributes:
        done: Results by number of the image.
    """

    def __init__(self, path: Path, done: dict[int, dict[str, Any]]) -> None:
        """Append to a file; callers use `open` instead."""
        self.done, self._path = done, path
        with writing(path):
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
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            lock = (out / _LOCK).open('w')
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f'another evaluate_bag writes to {out}') from error
            progress = cls(out / FILE, _begin(out, key, restart))
            try:
                yield progress
            finally:
                with suppress(OSError):  # on a full disk it would write the last line once more
                    progress._file.close()

    def add(self, result: dict[str, Any]) -> None:
        """Keep the result of a frame, on disk too.

        Raises:
            ConfigError: The disk is full.
        """
        with writing(self._path):
            self._file.write(json.dumps(result) + '\n')
            self._file.flush()
            os.fsync(self._file.fileno())
        self.done[result['number']] = result


def _begin(out: Path, key: str, restart: bool) -> dict[int, dict[str, Any]]:
    """Give the results that are there; without any, remove what was made of others."""
    path = out / FILE
    with writing(path):
        done = None if restart else _read(path, key)
        if done is not None:
            return done
        for name in REPORTS:
            (out / name).unlink(missing_ok=True)
        path.write_text(json.dumps({'configuration': key}) + '\n', encoding='utf-8')
        return {}


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
