"""Bodies of requests, received within limits of length and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from trt_openvla_ros.serving.refusal import Refusal

# Of a body while it is read: itself, its text, a string in it, and the bytes of that.
_COPIES = 4
_MAX_FIELD = 64 * 1024  # bytes of a text in a form
_MAX_FIELDS = 8


def size_of(request: Request, limit: int) -> int:
    """Tell how many bytes of memory reading a request takes at most, if it is ASCII.

    Args:
        request: Request whose body is still unread.
        limit: Longest body [bytes], which one of unknown length may have.
    """
    return _COPIES * min(_announced(request, limit), limit)


def more_of(body: bytes) -> int:
    """Tell how much more memory text takes that is not ASCII: up to four bytes a character.

    JSON may also spell it by escapes.
    """
    return 0 if body.isascii() and b'\\u' not in body else 3 * _COPIES * len(body)


def _announced(request: Request, otherwise: int) -> int:
    length = request.headers.get('content-length', '')
    return int(length[:20]) if length.isdecimal() else otherwise


async def read_body(request: Request, limit: int, timeout: float) -> bytes:
    """Receive a body.

    Args:
        request: Request whose body is still unread.
        limit: Longest body [bytes]; a request that announces more is refused unread.
        timeout: Longest time to receive the body [s].

    Raises:
        Refusal: The body is compressed, too long or too slow.
        ClientDisconnect: The client left.
    """
    if request.headers.get('content-encoding', 'identity').lower() != 'identity':
        # A small compressed body can be a large one.
        raise Refusal(415, 'compressed bodies are not accepted; send the body uncompressed')
    too_long = Refusal(413, f'the body is longer than {limit} bytes; send a JPEG, or less')
    if _announced(request, limit) > limit:
        raise too_long

    async def receive() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            if len(body) + len(chunk) > limit:
                raise too_long
            body += chunk
        return bytes(body)

    try:
        return await asyncio.wait_for(receive(), timeout)
    except (asyncio.TimeoutError, TimeoutError):
        raise Refusal(408, f'the body did not arrive within {timeout:g} s') from None


async def read_fields(headers: Headers, body: bytes) -> dict[str, str | bytes]:
    """Read the fields of a multipart body, with files as bytes.

    Raises:
        Refusal: The body is not multipart.
    """

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        parser = MultiPartParser(
            headers, stream(), max_files=1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD
        )
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        detail = getattr(error, 'message', None) or str(error)
        raise Refusal(400, f'the body is not multipart/form-data: {detail}') from None
    try:
        return {
            name: value if isinstance(value, str) else await value.read()
            for name, value in form.multi_items()
        }
    finally:
        await form.close()
