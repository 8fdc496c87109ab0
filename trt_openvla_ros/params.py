"""Parameters in the syntax of a ROS node, for programs that run without ROS.

A frozen dataclass declares them; the command line and YAML files fill it in:

    program --ros-args --params-file FILE -p NAME:=VALUE
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, Field, field, fields
import difflib
import math
from pathlib import Path
from typing import Any, TypeVar

from trt_openvla_ros.errors import ConfigError

T = TypeVar('T')

_KINDS = {str: 'string', bool: 'bool', int: 'int', float: 'double'}


@dataclass(frozen=True)
class Limits:
    """What a parameter may be: inclusive range of a number, or the choices of a string."""

    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


def param(
    default: Any,
    description: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a field of a parameter dataclass; its type is that of the default."""
    limits = Limits(low, high, choices)
    return field(default=default, metadata={'description': description, 'limits': limits})


def read_params(cls: type[T], argv: Sequence[str], name: str) -> T:
    """Fill in a parameter dataclass; later arguments win over earlier ones.

    Args:
        cls: Frozen dataclass whose fields were made by `param`.
        argv: The command line without the program's name.
        name: The program's, which is its node's in parameter files.

    Raises:
        ConfigError: A file or argument cannot be read, or a parameter is unknown, or of the
            wrong type or range.
    """
    known = {f.name: f for f in fields(cls)}
    values: dict[str, Any] = {}
    for key, value, source in _assignments(argv, name):
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(known)}'
            raise ConfigError(f'{source}: unknown parameter {key!r}; {hint}')
        values[key] = _check(known[key], value, source)
    return cls(**values)


def describe_params(cls: type) -> str:
    """Print every parameter with its type, default, limits and meaning."""
    lines = []
    for f in fields(cls):
        default = f'{str(f.default).lower() if isinstance(f.default, bool) else f.default!r}'
        lines.append(f'  {f.name} ({kind_of(f)}, {default}{_allowed(f)})')
        lines.append(f'      {f.metadata["description"]}')
    return '\n'.join(lines)


def kind_of(f: Field) -> str:
    """Name a parameter's type as ROS does."""
    return _KINDS[type(f.default)]


def _assignments(argv: Sequence[str], name: str) -> Iterator[tuple[str, Any, str]]:
    """Give (parameter, value, where it stands) in order."""
    arguments, in_ros = iter(argv), False
    for argument in arguments:
        if argument == '--ros-args':
            in_ros = True
        elif argument == '--' and in_ros:
            in_ros = False
        elif in_ros and argument in ('-p', '--param', '--params-file', '-r', '--remap'):
            value = next(arguments, None)
            if value is None:
                raise ConfigError(f'{argument} needs a value')
            if argument in ('-p', '--param'):
                yield from _rule(value, name)
            elif argument == '--params-file':
                yield from _file(Path(value).expanduser(), name)
            # What launch files pass to every node, such as -r __node:=x, means nothing here.
        else:
            raise ConfigError(
                f'unexpected argument {argument!r}; '
                f'use: {name} --ros-args --params-file FILE -p NAME:=VALUE'
            )


def _rule(rule: str, name: str) -> Iterator[tuple[str, Any, str]]:
    left, separator, text = rule.partition(':=')
    node, _, key = left.rpartition(':')
    if not separator or not key:
        raise ConfigError(f'-p {rule!r} is not NAME:=VALUE')
    if not node or _is_for(node, name):
        yield key, _parse(text, f'-p {rule}'), f'-p {rule}'


def _file(path: Path, name: str) -> Iterator[tuple[str, Any, str]]:
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'parameter file {path} cannot be read: {error}') from error
    content = _parse(text, str(path))
    wanted = f'{path}: NODE or /**, then ros__parameters, then the parameters are needed'
    if not isinstance(content, dict):
        raise ConfigError(wanted)
    for node, section in content.items():
        if not isinstance(section, dict) or not isinstance(
            section.get('ros__parameters', {}), dict
        ):
            raise ConfigError(wanted)
        if _is_for(str(node), name):
            if 'ros__parameters' not in section:
                raise ConfigError(wanted)
            for key, value in section['ros__parameters'].items():
                yield str(key), value, str(path)


def _is_for(node: str, name: str) -> bool:
    return node in ('/**', '/*', name, f'/{name}', f'/**/{name}')


def _parse(text: str, source: str) -> Any:
    # Here, so that a program without parameter files needs no PyYAML.
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f'{source} is not YAML: {error}') from error


def _check(f: Field, value: Any, source: str) -> Any:
    wanted = type(f.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted is str and value is None:  # `-p name:=` and `name:` mean an empty string
        value = ''
    limits: Limits = f.metadata['limits']
    fits = type(value) is wanted and not (wanted is float and not math.isfinite(value))
    if fits and limits.low is not None:
        fits = limits.low <= value <= limits.high
    if fits and limits.choices:
        fits = value in limits.choices
    if not fits:
        raise ConfigError(
            f'{source}: {f.name} is {value!r}; a {kind_of(f)}{_allowed(f)} is needed'
        )
    return value


def _allowed(f: Field) -> str:
    limits: Limits = f.metadata['limits']
    if limits.low is not None:
        return f' from {limits.low} to {limits.high}'
    return f', one of {", ".join(map(repr, limits.choices))}' if limits.choices else ''
