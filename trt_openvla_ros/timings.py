"""Where the time of a prediction goes."""

from __future__ import annotations

from typing import TypedDict


class PolicyTimings(TypedDict):
    """Seconds by part of one prediction.

    Attributes:
        preprocess: Prompt, and views of an image that was not prepared.
        vision: Pixel values and image embeddings.
        prefill: Prompt to first token.
        decode: All further tokens.
        total: Image and instruction to prediction.
    """

    preprocess: float
    vision: float
    prefill: float
    decode: float
    total: float


class Timings(PolicyTimings, total=False):
    """Seconds by part, with the parts that a server and its client add.

    Attributes:
        read: Parsing of the request and decoding of its image, in the server.
        queue: Waiting for the policy, in the server.
        request: Everything in the server.
        round_trip: Everything, as the client saw it.
    """

    read: float
    queue: float
    request: float
    round_trip: float


# Parts that every prediction has, in order.
PARTS = tuple(PolicyTimings.__annotations__)
