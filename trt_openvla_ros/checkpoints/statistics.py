"""One entry of norm_stats in config.json, or of dataset_statistics.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from trt_openvla_ros.contracts import ActionStatistics
from trt_openvla_ros.errors import ConfigError


def read_statistics(entry: dict[str, Any], name: str) -> ActionStatistics:
    """Read norm_stats[name].

    Raises:
        ConfigError: A value is missing, not finite, or of another length.
    """
    try:
        action = entry['action']
        q01 = np.asarray(action['q01'], dtype=np.float64)
        q99 = np.asarray(action['q99'], dtype=np.float64)
        mask = np.asarray(action.get('mask', np.ones(q01.shape)), dtype=bool)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f'norm_stats[{name!r}] has no usable action.q01 and action.q99 ({error!r})'
        ) from error
    try:
        return ActionStatistics(q01, q99, mask)
    except ConfigError as error:
        raise ConfigError(f'norm_stats[{name!r}]: {error}') from error


def write_statistics(actions: np.ndarray, trajectories: int) -> dict[str, Any]:
    """Make norm_stats[name] of actions [T, 7] float64, whose last dimension is the gripper."""
    low, high = np.quantile(actions, (0.01, 0.99), axis=0)
    action = {
        'mask': [True] * 6 + [False],
        'max': actions.max(0).tolist(),
        'mean': actions.mean(0).tolist(),
        'min': actions.min(0).tolist(),
        'q01': low.tolist(),
        'q99': high.tolist(),
        'std': actions.std(0).tolist(),
    }
    names = ('max', 'mean', 'min', 'q01', 'q99', 'std')
    return {
        'action': action,
        'num_trajectories': trajectories,
        'num_transitions': len(actions),
        'proprio': {name: [0.0] * 7 for name in names},
    }
