"""Settings from a command line and from files, as those of a ROS node, without ROS.

program --ros-args --params-file FILE -p NAME:=VALUE
program --NAME VALUE
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
import difflib
from pathlib import Path
from typing import Any, TypeVar

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.settings import list_settings, section_of, Setting
from trt_openvla_ros.text_files import parse_yaml, read_yaml

T = TypeVar('T')


def read_settings(
    cls: type[T],
    argv: Sequence[str],
    node: str,
    section: str = '',
    ignored: Sequence[str] = (),
) -> T:
    """Fill in a dataclass of settings; a later value wins over an earlier one.

    Args:
        cls: Frozen dataclass; each field is made by `setting` or is a section.
        argv: Command line without the program's name.
        node: Name of the program's node in parameter files.
        section: Section that `--NAME VALUE` need not name.
        ignored: Names, up to the first dot, that somebody else reads.

    Raises:
        ConfigError: A file or argument cannot be read, or a setting is unknown or has the wrong
            type or range.
    """
    known = list_settings(cls)
    values: dict[str, Any] = {}
    for given, value, source in _assignments(argv, node, known, section):
        if given.split('.')[0] in ignored:
            continue
        for name, plain in _leaves(given, value, source, known):
            values[name] = known[name].check(plain, f'{source}: {name}')
    return _make(cls, values, '')


def _assignments(
    argv: Sequence[str], node: str, known: Mapping[str, Setting], section: str
) -> Iterator[tuple[str, Any, str]]:
    """Give each name and value, with its source, in order."""
    words = iter(argv)
    for word in words:
        option, joined, text = word.partition('=')
        if word in ('--ros-args', '--'):
            continue
        if word in ('-p', '--param'):
            yield from _rule(_next(words, word), node)
        elif option == '--params-file':
            path = text if joined else _next(words, word)
            yield from _file(Path(path).expanduser(), node)
        elif word in ('-r', '--remap'):
            _next(words, word)  # launch names nodes with it; only a node needs it
        elif option.startswith('--'):
            name = option[2:].replace('-', '_')
            if f'{section}.{name}' in known:
                name = f'{section}.{name}'
            elif name not in known:
                mine = [n for n in known if '.' not in n or n.startswith(f'{section}.')]
                raise ConfigError(f'{option}: {_unknown(name, mine)}')
            text = text if joined else _next(words, word)
            # A text stays as given, because YAML may take an instruction for something else.
            plain = isinstance(known[name].default, str)
            yield name, text if plain else parse_yaml(text, option), option
        else:
            raise ConfigError(f'argument {word!r} is not known; see --help')


def _next(words: Iterator[str], option: str) -> str:
    try:
        return next(words)
    except StopIteration:
        raise ConfigError(f'{option} needs a value behind it') from None


def _rule(rule: str, node: str) -> Iterator[tuple[str, Any, str]]:
    left, separator, text = rule.partition(':=')
    whose, _, name = left.rpartition(':')
    if not separator or not name:
        raise ConfigError(f'-p {rule!r} cannot be read; write -p NAME:=VALUE')
    if not whose or _is_for(whose, node):
        yield name, parse_yaml(text, f'-p {rule}'), f'-p {rule}'


def _file(path: Path, node: str) -> Iterator[tuple[str, Any, str]]:
    content = read_yaml(path)
    content = content if isinstance(content, dict) else {}
    mine = [key for key in content if _is_for(str(key), node)]
    if not mine:
        others = f'; it has some for {", ".join(map(str, content))}' if content else ''
        raise ConfigError(
            f"{path} has no parameters for {node}{others}; they stand below '{node}:' or '/**:', "
            "and there below 'ros__parameters:'"
        )
    for key in mine:
        body = content[key]
        if not isinstance(body, dict) or not isinstance(body.get('ros__parameters'), dict):
            raise ConfigError(f'{path}: {key} has no ros__parameters')
        for name, value in body['ros__parameters'].items():
            yield str(name), value, str(path)


def _is_for(key: str, node: str) -> bool:
    return key in ('/**', '/*', node, f'/{node}', f'/**/{node}')


def _leaves(
    name: str, value: Any, source: str, known: Mapping[str, Setting]
) -> Iterator[tuple[str, Any]]:
    """Turn quantize, {qformat: value} into quantize.qformat, value."""
    if name in known:
        yield name, value
        return
    sections = {other.rpartition('.')[0] for other in known} - {''}
    if name not in sections:
        names = sorted(sections) if sections and isinstance(value, Mapping) else known
        raise ConfigError(f'{source}: {_unknown(name, names)}')
    if not isinstance(value, Mapping):
        raise ConfigError(f'{source}: {name} is {value!r}; names and values are needed')
    for part, inside in value.items():
        yield from _leaves(f'{name}.{part}', inside, source, known)


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, 1, 0.5)
    if not near:
        # The setting may be in the wrong section, or in none.
        last = {other.split('.')[-1]: other for other in reversed(names)}
        near = [last[n] for n in difflib.get_close_matches(name.split('.')[-1], last, 1, 0.8)]
    hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(names)}'
    return f'unknown setting {name}; {hint}'


def _make(cls: type[T], values: Mapping[str, Any], prefix: str) -> T:
    made = {}
    for entry in fields(cls):
        section, full = section_of(entry), prefix + entry.name
        if section:
            made[entry.name] = _make(section, values, f'{full}.')
        elif full in values:
            made[entry.name] = values[full]
    return cls(**made)
