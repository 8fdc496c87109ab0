"""Numpy arrays in JSON (json_numpy) and in msgpack (openpi), read strictly.

Arrays hold only numbers, never pickled objects. Their length is checked before anything is
allocated, so an array never takes more memory than the client sent bytes. Elements and depth are
limited while a request is parsed: eight million empty lists fit into 8 MB, and take 0.6 GB.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any
from urllib.parse import unquote

import msgpack
import numpy as np

from trt_openvla_ros.serving.refusal import Refusal

_SEVERAL_BYTES = ('i2', 'i4', 'i8', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')
# Single bytes have no order, so numpy writes '|' for them.
DTYPES = frozenset(('|b1', '|i1', '|u1', *(o + kind for o in '<>' for kind in _SEVERAL_BYTES)))
_MAX_DIMS = 8
# Of a request: all elements of its lists and maps, and those of one. Arrays count as one.
_MAX_ELEMENTS, _MAX_LENGTH = 10_000, 256
# No body can hold more. An empty array may still have lengths that numpy cannot count.
_MAX_BYTES = 2**40
_BASE64_VARIANTS = str.maketrans('-_', '+/', ' \t\r\n')


def read_json(data: bytes | str) -> Any:
    """Parse JSON in which arrays stay as json_numpy wrote them.

    Raises:
        Refusal: It is not JSON.
    """
    comma, opening = (',', '[{') if isinstance(data, str) else (b',', b'[{')
    # Each element stands behind one of these characters; in texts they count as well.
    count = data.count(comma) + sum(data.count(opening[i : i + 1]) for i in range(2))
    if count > _MAX_ELEMENTS:
        raise Refusal(
            400,
            f'the body has {count} commas and brackets; at most {_MAX_ELEMENTS} are read: send '
            'arrays as json_numpy writes them',
        )
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        # A RecursionError's text is about Python, which does not concern the client.
        detail = 'it is nested too deeply' if isinstance(error, RecursionError) else error
        raise Refusal(400, f'the body is not JSON: {detail}') from None


def is_array(value: Any) -> bool:
    """Tell whether a JSON value is an array as json_numpy writes it."""
    return isinstance(value, dict) and '__numpy__' in value


def array_of_json(value: dict) -> np.ndarray:
    """Read {'__numpy__': base64, 'dtype': '|u1', 'shape': [H, W, 3]}; the result is read-only.

    Raises:
        Refusal: It is not such an array of numbers.
    """
    text = value.get('__numpy__')
    dtype, shape, size = _header(value.get('dtype'), value.get('shape'))
    if not isinstance(text, str) or len(text) != 4 * math.ceil(size / 3):
        raise Refusal(
            400,
            f'an array of dtype {dtype.str} and shape {list(shape)} is {size} bytes, in base64 '
            f'{4 * math.ceil(size / 3)} characters; __numpy__ has '
            f'{len(text) if isinstance(text, str) else type(text).__name__}',
        )
    return _view(_base64(text, '__numpy__'), dtype, shape, size)


def json_of_array(array: np.ndarray) -> dict:
    """Write an array as json_numpy 2 does."""
    array = np.asarray(array)
    return {
        '__numpy__': base64.b64encode(array.tobytes()).decode(),
        'dtype': array.dtype.str,
        'shape': list(array.shape),
    }


def bytes_of_base64(text: str, name: str) -> bytes:
    """Decode base64, with or without the head of a data URL.

    Raises:
        Refusal: It is not base64.
    """
    head, comma, rest = text.lstrip().partition(',')
    if comma and head[:5].lower() == 'data:':
        if not head.lower().endswith(';base64'):
            raise Refusal(400, f'{name} is a data URL without base64 ({head[:60]!r})')
        text = unquote(rest)
    return _base64(text, name)


def read_msgpack(data: bytes) -> Any:
    """Parse msgpack with arrays as openpi packs them.

    Raises:
        Refusal: It is not msgpack, has too many elements, or holds anything but plain values and
            arrays of numbers.
    """
    elements = 0

    def counted(value: Any) -> Any:
        nonlocal elements
        elements += 1 + len(value)
        if elements > _MAX_ELEMENTS:
            raise ValueError(f'it has more than {_MAX_ELEMENTS} elements; send arrays')
        return value

    try:
        return msgpack.unpackb(
            data,
            object_hook=lambda value: _unpacked(counted(value)),
            list_hook=counted,
            ext_hook=_no_extension,
            strict_map_key=False,
            # Whole containers are counted, and those that are still open are at most as deep as
            # msgpack's stack (512); so these limits bound what is there before it is counted.
            max_array_len=_MAX_LENGTH,
            max_map_len=_MAX_LENGTH,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise Refusal(400, f'the message is not msgpack: {str(error) or repr(error)}') from None


def write_msgpack(value: Any) -> bytes:
    """Pack plain values and arrays as openpi does."""
    return msgpack.packb(value, default=_packed)


def _packed(value: np.ndarray) -> dict:
    return {
        b'__ndarray__': True,
        b'data': value.tobytes(),
        b'dtype': value.dtype.str,
        b'shape': value.shape,
    }


def _unpacked(value: dict) -> Any:
    if b'__ndarray__' in value:
        dtype, shape, size = _header(value.get(b'dtype'), value.get(b'shape'))
        data = value.get(b'data')
        if not isinstance(data, bytes):
            raise Refusal(400, f'the data of an array are bytes, not {type(data).__name__}')
        return _view(data, dtype, shape, size)
    if b'__npgeneric__' in value:
        dtype, _, _ = _header(value.get(b'dtype'), [])
        number = value.get(b'data')
        if not isinstance(number, bool | int | float):
            raise Refusal(400, f'a numpy scalar is a number, not {type(number).__name__}')
        return number
    return value


def _no_extension(code: int, data: bytes) -> None:
    raise ValueError(f'extension type {code} is not used in this protocol')


def _header(dtype: Any, shape: Any) -> tuple[np.dtype, tuple[int, ...], int]:
    """Check dtype and shape, and give them with the size in bytes."""
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Refusal(400, f'dtype {dtype!r:.60} is not allowed; use |u1 for images')
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > _MAX_DIMS
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise Refusal(400, f'shape {shape!r:.60} is not up to {_MAX_DIMS} lengths')
    kind = np.dtype(dtype)
    if math.prod(n or 1 for n in shape) * kind.itemsize > _MAX_BYTES:
        raise Refusal(400, f'shape {shape!r:.60} is more than any request holds')
    return kind, tuple(shape), math.prod(shape) * kind.itemsize


def _view(data: bytes, dtype: np.dtype, shape: tuple[int, ...], size: int) -> np.ndarray:
    if len(data) != size:
        raise Refusal(
            400, f'an array of dtype {dtype.str} and shape {list(shape)} is {size} bytes, not '
            f'{len(data)}',
        )  # fmt: skip
    return np.frombuffer(data, dtype).reshape(shape)


def _base64(text: str, name: str) -> bytes:
    # Encoders for mail break lines, and those for URLs replace two characters and leave out '='.
    text = text.translate(_BASE64_VARIANTS)
    if len(text) % 4 in (2, 3) and not text.endswith('='):
        text += '=' * (-len(text) % 4)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f'{name} is not base64: {error}') from None
