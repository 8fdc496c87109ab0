"""What helps where a bag cannot be read, and a way round names that rosbags cannot open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import re
from tempfile import TemporaryDirectory

METADATA = 'metadata.yaml'
_STORAGES = {'.mcap': 'mcap', '.db3': 'sqlite3'}
_TOOLS = {'.mcap': '`mcap recover`', '.db3': '`.recover` of sqlite3'}
_MAGIC = b'\x89MCAP0\r\n'  # the end of each finished file, too
_COMPRESSED = re.compile(r'compression_mode:[ "\']*(file|message)\b', re.IGNORECASE)
_NO_STORAGE = re.compile(r'storage_identifier:[\s"\']*$', re.MULTILINE)
_SPECIAL = re.compile('[#?%]')


def files_of(directory: Path) -> list[Path]:
    """List metadata.yaml and the files of messages, compressed ones too, in a bag's directory."""
    return [
        file
        for file in sorted(directory.iterdir())
        if file.name == METADATA or _kind(file) in _STORAGES
    ]


def way_out(path: Path) -> str:
    """Say what helps where a bag cannot be read.

    Args:
        path: Directory of the bag, or one file of it.
    """
    try:
        return _way_out(path)
    except OSError as error:
        return f'let this user read it ({error})'


def _way_out(path: Path) -> str:
    directory, files = (path, files_of(path)) if path.is_dir() else (path.parent, [path])
    metadata = directory / METADATA
    text = metadata.read_text(errors='replace') if metadata.is_file() else ''
    if path.is_file() and (path.suffix == '.zstd' or _COMPRESSED.search(text)):
        return f'it is compressed, and only its directory says how; give {directory}'
    files = [file for file in files if file.is_file() and _kind(file) in _STORAGES]
    if not files:
        return 'it is no .mcap or .db3, nor has it one; give what `ros2 bag record` made'
    if empty := next((file for file in files if not file.stat().st_size), None):
        return f'{empty.name} is empty; remove it, and run `ros2 bag reindex` if others are left'
    if cut := next((file for file in files if _is_cut(file)), None):
        return (
            f'{cut.name} was not written to its end: `mcap recover {cut.name} --output NEW.mcap` '
            'saves what it holds; put that in its place, and run `ros2 bag reindex`'
        )
    if _NO_STORAGE.search(text):
        return f'set storage_identifier in {metadata} to {_STORAGES[_kind(files[0])]}'
    if path.is_dir() and not text:
        return f'`ros2 bag reindex` writes its {METADATA}'
    reindex = f'`ros2 bag reindex` writes {METADATA} anew if that is wrong'
    if any(file.suffix == '.zstd' for file in files):
        return f'{reindex}; a compressed file that is damaged must be copied again'
    return f'{reindex}; {_TOOLS[_kind(files[0])]} saves what is whole of a damaged file'


@contextmanager
def plainly_named(path: Path) -> Iterator[Path]:
    """Give a bag a name that rosbags can open, for the body of a with statement.

    It puts the names of sqlite3's files into a URI as they are, where some characters have a
    meaning, and takes a directory NAME.bag for a file of ROS 1.
    """
    files = files_of(path) if path.is_dir() else [path]
    plain = not any(_SPECIAL.search(str(file)) for file in files)
    if not path.exists() or (plain and not (path.is_dir() and path.suffix == '.bag')):
        yield path
        return
    with TemporaryDirectory() as name:
        place = Path(name)
        names = {file.name: _SPECIAL.sub('_', file.name) for file in files}
        for file in files:
            (place / names[file.name]).symlink_to(file.absolute())
        link = place / METADATA
        if link in place.iterdir():
            content = link.read_bytes()
            for old, new in names.items():
                content = content.replace(os.fsencode(old), os.fsencode(new))
            link.unlink()
            link.write_bytes(content)
        yield place if path.is_dir() else place / names[path.name]


def _kind(file: Path) -> str:
    return Path(file.stem).suffix if file.suffix == '.zstd' else file.suffix


def _is_cut(file: Path) -> bool:
    """Tell whether the end of a finished file is missing from one of mcap."""
    if file.suffix != '.mcap':
        return False
    with file.open('rb') as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - len(_MAGIC)))
        return stream.read() != _MAGIC
