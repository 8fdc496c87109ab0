"""Action token ids to bins to normalised actions to SI units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trt_openvla_ros.errors import ConfigError, OutputError


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


@dataclass(frozen=True)
class ActionStatistics:
    """How one data set normalised its actions.

    Attributes:
        q01, q99: [D] float64 in the action's units (m, rad; gripper unitless).
        mask: [D] bool; False where the model's value is used as it is (the gripper).
    """

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    @classmethod
    def from_norm_stats(cls, entry: dict, name: str) -> ActionStatistics:
        """Read norm_stats[name] of a checkpoint.

        Raises:
            ConfigError: A value is missing, not finite, or of another length.
        """
        try:
            action = entry['action']
            q01 = np.asarray(action['q01'], dtype=np.float64)
            q99 = np.asarray(action['q99'], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f'norm_stats[{name!r}] has no usable action.q01 and action.q99 ({error!r})'
            ) from error
        mask = np.asarray(action.get('mask', np.ones(q01.shape)), dtype=bool)
        if q01.ndim != 1 or not q01.shape == q99.shape == mask.shape:
            raise ConfigError(
                f'norm_stats[{name!r}]: q01, q99 and mask have the shapes {q01.shape}, '
                f'{q99.shape} and {mask.shape}; one vector of the same length is needed'
            )
        if not (np.isfinite(q01).all() and np.isfinite(q99).all()):
            raise ConfigError(f'norm_stats[{name!r}]: q01 or q99 is not finite')
        return cls(q01, q99, mask)

    def unnormalise(self, normalised: np.ndarray) -> np.ndarray:
        """Map [..., D] float64 in [-1, 1] to the action's units; unmasked entries pass.

        Source: predict_action of openvla/openvla (no 1e-8 term, unlike the training code).
        """
        scaled = 0.5 * (normalised + 1) * (self.q99 - self.q01) + self.q01
        return np.where(self.mask, scaled, normalised)

    def describe(self) -> str:
        """Print the ranges, one bracket a dimension."""
        low = np.where(self.mask, self.q01, -1.0)
        high = np.where(self.mask, self.q99, 1.0)
        return ' '.join(f'[{a:.4g}, {b:.4g}]' for a, b in zip(low, high, strict=True))


def find_statistics(
    stats: Mapping[str, dict], unnorm_key: str | None, source: object
) -> tuple[str, ActionStatistics]:
    """Find the statistics of a data set; None is allowed when there is only one.

    Args:
        stats: norm_stats of a checkpoint.
        unnorm_key: The data set.
        source: Where they come from, for the message.

    Raises:
        ConfigError: There is no such key; the message lists all with their ranges.
    """
    key = unnorm_key or (next(iter(stats)) if len(stats) == 1 else None)
    if key not in stats:
        lines = ''.join(
            f'\n  {name}: {ActionStatistics.from_norm_stats(entry, name).describe()}'
            for name, entry in stats.items()
        )
        asked = f'unnorm_key {unnorm_key!r} is not in' if unnorm_key else 'no unnorm_key for'
        raise ConfigError(
            f'{asked} {source}; its keys and their ranges '
            f'(x y z [m], roll pitch yaw [rad], gripper):{lines}'
        )
    return key, ActionStatistics.from_norm_stats(stats[key], key)
