"""Generated ids to reasoning text and action ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import re

import numpy as np

from trt_openvla_ros.errors import OutputError

# Source: get_cot_tags_list of MichalZawalski/embodied-CoT, in the order of its training text.
TAGS = (
    'TASK',
    'PLAN',
    'VISIBLE OBJECTS',
    'SUBTASK REASONING',
    'SUBTASK',
    'MOVE REASONING',
    'MOVE',
    'GRIPPER POSITION',
)
ACTION_TAG = 'ACTION:'

# A tag does not begin inside a word: 'SUBTASK:' must not be read as 'TASK:'.
_TAG = re.compile(rf'(?<![A-Z])({"|".join((*TAGS, "ACTION"))}):')


def split_answer(
    ids: Sequence[int], eos_id: int, count: int, decode: Callable[[list[int]], str], reasons: bool
) -> tuple[str, np.ndarray]:
    """Split an answer of the model into its reasoning and its action ids.

    Args:
        ids: [T] generated ids.
        eos_id: Id of the end of sequence; the answer ends before the first one.
        count: Length of an action.
        decode: Function from ids to text.
        reasons: Whether text is expected before the action.

    Returns:
        The reasoning text ('' if none is expected) and [count] int64 action ids.

    Raises:
        OutputError: The answer has fewer than `count` ids, or its reasoning was cut off: no
            'ACTION:' stands right before the last `count` ids.
    """
    ids = [int(i) for i in ids]
    if eos_id in ids:
        ids = ids[: ids.index(eos_id)]
    if len(ids) < count:
        raise OutputError(
            f'the model stopped after {len(ids)} of {count} action tokens; ids {ids}'
        )
    text = decode(ids[:-count]) if reasons else ''
    if reasons and not text.rstrip().endswith(ACTION_TAG):
        raise OutputError(
            f'the model wrote {len(ids)} tokens without reaching an action ("... {text[-60:]}"); '
            'raise max_new_tokens, or check the prompt style'
        )
    return text.rstrip().removesuffix(ACTION_TAG).strip(), np.asarray(ids[-count:], np.int64)


class ReasoningStream:
    """Turns a growing list of ids into growing reasoning."""

    def __init__(self, decode: Callable[[list[int]], str], tell: Callable[[str], None]) -> None:
        """Prepare to call `tell` with the reasoning so far whenever it has changed."""
        self._decode, self._tell, self._told = decode, tell, ''

    def __call__(self, ids: Sequence[int]) -> None:
        """Take all ids so far."""
        # A character of several tokens is a replacement character until its last token.
        text, tag, _ = self._decode(list(ids)).rstrip('\ufffd').partition(ACTION_TAG)
        # Text that may become the tag waits for the next token.
        for length in range(len(ACTION_TAG) - 1, 0, -1):
            text = text.removesuffix(ACTION_TAG[:length])
        text = text.strip()
        if not tag and text != self._told:
            self._told = text
            self._tell(text)


def parse_fields(reasoning: str) -> dict[str, str]:
    """Find the tagged parts of a reasoning, in any order.

    The text begins inside TASK, because the prompt ends with that tag. The first occurrence
    of a tag counts.
    """
    pieces = _TAG.split(reasoning)
    fields = {'TASK': pieces[0].strip()} if pieces[0].strip() else {}
    for tag, value in zip(pieces[1::2], pieces[2::2], strict=True):
        fields.setdefault(tag, value.strip())
    return fields
