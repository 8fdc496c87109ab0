"""Settings: fields of dataclasses, each with its default, its meaning and its range.

A name with dots is a setting in a section. A section is a field that is itself such a dataclass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, Field, field, fields, MISSING
import math
from typing import Any

from trt_openvla_ros.errors import ConfigError

_KINDS = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'text',
    tuple: 'a list of names',
}


@dataclass(frozen=True)
class Setting:
    """One setting: its default, its meaning and its range.

    Attributes:
        default: A bool, int, float, str or tuple of str; the type follows from it. Or a tuple of
            floats, whose number counts.
        description: Meaning of the setting, with the unit in brackets.
        low, high: Inclusive range of a number.
        choices: Values allowed for a text, or for each text of a tuple.
        run_time: Whether a running node accepts a new value; other programs never do.
    """

    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    run_time: bool = False

    @property
    def is_vector(self) -> bool:
        """Whether a value is a tuple of floats, as many as the default has."""
        return isinstance(self.default, tuple) and isinstance((*self.default, '')[0], float)

    @property
    def is_switch(self) -> bool:
        """Whether a value is true, false, or '' for neither; truth values are read too."""
        return 'true' in self.choices

    @property
    def wanted(self) -> str:
        """The kind and range of a value, in words."""
        if self.low is not None:
            kind = f'{len(self.default)} numbers' if self.is_vector else _KINDS[type(self.default)]
            return f'{kind} from {self.low:g} to {self.high:g}'
        if self.choices:
            some = 'a list of some' if isinstance(self.default, tuple) else 'one'
            return f'{some} of {", ".join(map(repr, self.choices))}'
        return _KINDS[type(self.default)]

    def check(self, value: Any, name: str) -> Any:
        """Convert a value from YAML to the type of the default.

        Raises:
            ConfigError: The value has another type or is out of range; the message starts with
                `name`.
        """
        kind = type(self.default)
        if self.is_vector:
            return self._check_vector(value, name)
        if kind is float and type(value) is int:
            value = float(value)
        elif kind is tuple and isinstance(value, list):
            value = tuple(value)
        elif kind is str and value is None:  # `-p name:=` and `name:` mean no text
            value = ''
        elif self.is_switch and type(value) is bool:
            value = str(value).lower()
        # Not isinstance, because YAML's true would pass as an int.
        fits = type(value) is kind and not (kind is float and not math.isfinite(value))
        if fits and self.low is not None:
            fits = self.low <= value <= self.high
        texts = value if kind is tuple else (value,)
        if fits and kind in (str, tuple):
            fits = all(
                isinstance(text, str) and (not self.choices or text in self.choices)
                for text in texts
            )
        if not fits:
            raise ConfigError(f'{name} is {value!r}; {self.wanted} is needed')
        return value

    def _check_vector(self, value: Any, name: str) -> tuple[float, ...]:
        numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
        fits = len(numbers) == len(self.default) and all(
            type(one) in (int, float) and self.low <= one <= self.high for one in numbers
        )
        if not fits:
            raise ConfigError(f'{name} is {value!r}; {self.wanted} are needed')
        return tuple(map(float, numbers))


def setting(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    run_time: bool = False,
) -> Any:
    """Declare a field of a dataclass of settings; see `Setting`."""
    return field_of(Setting(default, description, low, high, choices, run_time))


def field_of(declared: Setting) -> Any:
    """Make a setting a field of a dataclass."""
    return field(default=declared.default, metadata={'setting': declared})


def list_settings(cls: type, prefix: str = '') -> dict[str, Setting]:
    """List the settings of a dataclass and of its sections by their full names."""
    known: dict[str, Setting] = {}
    for entry in fields(cls):
        section = section_of(entry)
        if section:
            known |= list_settings(section, f'{prefix}{entry.name}.')
        else:
            known[prefix + entry.name] = entry.metadata['setting']
    return known


def describe_settings(cls: type) -> str:
    """List the settings with default, range and meaning, for --help."""
    lines = []
    for name, declared in list_settings(cls).items():
        default = declared.default
        shown = str(default).lower() if isinstance(default, bool) else repr(default)
        limits = f' ({declared.wanted})' if declared.low is not None or declared.choices else ''
        lines.append(f'  {name}: {shown}{limits}\n      {declared.description}')
    return '\n'.join(lines)


def section_of(entry: Field) -> type | None:
    """Give the dataclass of a field that is a section; None for a setting."""
    return None if entry.default_factory is MISSING else entry.default_factory
