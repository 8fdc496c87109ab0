"""Connections of the server: how many there may be, and how long one may ask nothing.

uvicorn limits neither the time until a request is complete, nor the connections of one client. A
few hundred connections that ask nothing then keep everybody out, /healthz included.
"""

from __future__ import annotations

import asyncio
import logging
import re

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_BYTES = 32 * 1024  # longest head of a request
_HEADER_TIME = 10.0  # [s] from a connection, or an answer, to the head of the next request
# Fewer than the files that a process may usually have open, 1024.
_PER_ADDRESS, _MOST = 256, 512
_QUERY = re.compile(r'\?[^\s"]*')


class Connection(H11Protocol):
    """A connection that is closed if it asks nothing, or if others need its place.

    It is uvicorn's own protocol on h11. h11 is in Python, and bounds the head of a request; which
    parser uvicorn would choose depends on what else is installed.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take a place. The connection that has asked nothing for longest gives way."""
        super().connection_made(transport)
        self.access_log = False  # its lines have queries, whatever handlers somebody added
        self._since = self.loop.time()
        self._timer = self.loop.call_later(_HEADER_TIME, self._late)
        # An aborted connection is still listed until the event loop comes to it.
        there = [one for one in self.connections if not one.transport.is_closing()]
        mine = [one for one in there if _address(one) == _address(self)]
        if len(mine) > _PER_ADDRESS:
            _make_room(mine, self)
        elif len(there) > _MOST:
            _make_room(there, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._timer.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand over to the websocket's protocol, whose pings find dead clients."""
        self._timer.cancel()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Wait for the next request, but not for ever: a slow head would stop uvicorn's timer."""
        super().on_response_complete()
        self._since = self.loop.time()
        self._timer.cancel()
        self._timer = self.loop.call_later(_HEADER_TIME, self._late)

    @property
    def idle(self) -> bool:
        """Whether no complete head of a request waits for its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _late(self) -> None:
        if self.idle:
            self.transport.abort()


def _make_room(connections: list[asyncio.Protocol], newest: Connection) -> None:
    idle = [one for one in connections if isinstance(one, Connection) and one.idle]
    others = [one for one in idle if one is not newest]
    (min(others, key=lambda one: one._since) if others else newest).transport.abort()


def _address(connection: asyncio.Protocol) -> str | None:
    return connection.client[0] if connection.client else None


class WithoutQueries(logging.Filter):
    """Takes the query out of addresses in log lines, because people put tokens there."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the line, and keep it."""
        record.msg, record.args = _QUERY.sub('?…', record.getMessage()), ()
        return True
