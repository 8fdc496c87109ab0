"""What a policy keeps from one step to the next: a draft, and high-level reasoning."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence

from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.engines.drafting import PreviousAnswer
from trt_openvla_ros.policy.reasoning import ACTION_TAG, TAGS

# What stands before it changes slowly. Source: MichalZawalski/embodied-CoT, which cuts here too.
LOW_LEVEL = ' MOVE REASONING:'
_SEPARATORS = (',', '[', ']', '],', ';', ':', '.', '\u2581[', '<0x0A>')


class Memory:
    """The memory of a policy. One step after the other: `begin`, and `end` unless it failed.

    Attributes:
        drafter: Drafter of the answers; None if none are drafted.
    """

    def __init__(self, tokenizer: Tokenizer, draft_tokens: int, keep_reasoning: int) -> None:
        """Start without any step.

        Args:
            tokenizer: Tokenizer of the answers.
            draft_tokens: Most ids of a draft; 0 for no drafts.
            keep_reasoning: Steps for which reasoning is kept.
        """
        self.drafter = None
        if draft_tokens:
            self.drafter = PreviousAnswer(draft_tokens, boundaries(tokenizer))
        self._tokenizer, self._steps = tokenizer, keep_reasoning
        self._key: Hashable = None
        self._kept: list[int] = []
        self._left = 0

    def begin(self, key: Hashable) -> list[int]:
        """Begin a step, and give the ids with which its answer begins, as that of an earlier one.

        Args:
            key: What the answer is to. Reasoning about another is not kept.
        """
        if key != self._key or not self._left:
            self._kept = []
        # A step that fails never ends, and so the next one writes its reasoning anew.
        self._key, self._left, left = key, 0, self._left
        self._after = max(0, left - 1)
        if self.drafter is not None:
            self.drafter.begin(key, self._kept)
        return list(self._kept)

    def end(self, answer: Sequence[int]) -> None:
        """Remember a step by its whole answer."""
        written = list(answer[len(self._kept) :])
        if self.drafter is not None:
            self.drafter.keep(written)
        if self._kept:
            self._left = self._after
        elif self._steps:
            self._kept = high_level(self._tokenizer, list(answer))
            self._left = self._steps if self._kept else 0


def high_level(tokenizer: Tokenizer, answer: list[int]) -> list[int]:
    """Give the ids before LOW_LEVEL; none if it is not there, or begins inside a token."""
    before, found, _ = tokenizer.decode(answer).partition(LOW_LEVEL)

    def text(count: int) -> str:
        return tokenizer.decode(answer[:count])

    count = bisect_left(range(len(answer)), len(before), key=lambda n: len(text(n)))
    return answer[:count] if found and text(count) == before else []


def boundaries(tokenizer: Tokenizer) -> set[int]:
    """Give the ids of which tags consist, and those of separators."""
    tags = {i for tag in (*TAGS, ACTION_TAG.rstrip(':')) for i in tokenizer.encode(f'{tag}:')}
    pieces = {tokenizer.piece_id(piece) for piece in _SEPARATORS}
    return (tags | pieces) - {None, tokenizer.bos_id, tokenizer.empty_piece_id}
