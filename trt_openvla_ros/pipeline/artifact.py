"""The artifact: a directory that each stage writes its part of, once, wholly or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
import errno
import fcntl
import json
import logging
import os
from pathlib import Path
import shutil
import tempfile
import time
from typing import Any

from trt_openvla_ros.checkpoints.artifact import entry_of, Manifest
from trt_openvla_ros.checkpoints.hashes import Hashes
from trt_openvla_ros.errors import ArtifactError
from trt_openvla_ros.pipeline.machine import check_disk, gpu, versions
from trt_openvla_ros.version import package_version

_LOCK = '.lock'
_PART = '.part-'  # prefix of a stage's working directory, which nothing else reads

_log = logging.getLogger(__name__)


@dataclass
class Artifact:
    """An artifact that only this process may write.

    Attributes:
        path: Directory of the artifact.
        force: Stages that run even if nothing changed.
        manifest: Manifest of the artifact.
    """

    path: Path
    force: tuple[str, ...]
    manifest: Manifest

    @classmethod
    @contextmanager
    def open(cls, path: str | Path, force: tuple[str, ...] = ()) -> Iterator[Artifact]:
        """Lock an artifact for the body of a with statement; make it if there is none.

        Raises:
            ArtifactError: Another process is writing it, or this process may not.
        """
        path = Path(path).expanduser().absolute()
        with _explained(path), _locked(path):
            for part in path.glob(f'{_PART}*'):
                _log.warning('removing %s, left by a run that was interrupted', part)
                shutil.rmtree(part)
            yield cls(path, force, Manifest.read(path) or Manifest(path))

    def make(
        self,
        stage: str,
        *,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Path],
        work: Callable[[Path], dict[str, Any]],
        disk: int = 0,
    ) -> dict[str, Any]:
        """Run a stage, unless it ran before with the same settings on the same inputs.

        Args:
            stage: Name of the stage.
            settings: Settings that change the result, in JSON types.
            inputs: Files or directories that the stage reads, by a name that does not change if
                they move.
            work: Function that writes into the empty directory it is given, and returns facts in
                JSON types. Its files move into the artifact together. If it raises, none does.
            disk: Bytes that the stage will write; `make` first checks that the disk has them.

        Returns:
            The facts of this run, or of the earlier one.

        Raises:
            ArtifactError: The artifact cannot be written.
        """
        stages, hashes = self.manifest.stages, Hashes(self.manifest.hashes, self.path)
        key = {
            # Converted to JSON and back, so that it compares equal to the stored record.
            'settings': json.loads(json.dumps(dict(settings))),
            'inputs': hashes.of(inputs),
            'version': package_version(),
        }
        old = stages.get(stage)
        if old and stage not in self.force and self._holds(old, key, hashes):
            _log.info('%s: nothing changed; skipped', stage)
            return old['facts']
        _log.info('%s ...', stage)
        check_disk(self.path, disk)
        start, began = datetime.now(timezone.utc), time.monotonic()
        part = Path(tempfile.mkdtemp(prefix=f'{_PART}{stage}-', dir=self.path))
        try:
            # mkdtemp makes private directories; everyone who reads the artifact reads this one.
            part.chmod(0o777 & ~_umask())
            with _explained(self.path):
                facts = json.loads(json.dumps(work(part)))
                outputs = self._commit(stage, part, hashes)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        stages[stage] = {
            **key,
            'outputs': outputs,
            'facts': facts,
            'versions': versions(),
            'gpu': gpu(),
            'started': start.isoformat(timespec='seconds'),
            'seconds': round(time.monotonic() - began, 3),
        }
        self.manifest.save()
        _log.info('%s: done in %.1f s', stage, time.monotonic() - began)
        return facts

    def refuse(self, source: Path) -> None:
        """Refuse to overwrite the checkpoint that is read.

        Raises:
            ArtifactError: The artifact is the directory of the checkpoint, or lies in it.
        """
        if self.path.resolve().is_relative_to(source.resolve()):
            raise ArtifactError(
                f'artifact {self.path} is in the checkpoint {source}; set it to another directory'
            )

    def facts(self, stage: str) -> dict[str, Any]:
        """Give the facts of a stage that ran.

        Raises:
            ArtifactError: The stage did not run, or its files are not as it wrote them.
        """
        record = self.manifest.stages.get(stage)
        if record is None:
            raise ArtifactError(
                f'the result of {stage} in {self.path} is not there yet; run the stage {stage} '
                'first'
            )
        self.manifest.check(self.manifest.entries(stage))
        return record['facts']

    def _at(self, name: str) -> Path | None:
        path = self.path / name
        return path if path.is_file() else None

    def _holds(self, old: dict[str, Any], key: dict[str, Any], hashes: Hashes) -> bool:
        """Tell whether a record has this key and its files still have their hashes."""
        if any(old.get(name) != value for name, value in key.items()):
            return False
        outputs = {name: self._at(name) for name in old['outputs']}
        return all(outputs.values()) and hashes.of(outputs) == old['outputs']

    def _commit(self, stage: str, part: Path, hashes: Hashes) -> dict[str, str]:
        """Move the written files into the artifact; give the hash of every file."""
        new = hashes.of({entry.name: entry for entry in part.iterdir()})
        # Drop the old records first, so that none describes files that are being replaced.
        self._withdraw(stage, new)
        for entry in part.iterdir():
            place = self.path / entry.name
            _remove(place)
            entry.rename(place)
            hashes.moved(entry, place)
        return new

    def _withdraw(self, stage: str, new: Mapping[str, str]) -> None:
        """Forget a stage and what depended on files of it that change; remove their files."""
        records = self.manifest.stages
        gone = records.pop(stage, {'outputs': {}})['outputs']
        # A stage depends on a file if it read it with this very content.
        changed = {(name, old) for name, old in gone.items() if new.get(name) != old}
        while found := [one for one in records if changed & records[one]['inputs'].items()]:
            for one in found:
                _log.warning('%s is withdrawn, because the result of %s changed', one, stage)
                withdrawn = records.pop(one)['outputs']
                changed |= withdrawn.items()
                gone = {**gone, **withdrawn}
        self.manifest.save()
        for entry in {entry_of(name) for name in gone}:
            _remove(self.path / entry)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the artifact's lock; afterwards remove the directory if it is empty."""
    while True:
        path.mkdir(parents=True, exist_ok=True)
        with (path / _LOCK).open('a+', encoding='ascii') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise ArtifactError(
                    f'{path} is being written by another run (process {lock.read() or "?"}); '
                    'wait for it, or set artifact to another directory'
                ) from None
            # Between our open and our lock, the process before us may have removed the file.
            if not _is_file(lock.fileno(), path / _LOCK):
                continue
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                (path / _LOCK).unlink()
                if not any(path.iterdir()):
                    path.rmdir()
            return


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into messages about the artifact."""
    try:
        yield
    except OSError as error:
        at = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(
                f'the disk of {path} is full; free some space, or set artifact to another disk'
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ArtifactError(
                f'{at} cannot be written or read ({error.strerror}); change its permissions, or '
                'set artifact to a directory of yours'
            ) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise ArtifactError(
                f'artifact {path} cannot be a directory: {at} is a file; set another'
            ) from error
        if error.errno is None:  # an error of a library, not of the operating system
            raise
        raise ArtifactError(
            f'{at} cannot be written or read ({error.strerror}); set artifact to another directory'
        ) from error


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
