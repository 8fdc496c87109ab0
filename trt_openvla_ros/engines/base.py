"""What a vision engine and a language engine promise; nothing about how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Decoding:
    """How to generate.

    Attributes:
        max_new_tokens: Generate no more than this; less where the context ends.
        eos_id: Generation ends after this id, which is part of the answer.
        actions: Smallest and one past the largest action id; None generates freely and does
            not end with an action.
        action_dim: Generation ends after this many action ids.
        action_first: The first id already belongs to the action.
        action_begins: Where it does not: tells from the ids so far whether an action id now
            begins the action.
        constrain: Restrict ids to the action range once the action began.
        on_ids: Told all ids so far, after each of them or after a few, by the thread that called;
            None where nobody listens.
    """

    max_new_tokens: int
    eos_id: int
    actions: tuple[int, int] | None = None
    action_dim: int = 0
    action_begins: Callable[[Sequence[int]], bool] = lambda ids: True
    action_first: bool = True
    constrain: bool = True
    on_ids: Callable[[Sequence[int]], None] | None = None


@dataclass(frozen=True)
class Lengths:
    """How long requests get, so that an engine built for less is refused before it is loaded.

    Attributes:
        prompt: Tokens of the shortest prompt, without the image.
        answer: Tokens of the longest answer.
    """

    prompt: int
    answer: int


@dataclass(frozen=True)
class Generation:
    """What a language engine wrote.

    Attributes:
        ids: Token ids, end of sequence included where the model wrote it.
        out_of_range: Action ids whose unconstrained argmax was outside the action range.
        prefill_time, decode_time: [s].
    """

    ids: list[int]
    out_of_range: int
    prefill_time: float
    decode_time: float


class VisionEngine(Protocol):
    """Pixel values to image embeddings.

    An engine that was built for one machine also has `check(checkpoint, device, lengths)`, a
    static method that raises ConfigError where it does not fit; asked before anything is loaded.
    One with threads of its own also has `close()`, which ends them.

    Attributes:
        device, dtype: Where and how it computes; their str() are torch's names.
    """

    device: Any
    dtype: Any

    def encode(self, pixel_values: np.ndarray) -> Any:
        """Map [C, S, S] float32 to [N, D] embeddings on the engine's device; done on return."""


class LanguageEngine(Protocol):
    """Prompt and image embeddings to token ids, greedily; `check` and `close` as above.

    Attributes:
        dtype: What it computes in, where it is not quantised; its str() is torch's name.
    """

    dtype: Any

    def generate(self, ids: Sequence[int], embeddings: Any, decoding: Decoding) -> Generation:
        """Continue <s>, the [N, D] image embeddings, and the rest of ids."""

    def first_logits(self, ids: Sequence[int], embeddings: Any) -> np.ndarray:
        """Give the [V] float32 logits of the first generated token."""
