"""The progress of an answer through its reasoning and its action, for all engines."""

from __future__ import annotations

from trt_openvla_ros.engines.base import Decoding


class Progress:
    """The progress of one answer, token by token.

    Attributes:
        ids: Token ids so far.
        finished: Whether the answer is complete.
    """

    def __init__(self, decoding: Decoding) -> None:
        """Start before the first token."""
        self._decoding = decoding
        self._action_count = 0
        self.ids: list[int] = []
        self.finished = False

    @property
    def in_action(self) -> bool:
        """Whether the next id belongs to the action, whichever id it is."""
        d = self._decoding
        return d.actions is not None and bool(self._action_count or d.action_first)

    @property
    def action_left(self) -> int:
        """Ids of the action that are still to come once it has begun; 0 before, or if endless."""
        d = self._decoding
        return max(0, d.action_dim - self._action_count) if self.in_action else 0

    @property
    def constrained(self) -> bool:
        """Whether the next id must be an action id."""
        return self.in_action and self._decoding.constrain

    def is_action(self, token: int) -> bool:
        """Tell whether an id stands for a bin."""
        actions = self._decoding.actions
        return actions is not None and actions[0] <= token < actions[1]

    def add(self, token: int) -> None:
        """Append the next id."""
        d = self._decoding
        in_action = self.in_action or (self.is_action(token) and d.action_begins(self.ids))
        self._action_count += in_action
        self.ids.append(token)
        self.finished = token == d.eos_id or 0 < d.action_dim == self._action_count
