"""What the seven numbers of an action mean: by the key of the statistics that made them.

The table is action_meanings.yaml. A file of the same form adds keys, and overrides fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.settings import list_settings, Setting, setting
from trt_openvla_ros.text_files import read_yaml

TABLE = Path(__file__).with_name('action_meanings.yaml')
UNKNOWN = 'unknown'
ACTION_MEANINGS = Setting(
    '',
    'YAML file that says what the numbers of further data sets mean, or overrides the table in '
    'docs/actions.md.',
)


@dataclass(frozen=True)
class Meaning:
    """The fields of ActionMeaning.msg; what nobody knows is 0 or 'unknown'."""

    translation_unit: float = setting(
        0.0, 'Length of one unit of x, y and z [m]; 0 if nobody knows.', low=0.0, high=10.0
    )
    rotation_unit: float = setting(
        0.0, 'Angle of one unit of the rotation [rad]; 0 if nobody knows.', low=0.0, high=10.0
    )
    rotation: str = setting(
        UNKNOWN,
        'Increments of roll, pitch, yaw about fixed axes, or axis times angle.',
        choices=('euler_xyz', 'rotation_vector', UNKNOWN),
    )
    reference: str = setting(
        UNKNOWN,
        'Pose that the step starts from: as BridgeData composes, last commanded, or measured.',
        choices=('bridge', 'target', 'measured', UNKNOWN),
    )
    frame: str = setting(UNKNOWN, 'Axes of the step.', choices=('base', 'end_effector', UNKNOWN))
    gripper: str = setting(
        UNKNOWN,
        'The last number is 1 for an open gripper, 1 for a closed one, or says nothing.',
        choices=('open', 'closed', 'none', UNKNOWN),
    )
    control_rate: float = setting(
        0.0, 'Rate of the steps [Hz]; 0 if nobody knows.', low=0.0, high=1000.0
    )
    source: str = setting('', 'Where this is from.')

    @property
    def has_units(self) -> bool:
        """Whether metres and radians of a unit are known."""
        return self.translation_unit > 0 and self.rotation_unit > 0


FIELDS = list_settings(Meaning)
# Meanings by unnorm_key.
Meanings = Mapping[str, Meaning]


def read_meanings(path: str | Path = '') -> Meanings:
    """Read the table of this package and, over it, a file of the same form ('' for none).

    A row of the file replaces the fields that it names, and its source is the file unless it
    names another.

    Raises:
        ConfigError: A file cannot be read, or a field is unknown or has an impossible value; the
            message names file, key, field and value.
    """
    meanings: dict[str, Meaning] = {}
    for file in (TABLE, Path(path)) if path else (TABLE,):
        for key, given in _rows(file):
            source = {} if file is TABLE else {'source': str(file)}
            meanings[key] = replace(meanings.get(key, Meaning()), **source | given)
    return meanings


def find_meaning(meanings: Meanings, unnorm_key: str) -> Meaning:
    """Find the meaning of a key; one that no table has is unknown in every field."""
    return meanings.get(unnorm_key) or Meaning(source=f'no table has {unnorm_key!r}')


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise ConfigError(
            f'{file} has no rows; it is like {TABLE}: an unnorm_key, and below it fields such as '
            'translation_unit'
        )
    for key, row in content.items():
        where = f'{file}: {key!s:.80}'
        if not isinstance(key, str) or not isinstance(row, dict) or not row:
            raise ConfigError(f'{where} is {row!r:.80}; an unnorm_key with fields is needed')
        if unknown := [field for field in row if field not in FIELDS]:
            raise ConfigError(
                f'{where}: unknown field {unknown[0]!r:.80}; known: {", ".join(FIELDS)}'
            )
        yield (
            key,
            {name: FIELDS[name].check(one, f'{where}: {name}') for name, one in row.items()},
        )
