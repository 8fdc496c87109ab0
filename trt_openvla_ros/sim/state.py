"""The state of the table: its objects and the hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Thing:
    """An object on the table: its looks and the position [3] m of its centre."""

    colour: str
    shape: str
    position: np.ndarray

    @property
    def name(self) -> str:
        """Name of the object, such as 'red block'."""
        return f'{self.colour} {self.shape}'


@dataclass(frozen=True)
class Hand:
    """The hand: position [3] m of the fingertips' centre, yaw in rad, opening 0 to 1."""

    position: np.ndarray
    yaw: float
    opening: float


@dataclass(frozen=True)
class State:
    """All that an expert may know; the camera shows it too."""

    hand: Hand
    things: tuple[Thing, ...]
