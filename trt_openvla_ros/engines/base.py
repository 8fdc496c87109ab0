"""The protocols of a vision engine and of a language engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TYPE_CHECKING

from trt_openvla_ros.errors import BrokenEngineError

if TYPE_CHECKING:
    import numpy as np

DTYPES = ('float32', 'bfloat16', 'float16')
# Formats in which the torch engine can hold the language model's weights, by falling size.
WEIGHTS = ('bfloat16', 'fp8', 'int8', 'int4')


class Drafter(Protocol):
    """The protocol of what guesses an answer, so that an engine may verify many ids at once.

    A drafter that wants to know more also has `observe(chosen)`. An engine may call it after each
    pass with a draft. It gets the ids that an unconstrained argmax chose at the place of each
    verified id of the draft, and behind the last one.
    """

    def propose(self, ids: Sequence[int]) -> Sequence[int]:
        """Give ids that may follow the answer's ids so far; none if there is no guess.

        A wrong guess costs time and never changes the answer.
        """


@dataclass(frozen=True)
class Decoding:
    """The rules for generating an answer.

    Attributes:
        max_new_tokens: Most tokens of the answer; the end of the context may allow fewer.
        eos_id: Id that ends the answer, and is part of it.
        actions: Smallest and one past the largest action id; None generates freely and does
            not end with an action.
        action_dim: Number of action ids after which the answer ends.
        action_first: Whether the first id already belongs to the action.
        action_begins: Function that tells from the ids so far whether an action id now begins the
            action; not called if action_first.
        constrain: Whether ids are restricted to the action range once the action has begun.
        drafter: Drafter of the ids that may follow; None for no drafts.
        on_ids: Function that gets all ids so far, after each new id or after a few, in the
            caller's thread; None if nobody listens.
    """

    max_new_tokens: int
    eos_id: int
    actions: tuple[int, int] | None = None
    action_dim: int = 0
    action_begins: Callable[[Sequence[int]], bool] = lambda ids: True
    action_first: bool = True
    constrain: bool = True
    drafter: Drafter | None = None
    on_ids: Callable[[Sequence[int]], None] | None = None


@dataclass(frozen=True)
class Lengths:
    """The lengths of requests, so that an engine built for less is refused before it is loaded.

    Attributes:
        prompt: Number of tokens of the shortest prompt, without the image.
        answer: Number of tokens of the longest answer.
    """

    prompt: int
    answer: int


@dataclass(frozen=True)
class Generation:
    """An answer of a language engine.

    Attributes:
        ids: Token ids, with the end of sequence if the model wrote it.
        out_of_range: Number of action ids whose unconstrained argmax was outside the action range.
        prefill_time, decode_time: Time until the first id, and from there to the last [s].
        passes: Number of times that the model ran, prompt included; 0 if the engine cannot tell.
    """

    ids: list[int]
    out_of_range: int
    prefill_time: float
    decode_time: float
    passes: int = 0


class VisionEngine(Protocol):
    """The protocol of a vision engine, which maps views of an image to image embeddings.

    An engine that was built for one machine also has `check(checkpoint, device, lengths)`. This
    static method raises ConfigError if the engine does not fit. It is called before anything is
    loaded. An engine with threads of its own also has `close()`, which ends them.

    Attributes:
        device, dtype: Device and precision; str() gives torch's names.
        encode_time: Time that the last encode took [s]; reading it waits for its end.
    """

    device: Any
    dtype: Any

    @property
    def encode_time(self) -> float:
        """Time that the last encode took [s]; reading it waits for its end."""

    def encode(self, views: np.ndarray) -> Any:
        """Normalise [G, S, S, 3] uint8 views and map them to [N, D] embeddings.

        What follows on the current stream of the engine's device may read them; nobody else may
        before `encode_time` was read.
        """


class LanguageEngine(Protocol):
    """The protocol of a language engine, which continues a prompt with an image greedily.

    It may have `check` and `close`, as a vision engine, and `prepare(ids, embeddings, decoding)`,
    which does before the first request what would delay it.

    Attributes:
        dtype: Precision of all that is not quantised; str() gives torch's name.
    """

    dtype: Any

    def generate(self, ids: Sequence[int], embeddings: Any, decoding: Decoding) -> Generation:
        """Continue <s>, the [N, D] image embeddings, and the rest of ids."""

    def first_logits(self, ids: Sequence[int], embeddings: Any) -> np.ndarray:
        """Give the [V] float32 logits of the first generated token."""


@dataclass
class Engines:
    """The two engines of one model.

    Attributes:
        vision, language: The engines; None once they are closed.
        name: Name of the language engine, e.g. 'torch'.
    """

    vision: VisionEngine | None
    language: LanguageEngine | None
    name: str

    def close(self) -> None:
        """End the engines' own threads and forget both, so that their memory can be freed."""
        for engine in (self.vision, self.language):
            if hasattr(engine, 'close'):
                engine.close()
        self.vision = self.language = None


@contextmanager
def computing() -> Iterator[None]:
    """Turn a backend's errors into ours: no memory left, a failed kernel, a GPU that is gone."""
    try:
        yield
    except RuntimeError as error:
        raise BrokenEngineError(
            f'an engine failed: {error}; load the policy again. If that does not help, start its '
            'process again (after some errors CUDA answers no more)'
        ) from error
