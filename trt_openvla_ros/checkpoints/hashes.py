"""SHA-256 of files. That of a large file is remembered while its size and its time stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import hashlib
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trt_openvla_ros.errors import ArtifactError

_CHUNK = 1 << 22
_WORTH_A_BAR = 1 << 30
_LARGE = 1 << 26  # bytes; smaller files are read anew each time, which takes milliseconds


class Hashes:
    """Hashes files, and remembers the hashes of large ones."""

    def __init__(self, known: dict[str, list[Any]], base: Path) -> None:
        """Keep hashes in `known`: path to size, modification time [ns] and hash.

        A path below `base` is kept relative to it, so that a directory may move with its hashes.
        """
        self._known, self._base = known, base

    def of(self, inputs: Mapping[str, Path]) -> dict[str, str]:
        """Hash files, and every file below directories.

        Args:
            inputs: Paths by name; a file below a directory is named NAME/its/path.

        Raises:
            ArtifactError: A file is missing.
        """
        files = {}
        for name, path in inputs.items():
            if path.is_dir():
                for file in files_below(path):
                    files[f'{name}/{file.relative_to(path)}'] = file
            elif path.is_file():
                files[name] = path
            else:
                raise ArtifactError(f'{name} is missing: there is no {path}')
        new = sum(path.stat().st_size for path in files.values() if self._recall(path) is None)
        with tqdm(
            total=new, unit='B', unit_scale=True, desc='hashing', disable=new < _WORTH_A_BAR
        ) as bar:
            return {name: self._hash(path, bar) for name, path in files.items()}

    def moved(self, old: Path, new: Path) -> None:
        """Keep the hashes of a file or directory that got another name."""
        before, after = self._name(old), self._name(new)
        for name in [*self._known]:
            if name == before or name.startswith(f'{before}/'):
                self._known[after + name.removeprefix(before)] = self._known.pop(name)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._base) if path.is_relative_to(self._base) else path)

    def _recall(self, path: Path) -> str | None:
        size, stamp, digest = self._known.get(self._name(path), (None, None, None))
        stat = path.stat()
        return digest if (size, stamp) == (stat.st_size, stat.st_mtime_ns) else None

    def _hash(self, path: Path, bar: tqdm) -> str:
        digest = self._recall(path)
        if digest is None:
            # Before reading, so that a file that changes meantime will be hashed again.
            stat = path.stat()
            sha = hashlib.sha256()
            with path.open('rb') as file:
                while chunk := file.read(_CHUNK):
                    sha.update(chunk)
                    bar.update(len(chunk))
            digest = sha.hexdigest()
            if stat.st_size >= _LARGE:
                self._known[self._name(path)] = [stat.st_size, stat.st_mtime_ns, digest]
        return digest


def files_below(directory: Path) -> Iterator[Path]:
    """List every file below a directory, in order; follow links, which the Hub's cache uses."""
    for entry in sorted(directory.iterdir()):
        if entry.is_dir():
            yield from files_below(entry)
        elif entry.is_file():
            yield entry
