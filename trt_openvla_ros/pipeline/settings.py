"""Settings: fields of dataclasses with a default, a description and a range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, Field, field, fields, MISSING
import difflib
from typing import Any, TypeVar

from trt_openvla_ros.errors import ConfigError

Section = TypeVar('Section')

_KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'text'}


def setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare one setting of a dataclass; its type is that of the default.

    Args:
        default: A bool, int, float, str, or a tuple of str.
        text: What it does, with the unit in brackets.
        low: The least that a number may be.
        high: The most that a number may be.
        choices: The values that a text, or each text of a tuple, may have.
    """
    return field(
        default=default, metadata={'text': text, 'low': low, 'high': high, 'choices': choices}
    )


def read_section(kind: type[Section], values: Any, where: str = '') -> Section:
    """Make a dataclass of settings from plain values, with those missing at their defaults.

    Args:
        kind: A dataclass whose fields are settings, or sections of their own.
        values: Names to values, as YAML gives them.
        where: Name of the section for messages, '' for the outermost.

    Raises:
        ConfigError: A name is unknown, or a value has the wrong type or range.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f'{where or "the parameters"} is {values!r}; names and values are needed'
        )
    known = {entry.name: entry for entry in fields(kind)}
    made = {}
    for name, value in values.items():
        full = f'{where}.{name}' if where else str(name)
        if name not in known:
            sections = [entry.name for entry in fields(kind) if section_of(entry)]
            names = sections if isinstance(value, Mapping) else list_settings(kind, where)
            raise ConfigError(unknown(full, names or list_settings(kind, where)))
        section = section_of(known[name])
        made[name] = (
            read_section(section, value, full) if section else _check(known[name], value, full)
        )
    return kind(**made)


def unknown(name: str, names: list[str]) -> str:
    """Say that a setting is unknown, and which one was probably meant."""
    near = difflib.get_close_matches(name, names, 1, 0.5) or [
        # A setting that was put into the wrong section, or into none.
        other
        for last in difflib.get_close_matches(
            name.split('.')[-1], [n.split('.')[-1] for n in names], 1, 0.8
        )
        for other in names
        if other.split('.')[-1] == last
    ]
    hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(names)}'
    return f'unknown setting {name}; {hint}'


def list_settings(kind: type, where: str = '') -> list[str]:
    """Full names of the settings of a dataclass and of its sections."""
    names = []
    for entry in fields(kind):
        full = f'{where}.{entry.name}' if where else entry.name
        section = section_of(entry)
        names += list_settings(section, full) if section else [full]
    return names


def section_of(entry: Field) -> type | None:
    """The dataclass of a field that is a section; None for a setting."""
    return None if entry.default_factory is MISSING else entry.default_factory


def describe(kind: type, where: str = '') -> str:
    """List the settings with default, range and meaning, for --help."""
    lines = []
    for entry in fields(kind):
        full = f'{where}.{entry.name}' if where else entry.name
        section = section_of(entry)
        if section:
            lines.append(describe(section, full))
            continue
        rules = entry.metadata
        limits = f' ({rules["low"]:g} to {rules["high"]:g})' if rules['low'] is not None else ''
        if rules['choices']:
            limits = f' ({", ".join(map(repr, rules["choices"]))})'
        default = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        lines.append(f'  {full}: {default!r}{limits}\n      {rules["text"]}')
    return '\n'.join(lines)


@dataclass(frozen=True)
class FrameSettings:
    """Where images and instructions come from; inherited by the stages that need some."""

    folder: str = setting(
        '',
        'Directory of images with instructions.json ({"image.jpg": "instruction"}) or a .txt '
        'beside each image; empty takes scenes of the simulated table.',
    )
    frames: int = setting(32, 'How many images with their instructions.', low=1, high=4096)


def _check(entry: Field, value: Any, full: str) -> Any:
    """Give the value in the type of the default, or raise ConfigError."""
    rules = entry.metadata
    kind = type(entry.default)
    if kind is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f'{full} is {value!r}; a list of names is needed')
        value = texts = tuple(value)
    else:
        if kind is float and type(value) is int:
            value = float(value)
        # Not isinstance: YAML's true is an int to Python, and means another thing.
        if type(value) is not kind:
            raise ConfigError(f'{full} is {value!r}; {_KINDS[kind]} is needed')
        texts = (value,)
    for text in texts:
        if rules['choices'] and text not in rules['choices']:
            raise ConfigError(
                f'{full} is {text!r}; it must be one of {", ".join(map(repr, rules["choices"]))}'
            )
    # Written so that NaN is refused.
    if rules['low'] is not None and not rules['low'] <= value <= rules['high']:
        raise ConfigError(f'{full} is {value}; {rules["low"]:g} to {rules["high"]:g} is needed')
    return value
