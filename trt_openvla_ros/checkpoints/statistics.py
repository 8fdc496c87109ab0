"""One entry of norm_stats in config.json, or of dataset_statistics.json."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from pathlib import Path
from typing import Any

import numpy as np

from trt_openvla_ros.checkpoints.json_files import checked, Schema
from trt_openvla_ros.contracts import ActionStatistics, find_statistics
from trt_openvla_ros.errors import ConfigError

_log = logging.getLogger(__name__)


class _Action(Schema):
    q01: list[float]
    q99: list[float]
    mask: list[bool] | None = None


class _Entry(Schema):
    action: _Action


def read_statistics(entry: Any, name: str, source: object = 'norm_stats') -> ActionStatistics:
    """Read the statistics of one data set.

    Args:
        entry: Content of norm_stats[name].
        name: Name of the data set.
        source: Path of the file, for messages.

    Raises:
        ConfigError: A value is missing, not finite, of another type or of another length, or a
            range is reversed.
    """
    way_out = 'actions are normalised by action.q01, action.q99 and action.mask; correct them'
    if not isinstance(entry, dict):
        raise ConfigError(f'{source}: {name} is no object with statistics; {way_out}')
    action = checked(_Entry, entry, f'{source}: {name}', way_out).action
    try:
        return ActionStatistics(
            np.asarray(action.q01, np.float64),
            np.asarray(action.q99, np.float64),
            np.asarray([True] * len(action.q01) if action.mask is None else action.mask, bool),
        )
    except ConfigError as error:
        raise ConfigError(f'{source}: {name}.action: {error}') from error


class DataSets:
    """The stored statistics of all data sets of a checkpoint.

    Attributes:
        entries: Content by unnorm_key, as it is stored.
        usable: Statistics by unnorm_key, of the entries that can be used.
    """

    def __init__(self, source: Path, entries: Mapping[str, Any]) -> None:
        """Read all entries; a warning names each that cannot be used.

        Args:
            source: File that has them, for messages.
            entries: Content by unnorm_key.

        Raises:
            ConfigError: There are none, or the names of the data sets are missing.
        """
        if not entries:
            raise ConfigError(
                f'{source} is empty, or has no norm_stats; without statistics token ids cannot '
                'become metres and radians'
            )
        if {'q01', 'q99', 'mask', 'mean', 'std'} & {*(entries.get('action') or ())}:
            raise ConfigError(
                f'{source} has "action" where the name of a data set belongs; write '
                '{"my_robot": {"action": {"q01": [...], "q99": [...], "mask": [...]}}}'
            )
        self.entries = entries
        self.usable: dict[str, ActionStatistics] = {}
        self._faults: dict[str, ConfigError] = {}
        for key, entry in entries.items():
            self._read(key, entry, source)

    def _read(self, key: str, entry: Any, source: Path) -> None:
        try:
            self.usable[key] = read_statistics(entry, key, source)
        except ConfigError as error:
            self._faults[key] = error
            _log.warning('%s', error)

    def find(self, unnorm_key: str | None, source: object) -> tuple[str, ActionStatistics]:
        """Find the statistics of a data set; None is allowed if there is only one.

        Args:
            unnorm_key: Name of the data set.
            source: The checkpoint, for messages.

        Raises:
            ConfigError: There is no such key, or its statistics cannot be used; the message lists
                all.
        """
        key = unnorm_key or (next(iter(self.entries)) if len(self.entries) == 1 else None)
        if key in self._faults:
            raise self._faults[key]
        try:
            return find_statistics(self.usable, key, source)
        except ConfigError as error:
            others = ''.join(f'\n  {name}: cannot be used' for name in self._faults)
            raise ConfigError(f'{error}{others}') from None


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
