"""Why a request gets no action: a status and a sentence."""

from __future__ import annotations

from trt_openvla_ros.errors import (
    BrokenEngineError,
    ConfigError,
    InputError,
    OutputError,
    PolicyError,
)

BROKEN = 'the engine broke; start the server again, its log says why'


class Refusal(PolicyError):  # noqa: N818 - to a client it is an answer
    """A request that is not answered with an action.

    Attributes:
        status: HTTP status, 400 to 599.
        reason: What is wrong and the way out, for the client.
        retry_after: Seconds after which to try again; None where trying again is no use.
    """

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        """Hold the three."""
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after


def refusal_of(error: PolicyError) -> Refusal:
    """Tell whose fault an error of the policy is."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InputError | ConfigError):
        # Of a running policy only the client's image, instruction and unnorm_key vary.
        return Refusal(400, str(error))
    if isinstance(error, BrokenEngineError):
        # What a library said in its own words is for whoever runs the server.
        return Refusal(500, BROKEN)
    # The model is to the server what an upstream is to a gateway: its answer was invalid.
    return Refusal(502 if isinstance(error, OutputError) else 500, str(error))
