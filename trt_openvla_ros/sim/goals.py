"""The goals on the table, and the sentences that ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
import re
from typing import Protocol

import numpy as np

from trt_openvla_ros.errors import InputError

KINDS = ('reach', 'push', 'pick')
COLOURS = {
    'red': (0.85, 0.10, 0.10),
    'green': (0.10, 0.65, 0.15),
    'blue': (0.10, 0.25, 0.90),
    'yellow': (0.95, 0.80, 0.05),
}
# Every shape, and the words that mean it.
SHAPES = {
    'block': ('block', 'cube'),
    'ball': ('ball', 'sphere'),
    'cylinder': ('cylinder', 'can'),
}
# Unit vectors in the base frame: x forward, y left.
DIRECTIONS = {
    'left': (0.0, 1.0),
    'right': (0.0, -1.0),
    'forward': (1.0, 0.0),
    'backward': (-1.0, 0.0),
}
_SENTENCES = {
    'reach': ('move to the {}', 'go to the {}', 'reach the {}', 'move the gripper to the {}'),
    'push': ('push the {} {}', 'slide the {} {}', 'shove the {} {}', 'push the {} to the {}'),
    'pick': ('pick up the {}', 'lift the {}', 'grasp the {} and lift it', 'take the {}'),
}


class Coloured(Protocol):
    """Anything with a colour and a shape."""

    colour: str
    shape: str


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes:
        kind: One of KINDS.
        colour, shape: The object, by keys of COLOURS and SHAPES.
        direction: Direction of a push, a key of DIRECTIONS; '' for the other kinds.
    """

    kind: str
    colour: str
    shape: str
    direction: str = ''

    @property
    def name(self) -> str:
        """Name of the object, such as 'red block'."""
        return f'{self.colour} {self.shape}'


def goals_for(objects: Iterable[Coloured]) -> list[Goal]:
    """List every goal of a scene, object by object."""
    return [
        Goal(kind, thing.colour, thing.shape, direction)
        for thing in objects
        for kind in KINDS
        for direction in (DIRECTIONS if kind == 'push' else ('',))
    ]


def draw(objects: Iterable[Coloured], rng: np.random.Generator) -> Goal:
    """Draw a goal of a scene, every kind as likely as another."""
    kind = rng.choice(KINDS)
    goals = [goal for goal in goals_for(objects) if goal.kind == kind]
    return goals[rng.integers(len(goals))]


def phrase(goal: Goal, rng: np.random.Generator) -> str:
    """Ask for a goal in one of its sentences."""
    sentence = str(rng.choice(_SENTENCES[goal.kind]))
    name = f'{goal.colour} {rng.choice(SHAPES[goal.shape])}'
    if goal.kind != 'push':
        return sentence.format(name)
    # One goes 'forward', but 'to the left'.
    if 'to the' in sentence and goal.direction in ('forward', 'backward'):
        sentence = 'push the {} {}'
    return sentence.format(name, goal.direction)


def parse(text: str) -> Goal:
    """Parse a sentence that `phrase` may make.

    Raises:
        InputError: The text is no such sentence.
    """
    nouns = {word: shape for shape, words in SHAPES.items() for word in words}
    thing = rf'(?P<colour>{"|".join(COLOURS)}) (?P<noun>{"|".join(nouns)})'
    where = rf'(?P<direction>{"|".join(DIRECTIONS)})'
    for kind, sentences in _SENTENCES.items():
        for sentence in sentences:
            match = re.fullmatch(sentence.format(thing, where), text.strip().lower())
            if match:
                found = match.groupdict()
                return Goal(
                    kind, found['colour'], nouns[found['noun']], found.get('direction', '')
                )
    examples = ', '.join(repr(s[0].format('red block', 'left')) for s in _SENTENCES.values())
    raise InputError(
        f'instruction {text!r} names no goal of this table; say for example {examples}'
    )


def parse_in(text: str, names: Iterable[str]) -> Goal:
    """Parse a sentence about one of the objects of a scene, given by their names.

    Raises:
        InputError: The text is no such sentence, or the object is not there.
    """
    goal, names = parse(text), list(names)
    if goal.name not in names:
        raise InputError(
            f'instruction {text!r}: there is no {goal.name} on the table; there are '
            f'{", ".join(names)}'
        )
    return goal
