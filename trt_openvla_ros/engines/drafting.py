"""Drafts of an answer from the one before, for engines that verify many ids at once.

Consecutive answers of a robot's policy say nearly the same: the task and the plan stay, numbers of
boxes and points change, then a few words of the move, then the action. So the previous answer is
aligned with what is written so far, and what follows there is the draft. Nothing here decides an
answer: the engine keeps an id of a draft only where the model would have chosen it.

Plain look-up of the last ids in old text copies from wrong places: commas and numbers match
everywhere (compare AdaPLD, arXiv 2606.05742). Here the whole answer is aligned, as in an edit
distance, so that a match has to fit what stands before it.

P: ids of the previous answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

# Costs of an alignment, in replaced ids: an id that only one of the answers has, and what is added
# where a tag or separator is replaced, left out or put in. A gap must not be cheaper than a
# replaced id. Half or twice of the others change the passes of tiny_ecot by less than 3 %.
_GAP, _BOUNDARY = 1.1, 1.0
# Gain of a tag that the previous answer has once. A comma, which it has everywhere, gains little.
_TAG = 8.0
# What an older cost counts for with each further id. The last five or so decide.
_DECAY = 0.8
# A draft ends where it would be right up to there in fewer than this share of cases. A further
# row costs a CPU about 1/15 of a pass.
_LIKELY = 0.1
# Right ids of a draft in a row after which its place is certain, and the alignment starts anew.
_SURE = 3
# Steps that an id has outlived are counted up to this number.
_OLDEST = 6
# Answers that are kept, each of another key: a server has a few clients at a time.
_KEPT = 8
# Drafted ids after which the shares of right ones are made to follow what is new.
_MEMORY = 2000


@dataclass(frozen=True)
class _Answer:
    """An answer that may be a draft.

    Attributes:
        ids: [P] int64 ids.
        ages: [P] int64 number of steps that each id has outlived at its place, at most _OLDEST.
        skips: [P + 1] float64 cost of leaving out all ids before each place.
    """

    ids: np.ndarray
    ages: np.ndarray
    skips: np.ndarray


@dataclass
class _Now:
    """The answer that is being written.

    Attributes:
        ids: Its ids so far, as far as they were aligned.
        ages: Ages of these ids.
        draft: Draft that was given last.
        draft_ages: Ages of the draft's ids.
        place: Place of the draft in the previous answer.
    """

    ids: list[int] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    draft_ages: list[int] = field(default_factory=list)
    place: int = 0


class PreviousAnswer:
    """A drafter that continues an answer as the previous one went on. It is an `engines.Drafter`.

    One answer after the other: `begin`, then `propose` as often as the engine likes, then `keep`.
    An answer that failed needs no `keep`.
    """

    def __init__(self, most: int, boundaries: Iterable[int] = ()) -> None:
        """Start without an answer, and so without drafts.

        Args:
            most: Most ids of a draft.
            boundaries: Ids of tags and separators, which an alignment leaves where they are.
        """
        self._most, self._boundaries = most, frozenset(boundaries)
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._previous: _Answer | None = None
        self._now = _Now()
        self._costs = np.zeros(1)
        self._replacing: dict[int, np.ndarray] = {}
        # Right ones and all ones of the drafted ids of each age. The first drafts are long,
        # because these shares begin high.
        self._right = np.full(_OLDEST + 1, 9.0)
        self._drafted = np.full(_OLDEST + 1, 10.0)

    def begin(self, key: Hashable = None, written: Sequence[int] = ()) -> None:
        """Begin an answer.

        Args:
            key: What the answer is to, for example the prompt. The last answer to the same key is
                the draft, or else the last of all.
            written: Ids with which the answer begins, and which `propose` does not get.
        """
        newest = next(reversed(self._answers.values()), None)
        self._previous = self._answers.get(key, newest)
        self._key, self._written = key, list(written)
        self._now = _Now()
        if self._previous is not None:
            self._costs = self._previous.skips.copy()
            self._replacing = {}

    def propose(self, ids: Sequence[int]) -> list[int]:
        """Give at most `most` ids that may follow the answer's ids so far."""
        previous, now = self._previous, self._now
        self._take([*self._written, *ids])
        if previous is None:
            return []
        place = int(np.argmin(self._costs))
        ages = previous.ages[place : place + self._most]
        likely = np.cumprod(self._right[ages] / self._drafted[ages]) >= _LIKELY
        count = max(1, int(np.count_nonzero(likely)))
        now.place = place
        now.draft = previous.ids[place : place + count].tolist()
        now.draft_ages = ages[:count].tolist()
        return list(now.draft)

    def keep(self, ids: Sequence[int]) -> None:
        """End the answer with all ids that were generated: it is the next one's draft."""
        self._take([*self._written, *ids])
        now = self._now
        if now.ids:
            skip = [_GAP + _BOUNDARY * (i in self._boundaries) for i in now.ids]
            self._answers[self._key] = _Answer(
                np.array(now.ids, np.int64),
                np.array(now.ages, np.int64),
                np.concatenate([[0.0], np.cumsum(skip)]),
            )
            self._answers.move_to_end(self._key)
        if len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        if self._drafted.sum() > _MEMORY:
            self._right /= 2
            self._drafted /= 2

    def _take(self, ids: list[int]) -> None:
        """Align the new ids, and see how far the draft was right."""
        now = self._now
        new = ids[len(now.ids) :]
        pairs = list(zip(now.draft, new, strict=False))
        wrong = (n for n, (drafted, token) in enumerate(pairs) if drafted != token)
        right = next(wrong, len(pairs))
        for index, age in enumerate(now.draft_ages[: min(right + 1, len(pairs))]):
            self._drafted[age] += 1
            self._right[age] += index < right
        now.ids += new
        now.ages += [min(age + 1, _OLDEST) for age in now.draft_ages[:right]]
        now.ages += [0] * (len(new) - right)
        now.draft, now.draft_ages = [], []
        if self._previous is None:
            return
        if right >= _SURE:
            skips = self._previous.skips
            self._costs = np.abs(skips - skips[now.place + right])
            new = new[right:]
        for token in new:
            self._align(token)

    def _align(self, token: int) -> None:
        """Update, for each place in the previous answer, what it costs to be there after token."""
        previous = self._previous
        old = _DECAY * self._costs
        new = old + (_GAP + _BOUNDARY * (token in self._boundaries))
        if token not in self._replacing:
            # Replacing is what leaving out costs, without what a gap costs beyond it.
            cost = np.diff(previous.skips) + (1 - _GAP)
            cost += _BOUNDARY * (token in self._boundaries)
            same = previous.ids == token
            gain = _TAG / max(1, np.count_nonzero(same)) if token in self._boundaries else 0.0
            self._replacing[token] = np.where(same, -gain, cost)
        np.minimum(new[1:], old[:-1] + self._replacing[token], out=new[1:])
        # Any number of ids may have been left out before a place.
        new -= previous.skips
        self._costs = np.minimum.accumulate(new) + previous.skips
