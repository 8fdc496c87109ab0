"""Lessons for the language model: what it reads and should answer, many goals in one row.

The picture and the beginning of the prompt are the same for every goal, so that they are computed
once: a row is that prefix and then one segment for each goal, which sees the prefix and itself.

B: pictures, G: goals of each, L: length of a row, P: of the prefix without patches,
M: tokens of all answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import re

import numpy as np
import torch

from trt_openvla_ros.checkpoints.statistics import write_statistics
from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.contracts import ActionStatistics
from trt_openvla_ros.policy.actions import ActionTokens
from trt_openvla_ros.policy.prompt import normalise_instruction, PROMPT_STYLES
from trt_openvla_ros.sim.expert import expert, pushes, target_of
from trt_openvla_ros.sim.goals import COLOURS, goals_for, phrase, SHAPES
from trt_openvla_ros.sim.state import State
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.training.demonstrations import Demonstrations, LOOKS
from trt_openvla_ros.training.reasoning_text import reasoning_of
from trt_openvla_ros.training.vocabulary import number_runs

FACTS = 10  # target [3], hand [3], opening, displacement [3]
_SCALE = np.float32([10] * 3 + [10] * 3 + [1] + [25] * 3)
# A push is the hardest, and has four directions.
_KINDS = {'reach': 0.1, 'push': 0.6, 'pick': 0.3}
# To close, to lift and to push is decided in few pictures, and about the object at the hand: those
# come more often than they would.
_LOW, _NEAREST = 0.5, 0.5
# A hand low beside an object rarely is where the drawn direction begins, but mostly where it went
# for one.
_UNDER_WAY = 0.5
_BESIDE, _PIXELS_BESIDE = 8.0, 1.5  # [bins], [px]
# How much what the action follows from, from SUBTASK REASONING to MOVE, and the action count among
# a hundred other words of reasoning.
_DECISIVE = 8.0
_EXACT = 5  # last tokens of an answer: roll, pitch, yaw, gripper, </s>
_SHAPE_OF = {word: shape for shape, words in SHAPES.items() for word in words}
_MENTION = re.compile(
    rf'(?P<colour>{"|".join(COLOURS)}) (?P<noun>{"|".join(_SHAPE_OF)})\b'
    r'(?: \[[^\]]*\]| is [a-z]+(?: [a-z]+)?)?'
)


@dataclass
class Lesson:
    """One batch.

    Attributes:
        pictures: [B] int64, index of each picture.
        ids: [B, L] int64 after the patches; the first P are the prefix after <s>.
        positions: [B, L] int64 in the sequence that begins with <s>, 0, and the patches.
        segments: [B, L] int64: 0 prefix, 1 and up the goals, -1 padding.
        rows, columns: [M] int64, where in ids the answers' tokens are predicted from.
        labels: [M] int64, those tokens.
        exact: [M] bool, whether only that very token is right, although it is a number.
        weights: [M] float32, how much each of those tokens counts.
        facts: [M, FACTS] float32, what the hidden state there should tell; scaled to about 1.
        mention_rows, mention_columns: [K] int64, where in ids an object is being talked about.
        named: [K] int64 index into LOOKS, that object.
        seen: [B, N] int64 index into LOOKS, what is in each patch.
    """

    pictures: np.ndarray
    ids: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    labels: torch.Tensor
    exact: torch.Tensor
    weights: torch.Tensor
    facts: torch.Tensor
    mention_rows: torch.Tensor
    mention_columns: torch.Tensor
    named: torch.Tensor
    seen: torch.Tensor

    def to(self, device: torch.device) -> Lesson:
        """Move the tensors."""
        moved = {
            name: value.to(device) for name, value in vars(self).items() if name != 'pictures'
        }
        return Lesson(self.pictures, **moved)


@dataclass(frozen=True)
class _Example:
    """One goal.

    Attributes:
        prompt: Ids behind the shared prefix.
        answer, weights: Ids, and how much each counts.
        mentions: (index, look) of each.
        facts: [FACTS] float32.
    """

    prompt: list[int]
    answer: list[int]
    weights: list[float]
    mentions: list[tuple[int, int]]
    facts: np.ndarray


@dataclass
class Teacher:
    """Makes lessons of one prompt style from demonstrations."""

    demos: Demonstrations
    style: str
    tokenizer: Tokenizer
    statistics: ActionStatistics
    seen: np.ndarray  # [n, N] as of patch_labels
    seed: int
    _cache: dict[str, list[int]] = field(default_factory=dict)  # ids of prompts

    def __post_init__(self) -> None:
        """Find the part of the prompt that is the same for every goal."""
        self._world = World()
        self._low = np.flatnonzero(self.demos.hands[:, 2] < 0.07)
        self._tokens = ActionTokens(self.tokenizer.vocab_size)
        self._displacements, *self._pixels = number_runs(self.tokenizer)
        template = PROMPT_STYLES[self.style].template
        self._shared = self.tokenizer.encode(template[: template.index(' {instruction}')])

    def lesson(self, step: int, pictures: int, goals: int) -> Lesson:
        """Draw the pictures of a step, and for each some goals of its scene."""
        rng = np.random.default_rng([self.seed, step])
        chosen = np.where(
            rng.random(pictures) < _LOW,
            rng.choice(self._low, pictures),
            rng.integers(len(self.demos.images), size=pictures),
        )
        prefix = self._shared[1:]
        first = 1 + self.seen.shape[1]
        rows, answers, mentions = [], [], []
        for row, picture in enumerate(chosen):
            ids, segments = list(prefix), [0] * len(prefix)
            positions = list(range(first, first + len(prefix)))
            state = self.demos.state(picture)
            for segment in range(1, goals + 1):
                example = self._example(state, rng)
                # Where a token is predicted from is one before where it stands.
                start = len(ids) + len(example.prompt) - 1
                # Rotation and gripper have few values, and the model reads them again itself.
                loose = len(example.answer) - _EXACT
                answers += [
                    (row, start + i, label, i >= loose, weight, example.facts)
                    for i, (label, weight) in enumerate(
                        zip(example.answer, example.weights, strict=True)
                    )
                ]
                mentions += [(row, len(ids) + at, look) for at, look in example.mentions]
                text = example.prompt + self._as_answered(example.answer, rng)[:-1]
                begin = first + len(prefix)
                ids += text
                segments += [segment] * len(text)
                positions += range(begin, begin + len(text))
            rows.append((ids, positions, segments))
        length = max(len(ids) for ids, _, _ in rows)
        padded = [
            torch.tensor([values + [fill] * (length - len(values)) for values in column])
            for column, fill in zip(zip(*rows, strict=True), (0, 0, -1), strict=True)
        ]
        *places, facts = zip(*answers, strict=True)
        return Lesson(
            chosen,
            *padded,
            *map(torch.tensor, places),
            torch.from_numpy(np.stack(facts)),
            *map(torch.tensor, zip(*mentions, strict=True)),
            torch.from_numpy(self.seen[chosen]),
        )

    def _example(self, state: State, rng: np.random.Generator) -> _Example:
        kind = rng.choice(list(_KINDS), p=list(_KINDS.values()))
        things = state.things
        if rng.random() < _NEAREST:
            hand = state.hand.position[:2]
            things = [min(things, key=lambda one: np.linalg.norm(one.position[:2] - hand))]
        goals = [goal for goal in goals_for(things) if goal.kind == kind]
        if kind == 'push' and rng.random() < _UNDER_WAY:
            goals = [goal for goal in goals if pushes(state, goal)] or goals
        goal = goals[rng.integers(len(goals))]
        action = expert(state, goal)
        instruction = normalise_instruction(phrase(goal, rng))
        style = PROMPT_STYLES[self.style]
        prompt = style.template.format(instruction=instruction)
        ids, answer, weights, mentions = self._encode(prompt), [], [], self._mentions(prompt)
        if style.reasons:
            text = prompt + reasoning_of(self._world, state, goal, action)
            answer = self.tokenizer.encode(text)[len(ids) :]
            mentions = self._mentions(text)
            begin, end = (
                len(self.tokenizer.encode(text[: text.index(tag)])) - len(ids)
                for tag in (' SUBTASK REASONING: ', ' GRIPPER POSITION')
            )
            weights = [1.0] * len(answer)
            weights[begin:end] = [_DECISIVE] * (end - begin)
        else:
            ids = [*ids, self.tokenizer.empty_piece_id]
        answer += [self.tokenizer.empty_piece_id] * style.reasons
        answer += self._tokens.encode(normalise(action, self.statistics)).tolist()
        answer.append(self.tokenizer.eos_id)
        weights += [_DECISIVE] * (len(answer) - len(weights))
        if not style.reasons:  # from the noun on, everything is about the object
            (begin, look), *_ = mentions
            mentions = [(at, look) for at in range(begin, len(ids) + len(answer) - 1)]
        hand = state.hand
        place = target_of(state, goal).position
        facts = np.float32([*place, *hand.position, hand.opening, *action[:3]]) * _SCALE
        known = len(self._shared)
        mentions = [(at - known, look) for at, look in mentions]
        return _Example(ids[known:], answer, weights, mentions, facts)

    def _as_answered(self, answer: list[int], rng: np.random.Generator) -> list[int]:
        """Move displacement and pixels as far beside as the model itself may put them.

        It will read its own. From exact ones it would learn that just this token for nothing
        means to close the gripper, and never close it.
        """
        right, beside = np.array(answer), np.zeros(len(answer))
        for run in self._pixels:
            beside[np.isin(right, run)] = _PIXELS_BESIDE
        beside[-_EXACT - 3 : -_EXACT] = _BESIDE
        moved = right + np.rint(rng.normal(0, 1, len(right)) * beside).astype(int)
        for run in (*self._pixels, self._displacements):
            moved = np.where(np.isin(right, run), moved.clip(run[0], run[-1]), moved)
        return moved.tolist()

    def _mentions(self, text: str) -> list[tuple[int, int]]:
        """List the tokens that name an object or say where it is, as (index, look)."""
        mentions = []
        for match in _MENTION.finditer(text):
            noun, end = (len(self.tokenizer.encode(text[: match.end(at)])) for at in ('noun', 0))
            look = LOOKS.index((match['colour'], _SHAPE_OF[match['noun']]))
            mentions += [(at, look) for at in range(noun - 1, end)]
        return mentions

    def _encode(self, prompt: str) -> list[int]:
        if prompt not in self._cache:
            self._cache[prompt] = self.tokenizer.encode(prompt)
        return self._cache[prompt]


def normalise(action: np.ndarray, statistics: ActionStatistics) -> np.ndarray:
    """Map actions [..., D] to [-1, 1], the inverse of ActionStatistics.unnormalise."""
    width = statistics.q99 - statistics.q01
    scaled = 2 * (action - statistics.q01) / np.where(width > 0, width, 1) - 1
    return np.where(statistics.mask, np.where(width > 0, scaled, 0), action)


def action_statistics(demos: Demonstrations, seed: int) -> dict[str, object]:
    """Compute one entry of norm_stats from the expert's actions in the demonstrations."""
    rng = np.random.default_rng(seed)
    actions = []
    for index in range(len(demos.images)):
        state = demos.state(index)
        goals = goals_for(state.things)
        actions.append(expert(state, goals[rng.integers(len(goals))]))
    actions = np.array(actions)
    return write_statistics(actions, int(demos.episodes.max()) + 1)
