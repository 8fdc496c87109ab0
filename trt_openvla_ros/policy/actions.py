"""Action token ids to bins to normalised actions, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_openvla_ros.errors import OutputError


@dataclass(frozen=True)
class ActionTokens:
    """The last `bins` ids of the text vocabulary stand for the bins of [-1, 1].

    Attributes:
        vocab_size: Size of the text vocabulary, without padding rows (32000 for Llama-2).
        bins: Number of bin edges (256). Ids vocab_size - bins .. vocab_size - 1 are actions.
    """

    vocab_size: int
    bins: int = 256

    @property
    def first(self) -> int:
        """Smallest action id."""
        return self.vocab_size - self.bins

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Tell for each id, of any shape, whether it is an action token."""
        ids = np.asarray(ids)
        return (ids >= self.first) & (ids < self.vocab_size)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Map action ids to the centres of their bins.

        Args:
            ids: [..., D] int.

        Returns:
            [..., D] float64 in (-1, 1), unitless.

        Raises:
            OutputError: An id is not an action token. The reference clips such ids to the
                upper end of the range, which moves the arm; see docs/decisions.

        Source: ActionTokenizer of openvla/openvla (prismatic/vla/action_tokenizer.py).
        """
        ids = np.asarray(ids)
        if not self.contains(ids).all():
            raise OutputError(
                f'the model wrote token ids {ids.tolist()}, but actions are the ids '
                f'{self.first} to {self.vocab_size - 1}; check that the checkpoint is an action '
                'model and that the prompt style is the one it was trained with'
            )
        edges = np.linspace(-1.0, 1.0, self.bins)
        centres = (edges[:-1] + edges[1:]) / 2.0
        # Bins count from 1, and 256 edges have 255 centres: bins 255 and 256 share the last.
        return centres[np.minimum(self.vocab_size - ids - 1, self.bins - 2)]

    def encode(self, normalised: np.ndarray) -> np.ndarray:
        """Map normalised actions [..., D] float (clipped to [-1, 1]) to ids [..., D] int64."""
        edges = np.linspace(-1.0, 1.0, self.bins)
        return self.vocab_size - np.digitize(np.clip(normalised, -1.0, 1.0), edges)
