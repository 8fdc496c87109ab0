"""Safetensors files, read and written piece by piece: a model need not fit into memory.

Format: 8 bytes with the length of the header, little-endian; the header, which is JSON and gives
dtype, shape and place of each tensor; the bytes of the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import json
import logging
from math import prod
from pathlib import Path
import struct
from typing import Annotated, TYPE_CHECKING

from pydantic import Field

from trt_openvla_ros.checkpoints.json_files import (
    checked,
    parse_json,
    read_object,
    Schema,
    write_json,
)
from trt_openvla_ros.checkpoints.llama import is_buffer
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    from tqdm import tqdm

WEIGHTS, INDEX = 'model.safetensors', 'model.safetensors.index.json'
# Dtypes that we compute with: name in the header -> name in torch.
DTYPES = {'BF16': 'bfloat16', 'F16': 'float16', 'F32': 'float32'}
# Bytes of one element, by the name of the dtype in the header.
_ITEM = {
    **{'F64': 8, 'F32': 4, 'F16': 2, 'BF16': 2, 'F8_E4M3': 1, 'F8_E5M2': 1},
    **{'I64': 8, 'I32': 4, 'I16': 2, 'I8': 1, 'U8': 1, 'BOOL': 1},
}
_CHUNK = 1 << 24
_log = logging.getLogger(__name__)
_MOST_HEADER = 100_000_000  # [byte]; the limit of the format's own library


@dataclass(frozen=True)
class Piece:
    """One tensor, stored or to be written.

    Attributes:
        dtype: Name of the dtype in the header, such as 'BF16'.
        shape: Shape in elements.
        read: Function that gives the bytes, row by row as in memory, in parts of any length.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Iterator[bytes]]

    @property
    def size(self) -> int:
        """Size of the tensor [byte]."""
        return prod(self.shape) * _ITEM[self.dtype]


class _Stored(Schema):
    dtype: str
    shape: Annotated[list[Annotated[int, Field(ge=0, le=1 << 40)]], Field(max_length=16)]
    data_offsets: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]


def stored_tensors(path: Path) -> dict[str, Piece]:
    """List the tensors of a file by name, without reading their bytes.

    Raises:
        ConfigError: The file is missing, cut off, or of another format.
    """
    try:
        with path.open('rb') as file:
            total = file.seek(0, 2)
            file.seek(0)
            start = file.read(8)
            length = struct.unpack('<Q', start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(_MOST_HEADER, total - 8):
                raise ConfigError(
                    f'{path} is no safetensors file, or cut off ({total} bytes); after a clone, '
                    '`git lfs pull` brings it, else download it again'
                )
            header = parse_json(file.read(length))
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error}') from error
    except ValueError as error:
        raise ConfigError(f'{path} is no safetensors file: {error}; download it again') from error
    if not isinstance(header, dict):
        raise ConfigError(f'{path} is no safetensors file; download it again')
    header.pop('__metadata__', None)
    pieces = {}
    for name, content in header.items():
        entry = checked(_Stored, content, f'{path}: {name}', 'download it again')
        first, end = entry.data_offsets
        begin = 8 + length + first
        if begin + end - first > total:
            raise ConfigError(
                f'{path} is cut off: {name} ends at byte {begin + end - first} and the file has '
                f'{total}; download it again'
            )
        if entry.dtype not in _ITEM:
            raise ConfigError(
                f'{path}: {name} has the unknown dtype {entry.dtype}; store it in another'
            )
        piece = Piece(entry.dtype, tuple(entry.shape), _range(path, begin, end - first))
        if piece.size != end - first:
            raise ConfigError(
                f'{path}: {name} of {piece.dtype} {piece.shape} has {end - first} bytes; the '
                'file is broken, download it again'
            )
        pieces[name] = piece
    return pieces


