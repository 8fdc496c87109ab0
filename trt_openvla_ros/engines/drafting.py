"""Drafts of an answer from the one before, for engines that verify many ids at once.

Consecutive answers of a robot's policy say nearly the same: the task and the plan stay, numbers of
boxes and points change, then a few words of the move, then the action. So the previous answer is
aligned with what is written so far, and what follows there is the draft. Nothing here decides an
answer: the engine keeps an id of a draft only where the model would have chosen it.

Plain look-up of the last ids in old text copies from wrong places: commas and numbers match
everywhere (compare AdaPLD, arXiv 2606.05742). Here the whole answer is aligned, as in an edit
distance, so that a match has to fit what stands before it.

A pass also tells what the model would have chosen behind a wrong id. Such guesses are better than
old numbers, because they are made with the new image (as in Jacobi decoding, arXiv 2305.10427).

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
# row costs a CPU about 1/12 of a pass, and gives a guess for the next draft even if it is wrong.
_LIKELY = 0.05
# Right ids of a draft in a row after which its place is certain, and the alignment starts anew.
_SURE = 3
# Steps that an id has outlived are counted up to this number.
_OLDEST = 6
# Kinds of ids of a draft: the age of an id of the previous answer, or one of these three. A guess
# is what the model chose behind a wrong id: the same as was drafted there, or another id.
_NEXT, _SAME, _OTHER = _OLDEST + 1, _OLDEST + 2, _OLDEST + 3
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
class _Draft:
    """A draft, and where its ids come from.

    Attributes:
        ids: The ids.
        kinds: Kind of each id, which says how often such ids are right.
        ages: Number of steps that each has outlived.
        place: Place in the previous answer of the first of them.
        chosen: What the model chose at the place of each id, and behind the last; none if the
            engine does not tell. Behind the first wrong id, these are guesses.
    """

    ids: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    place: int = 0
    chosen: list[int] = field(default_factory=list)


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
        self._key: Hashable = None
        self._written: list[int] = []
        # The answer that is being written, as far as it was aligned; the ages of its ids.
        self._ids: list[int] = []
        self._ages: list[int] = []
        self._draft, self._wrong = _Draft(), _Draft()
        self._costs, self._replaced = np.zeros(1), np.zeros(0)
        self._replacing: dict[int, np.ndarray] = {}
        # Right ones and all ones of the drafted ids of each kind. The first drafts are long,
        # because these shares begin high.
        self._right = np.full(_OTHER + 1, 9.0)
        self._drafted = np.full(_OTHER + 1, 10.0)

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
        self._ids, self._ages = [], []
        self._draft, self._wrong = _Draft(), _Draft()
        if self._previous is not None:
            self._costs = self._previous.skips.copy()
            # Replacing is what leaving out costs, without what a gap costs beyond it.
            self._replaced = np.diff(self._costs) + (1 - _GAP)
            self._replacing = {}

    def propose(self, ids: Sequence[int]) -> list[int]:
        """Give at most `most` ids that may follow the answer's ids so far."""
        self._take([*self._written, *ids])
        if self._previous is None:
            return []
        draft = self._continue(int(np.argmin(self._costs)))
        likely = np.cumprod((self._right / self._drafted)[draft.kinds]) >= _LIKELY
        count = max(1, int(np.count_nonzero(likely)))
        self._draft = _Draft(
            draft.ids[:count], draft.kinds[:count], draft.ages[:count], draft.place
        )
        return list(self._draft.ids)

    def observe(self, chosen: Sequence[int]) -> None:
        """Take what the model chose at the place of each id of the last draft, and behind it."""
        self._draft.chosen = list(chosen)

    def keep(self, ids: Sequence[int]) -> None:
        """End the answer with all ids that were generated: it is the next one's draft."""
        self._take([*self._written, *ids])
        if self._ids:
            skip = [_GAP + _BOUNDARY * (i in self._boundaries) for i in self._ids]
            self._answers[self._key] = _Answer(
                np.array(self._ids, np.int64),
                np.array(self._ages, np.int64),
                np.concatenate([[0.0], np.cumsum(skip)]),
            )
            self._answers.move_to_end(self._key)
        if len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        if self._drafted.sum() > _MEMORY:
            self._right /= 2
            self._drafted /= 2

    def _continue(self, place: int) -> _Draft:
        """Draft what follows at a place of the previous answer, and the model's guesses there."""
        previous, wrong = self._previous, self._wrong
        ids = previous.ids[place : place + self._most].tolist()
        ages = previous.ages[place : place + self._most].tolist()
        kinds = list(ages)
        if place == wrong.place:
            guesses = zip(wrong.ids, wrong.ages, wrong.chosen, strict=False)
            for index, (drafted, age, guess) in enumerate(guesses):
                if index == len(ids):
                    break
                if guess == drafted:
                    ids[index], ages[index] = guess, age
                    kinds[index] = _SAME if index else _NEXT
                elif index:
                    # The first guess follows the wrong id itself, and says little.
                    ids[index], ages[index], kinds[index] = guess, 0, _OTHER
        return _Draft(ids, kinds, ages, place)

    def _take(self, ids: list[int]) -> None:
        """Align the new ids, and see how far the draft was right."""
        draft, new = self._draft, ids[len(self._ids) :]
        pairs = list(zip(draft.ids, new, strict=False))
        differ = (n for n, (drafted, token) in enumerate(pairs) if drafted != token)
        right = next(differ, len(pairs))
        for index, kind in enumerate(draft.kinds[: min(right + 1, len(pairs))]):
            self._drafted[kind] += 1
            self._right[kind] += index < right
        self._ids += new
        self._ages += [min(age + 1, _OLDEST) for age in draft.ages[:right]]
        self._ages += [0] * (len(new) - right)
        behind = right + 1
        self._wrong = _Draft(
            draft.ids[behind:],
            ages=draft.ages[behind:],
            place=draft.place + behind,
            chosen=draft.chosen[behind:],
        )
        self._draft = _Draft()
        if self._previous is None:
            return
        if right >= _SURE:
            skips = self._previous.skips
            self._costs = np.abs(skips - skips[draft.place + right])
            new = new[right:]
        for token in new:
            self._align(token)

    def _align(self, token: int) -> None:
        """Update, for each place in the previous answer, what it costs to be there after token."""
        previous = self._previous
        old = _DECAY * self._costs
        new = old + (_GAP + _BOUNDARY * (token in self._boundaries))
        if token not in self._replacing:
            cost = self._replaced + _BOUNDARY * (token in self._boundaries)
            same = previous.ids == token
            gain = _TAG / max(1, np.count_nonzero(same)) if token in self._boundaries else 0.0
            self._replacing[token] = np.where(same, -gain, cost)
        np.minimum(new[1:], old[:-1] + self._replacing[token], out=new[1:])
        # Any number of ids may have been left out before a place.
        new -= previous.skips
        self._costs = np.minimum.accumulate(new) + previous.skips
