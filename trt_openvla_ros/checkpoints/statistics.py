"""One entry of norm_stats in config.json, or of dataset_statistics.json."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from trt_openvla_ros.checkpoints.json_files import checked, Schema
from trt_openvla_ros.contracts import ActionStatistics, find_statistics
from trt_openvla_ros.errors import ConfigError

_log = logging.getLogger(__name__)


_MOST = 128  # dimensions of an action, far beyond two arms with hands
_WAY_OUT = 'actions are normalised by action.q01, action.q99 and action.mask; correct them'


class _Action(Schema):
    q01: Annotated[list[float], Field(min_length=1, max_length=_MOST)]
    q99: Annotated[list[float], Field(min_length=1, max_length=_MOST)]
    mask: Annotated[list[bool], Field(default=None, max_length=_MOST)]


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
    name = _shown(name)
    if not isinstance(entry, dict):
        raise ConfigError(f'{source}: {name}: no object with statistics; {_WAY_OUT}')
    action = checked(_Entry, entry, f'{source}: {name}', _WAY_OUT).action
    try:
        return ActionStatistics(
            np.asarray(action.q01, np.float64),
            np.asarray(action.q99, np.float64),
            np.asarray([True] * len(action.q01) if action.mask is None else action.mask, bool),
        )
    except ConfigError as error:
        raise ConfigError(f'{source}: {name}: action: {error}; {_WAY_OUT}') from error


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
                'become actions'
            )
        action = entries.get('action')
        if isinstance(action, dict) and {'q01', 'q99', 'mask', 'mean', 'std'} & action.keys():
            raise ConfigError(
                f'{source} has "action" where the name of a data set belongs; write '
                '{"my_robot": {"action": {"q01": [...], "q99": [...], "mask": [...]}}}'
            )
        self.entries = entries
        self.usable: dict[str, ActionStatistics] = {}
        self._faults: dict[str, ConfigError] = {}
        self._source = source
        for key, entry in entries.items():
            self._read(key, entry)

    def _read(self, key: str, entry: Any) -> None:
        try:
            self.usable[key] = read_statistics(entry, key, self._source)
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
            others = ''.join(f'\n  {self._why_not(name)}' for name in self._faults)
            raise ConfigError(f'{error}{others}') from None

    def _why_not(self, key: str) -> str:
        fault = str(self._faults[key]).removeprefix(f'{self._source}: {_shown(key)}: ')
        return f'{_shown(key)}: cannot be used, because {fault.removesuffix(f"; {_WAY_OUT}")}'


def _shown(name: str) -> str:
    return name if name.isprintable() and 0 < len(name) <= 80 else f'{name!r:.80}'


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
