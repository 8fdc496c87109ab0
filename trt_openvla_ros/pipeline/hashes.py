"""SHA-256 of files, remembered as long as a file keeps its size and modification time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import hashlib
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trt_openvla_ros.errors import ArtifactError

_CHUNK = 1 << 22
_WORTH_A_BAR = 1 << 30


class Hashes:
    """Hashes files, and remembers their hashes."""

    def __init__(self, known: dict[str, list[Any]]) -> None:
        """Keep hashes in `known`: path to size, modification time [ns] and hash."""
        self._known = known

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

    def _recall(self, path: Path) -> str | None:
        size, stamp, digest = self._known.get(str(path), (None, None, None))
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
            self._known[str(path)] = [stat.st_size, stat.st_mtime_ns, digest]
        return digest


def files_below(directory: Path) -> Iterator[Path]:
    """List every file below a directory, in order; follow links, which the Hub's cache uses."""
    for entry in sorted(directory.iterdir()):
        if entry.is_dir():
            yield from files_below(entry)
        elif entry.is_file():
            yield entry
