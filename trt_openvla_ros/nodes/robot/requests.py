"""Requests to services, one after another, without waiting for an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future


class Request(NamedTuple):
    """One request: client, message, and a judge of the answer, who gives '' or a reason."""

    client: Client
    message: Any
    judge: Callable[[Any], str]


class Requests:
    """A list of requests that somebody else must answer.

    Attributes:
        trouble: Reason why not all have been answered well; '' if they have.
    """

    def __init__(self, node: Node, patience: float) -> None:
        """Ask nothing yet; after patience [s], ask again, and let trouble say who is silent."""
        self._node, self._patience = node, patience
        self._clients: list[Client] = []
        self._left: list[Request] = []
        self._pending: Future | None = None
        self._since = self._asked = 0.0
        self.trouble = ''

    def client(self, kind: type, name: str) -> Client:
        """Make a client, which ends with this."""
        self._clients.append(self._node.create_client(kind, name))
        return self._clients[-1]

    def begin(self, requests: Sequence[Request], now: float) -> None:
        """Forget all former requests, and ask these."""
        self._forget()
        self._left, self._since = list(requests), now
        self.trouble = f'waiting for {requests[0].client.srv_name}'

    def go_on(self, now: float) -> None:
        """Look at an answer, and ask what is next."""
        if self._pending is not None and self._pending.done():
            answer, self._pending = self._pending.result(), None
            request = self._left.pop(0)
            reason = request.judge(answer)
            self._since = now
            if reason:
                self._left, self.trouble = [], f'{request.client.srv_name}: {reason}'
            elif not self._left:
                self.trouble = ''
        if not self._left:
            return
        request = self._left[0]
        ready = request.client.service_is_ready()
        # A server that ended answers nothing, and another of its name may stand in its place.
        lost = not ready or now - self._asked > self._patience
        if lost and self._pending is not None:
            request.client.remove_pending_request(self._pending)
            self._pending = None
        if ready and self._pending is None:
            self._pending, self._asked = request.client.call_async(request.message), now
        waits = now - self._since
        if waits > self._patience:
            why = (
                f'has not answered for {waits:.1f} s' if ready else 'is not there; is it running?'
            )
            self.trouble = f'{request.client.srv_name} {why}'

    def destroy(self) -> None:
        """Remove the clients from the node."""
        self._forget()
        for client in self._clients:
            self._node.destroy_client(client)

    def _forget(self) -> None:
        if self._pending is not None:
            self._left[0].client.remove_pending_request(self._pending)
            self._pending = None
        self._left = []
