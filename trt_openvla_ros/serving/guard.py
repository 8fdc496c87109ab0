"""The checks of every request before the application sees it: token, host and origin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
import hmac
import json
from typing import Any
from urllib.parse import urlsplit

from trt_openvla_ros.serving.refusal import Refusal
from trt_openvla_ros.serving.settings import is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# These paths tell nothing about a checkpoint or a robot.
OPEN_PATHS = frozenset(('/', '/healthz', '/docs', '/openapi.json'))
OPEN_FOLDER = '/samples/'
# A client that is still sending would see a broken connection instead of the reason. So the rest
# of a refused body is received and thrown away, within these bounds [s, bytes].
_DRAIN_TIME, _DRAIN_BYTES = 2.0, 64 * 2**20
_MAX_NUMBER = 128  # characters of a question's id that are echoed

_HEADERS = [
    (b'x-content-type-options', b'nosniff'),
    (b'referrer-policy', b'no-referrer'),
    (b'cache-control', b'no-store'),
    (
        b'content-security-policy',
        b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        b"img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; "
        b"base-uri 'none'; form-action 'none'",
    ),
]


class Guard:
    """ASGI middleware that checks token, host and origin, and refuses in a readable way."""

    def __init__(
        self, app: Callable[..., Awaitable[None]], token: str | None, local: bool
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            token: Bearer token for all but the open paths; None asks for none.
            local: Whether only this machine reaches the server; without a token, other host names
                are refused then.
        """
        self._app, self._token, self._local = app, token, local

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope['type'] not in ('http', 'websocket'):
            await self._app(scope, receive, send)
            return
        headers = {
            key.decode('latin-1'): value.decode('latin-1') for key, value in scope['headers']
        }
        exchange = _Exchange(receive, send, headers) if scope['type'] == 'http' else None
        try:
            self._check(scope, headers)
        except Refusal as refusal:
            if exchange is None:
                await _refuse_websocket(refusal, scope, receive, send)
            else:
                await send_refusal(refusal, exchange.send)
            return
        if exchange is None:
            await self._app(scope, receive, send)
        else:
            await self._app(scope, exchange.receive, exchange.send)

    def _check(self, scope: Message, headers: dict[str, str]) -> None:
        origin, host = headers.get('origin'), headers.get('host', '')
        # A page of another site must not use the browser of someone who may use the server.
        if origin is not None and origin.lower().partition('://')[2] != host.lower():
            raise Refusal(403, f'requests from pages of {origin} are not answered')
        if self._token is None:
            # Such a page may also give this machine a name of its own (DNS rebinding).
            if self._local and not _is_here(_hostname(host)):
                raise Refusal(403, f'host {host!r} is not this machine; use 127.0.0.1')
            return
        path = scope['path']
        if scope['type'] == 'http' and (path in OPEN_PATHS or path.startswith(OPEN_FOLDER)):
            return
        kind, _, given = headers.get('authorization', '').partition(' ')
        # openpi's clients say Api-Key.
        known = kind.lower() in ('bearer', 'api-key')
        if not known or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            raise Refusal(401, 'send the token of this server: Authorization: Bearer TOKEN')


class _Exchange:
    """A request and its response: receives the rest of the body first, and adds headers."""

    def __init__(self, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        self._receive, self._send = receive, send
        # Such a client waits for a response before it sends the body.
        self._expects = headers.get('expect', '').lower() == '100-continue'
        self._ended = 'content-length' not in headers and 'transfer-encoding' not in headers
        self._begun = False
        # Clients compare it with the id of their question.
        number = headers.get('x-question-id', '')[:_MAX_NUMBER]
        self._echo = [(b'x-question-id', number.encode('latin-1'))] if number else []

    async def receive(self) -> Message:
        message = await self._receive()
        self._begun = True
        if message['type'] != 'http.request' or not message.get('more_body', False):
            self._ended = True
        return message

    async def send(self, message: Message) -> None:
        if message['type'] == 'http.response.start':
            headers = [*message.get('headers', []), *_HEADERS, *self._echo]
            if not self._ended and (self._begun or not self._expects):
                with suppress(asyncio.TimeoutError, TimeoutError):
                    await asyncio.wait_for(self._drain(), _DRAIN_TIME)
            if not self._ended:
                headers.append((b'connection', b'close'))
            message = {**message, 'headers': headers}
        await self._send(message)

    async def _drain(self) -> None:
        size = 0
        while not self._ended and size < _DRAIN_BYTES:
            size += len((await self.receive()).get('body', b''))


async def send_refusal(refusal: Refusal, send: Send, kind: str = 'http') -> None:
    """Answer with a refusal as JSON; kind 'websocket.http' answers a websocket's handshake."""
    await send(
        {
            'type': f'{kind}.response.start',
            'status': refusal.status,
            'headers': [
                (key.encode(), value.encode()) for key, value in refusal_headers(refusal).items()
            ],
        }
    )
    await send({'type': f'{kind}.response.body', 'body': refusal_body(refusal)})


def refusal_body(refusal: Refusal) -> bytes:
    """Write a refusal as JSON, in ASCII."""
    return json.dumps({'error': refusal.reason}).encode()


def refusal_headers(refusal: Refusal) -> dict[str, str]:
    """Give the headers of a refusal."""
    headers = {
        'content-type': 'application/json',
        'content-length': str(len(refusal_body(refusal))),
    }
    if refusal.retry_after is not None:
        headers['retry-after'] = str(refusal.retry_after)
    if refusal.status == 401:
        headers['www-authenticate'] = 'Bearer'
    return headers


async def _refuse_websocket(
    refusal: Refusal, scope: Message, receive: Receive, send: Send
) -> None:
    await receive()  # websocket.connect
    if 'websocket.http.response' in scope.get('extensions', {}):
        await send_refusal(refusal, send, 'websocket.http')
    else:
        await send({'type': 'websocket.close', 'code': 1008, 'reason': refusal.reason[:100]})


def _is_here(hostname: str) -> bool:
    # Clients of openvla, openvla-oft and openpi call this machine 0.0.0.0 unless told otherwise.
    # A page of another site cannot give it that name.
    return is_loopback(hostname) or hostname in ('0.0.0.0', '::')


def _hostname(host: str) -> str:
    try:
        return urlsplit(f'//{host}').hostname or ''
    except ValueError:
        return ''