def write_tensors(path: Path, pieces: Mapping[str, Piece], bar: tqdm) -> None:
    """Write a file of tensors; memory holds one part of one tensor at a time.

    Args:
        path: The file; it is overwritten.
        pieces: Tensors by name.
        bar: Progress bar, which advances by the bytes written.
    """
    header: dict[str, object] = {'__metadata__': {'format': 'pt'}}
    at = 0
    for name, piece in pieces.items():
        header[name] = {
            'dtype': piece.dtype,
            'shape': piece.shape,
            'data_offsets': [at, at + piece.size],
        }
        at += piece.size
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # aligns the tensors to 8 bytes, which readers prefer
    with path.open('wb') as file:
        file.write(struct.pack('<Q', len(text)))
        file.write(text)
        for name, piece in pieces.items():
            before = file.tell()
            for part in piece.read():
                file.write(part)
                bar.update(len(part))
            written = file.tell() - before
            if written != piece.size:
                raise ConfigError(f'{name} has {written} bytes; its shape needs {piece.size}')


class _Index(Schema):
    weight_map: Annotated[dict[str, str], Field(min_length=1)]


def list_shards(directory: Path) -> list[Path]:
    """Name the files that hold a checkpoint's weights: the single one, else those of the index.

    transformers chooses in this order too. Saving into a directory of shards leaves the old index
    behind.

    Raises:
        ConfigError: The index cannot be used, or the single file lacks tensors of the index.
    """
    index, single = directory / INDEX, directory / WEIGHTS
    if not index.is_file():
        return [single]
    way_out = 'download the checkpoint again'
    listed = checked(_Index, read_object(index, '', way_out), index, way_out).weight_map
    names = sorted(set(listed.values()))
    if single.is_file() and WEIGHTS not in names:
        absent = [name for name in listed.keys() - stored_tensors(single) if not is_buffer(name)]
        if absent:
            raise ConfigError(
                f'{single} lacks {len(absent)} of the {len(listed)} tensors that {INDEX} beside '
                f'it lists, such as {min(absent)}; one of both is left of another save, so delete '
                f'it, or {way_out}'
            )
        _log.warning('%s is read, and %s beside it is not; delete the latter', single, INDEX)
        return [single]
    for name in names:
        if Path(name).name != name or not name.endswith('.safetensors'):
            raise ConfigError(
                f'{index}: weight_map has {name[:200]!r}; weights are in .safetensors files '
                f'beside the index, so {way_out}'
            )
    return [directory / name for name in names]


def write_shards(directory: Path, shards: Sequence[Mapping[str, Piece]], bar: tqdm) -> None:
    """Write a checkpoint's weights, one file for each shard, and an index if there are several."""
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = WEIGHTS
        if len(shards) > 1:
            name = f'model-{number:05d}-of-{len(shards):05d}.safetensors'
        write_tensors(directory / name, shard, bar)
        weight_map |= dict.fromkeys(shard, name)
    if len(shards) > 1:
        total = sum(piece.size for shard in shards for piece in shard.values())
        index = {'metadata': {'total_size': total}, 'weight_map': dict(sorted(weight_map.items()))}
        write_json(directory / INDEX, index)


def progress(pieces: Mapping[str, Piece], text: str) -> tqdm:
    """Make a progress bar in bytes for writing these tensors."""
    from tqdm import tqdm

    total = sum(piece.size for piece in pieces.values())
    return tqdm(total=total, unit='B', unit_scale=True, desc=text)


def joined(pieces: list[Piece]) -> Piece:
    """Concatenate tensors along their first dimension."""
    first = pieces[0]
    rows = sum(piece.shape[0] for piece in pieces)

    def read() -> Iterator[bytes]:
        for piece in pieces:
            yield from piece.read()

    return Piece(first.dtype, (rows, *first.shape[1:]), read)


def _range(path: Path, begin: int, size: int) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        left = size
        with path.open('rb') as file:
            file.seek(begin)
            while left:
                part = file.read(min(left, _CHUNK))
                if not part:
                    raise ConfigError(f'{path} became shorter while it was read; run this again')
                left -= len(part)
                yield part

    return read
