"""Which objects a scene has, and where they lie."""

from __future__ import annotations

import numpy as np

from trt_openvla_ros.sim.goals import COLOURS, SHAPES

LOOKS = [f'{colour} {shape}' for colour in COLOURS for shape in SHAPES]
TABLE_LOW, TABLE_HIGH = np.array([-0.11, -0.15]), np.array([0.11, 0.15])  # [m]
_SPACING = 0.085  # [m] least distance between two objects


def draw_names(rng: np.random.Generator) -> list[str]:
    """Draw three to five objects of different looks."""
    return [str(name) for name in rng.permutation(LOOKS)[: rng.integers(3, 6)]]


def draw_spot(rng: np.random.Generator, taken: list[np.ndarray]) -> np.ndarray:
    """Draw a spot [2] m of the table that is not too near to those taken."""
    while True:
        spot = rng.uniform(TABLE_LOW, TABLE_HIGH)
        if all(np.linalg.norm(spot - other) > _SPACING for other in taken):
            return spot
