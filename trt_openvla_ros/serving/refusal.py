"""The reason why a request gets no action: a status and a text."""

from __future__ import annotations

import traceback

from trt_openvla_ros.errors import (
    BrokenEngineError,
    ConfigError,
    InputError,
    OutputError,
    PolicyError,
    SizeError,
)

BROKEN = 'the engine broke; start the server again, its log says why'


class Refusal(PolicyError):  # noqa: N818 - to a client it is an answer
    """The answer to a request that gets no action.

    Attributes:
        status: HTTP status, 400 to 599.
        reason: Error and way out, for the client.
        retry_after: Seconds after which to try again; None if that is useless.
    """

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        """Hold status, reason and retry_after."""
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after


def forget(error: Refusal) -> None:
    """Free what the functions that raised an error still hold, such as the body of a request.

    Otherwise the error keeps it until its answer is sent, which a slow client decides.
    """
    traceback.clear_frames(error.__traceback__)


def refusal_of(error: PolicyError) -> Refusal:
    """Make a refusal of an error of the policy; the status tells whose fault it is."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, SizeError):
        return Refusal(413, str(error))
    if isinstance(error, InputError | ConfigError):
        # The policy runs, so the client's image, instruction or unnorm_key is wrong.
        return Refusal(400, str(error))
    if isinstance(error, BrokenEngineError):
        # Only whoever runs the server needs the library's own message.
        return Refusal(500, BROKEN)
    # As a gateway does for its upstream: the model's answer was invalid.
    return Refusal(502 if isinstance(error, OutputError) else 500, str(error))
