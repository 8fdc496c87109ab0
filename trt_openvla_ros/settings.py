"""Settings: fields of dataclasses, filled in like the parameters of a ROS node, without ROS.

    program --ros-args --params-file FILE -p NAME:=VALUE
    program --NAME VALUE

A name with dots is a setting in a section. A section is a field that is itself such a dataclass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, Field, field, fields, MISSING
import difflib
import math
from pathlib import Path
from typing import Any, TypeVar

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.text_files import read_text

T = TypeVar('T')

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
        section = _section_of(entry)
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


def read_settings(cls: type[T], argv: Sequence[str], node: str, section: str = '') -> T:
    """Fill in a dataclass of settings; a later value wins over an earlier one.

    Args:
        cls: Frozen dataclass; each field is made by `setting` or is a section.
        argv: Command line without the program's name.
        node: Name of the program's node in parameter files.
        section: Section that `--NAME VALUE` need not name.

    Raises:
        ConfigError: A file or argument cannot be read, or a setting is unknown or has the wrong
            type or range.
    """
    known = list_settings(cls)
    values: dict[str, Any] = {}
    for given, value, source in _assignments(argv, node, known, section):
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
            yield name, text if plain else _parse(text, option), option
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
        yield name, _parse(text, f'-p {rule}'), f'-p {rule}'


def _file(path: Path, node: str) -> Iterator[tuple[str, Any, str]]:
    content = _parse(read_text(path), str(path))
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


def _parse(text: str, source: str) -> Any:
    # Imported here, because a program without parameters does not need PyYAML.
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f'{source} is not YAML: {" ".join(str(error).split())}') from error


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
        section, full = _section_of(entry), prefix + entry.name
        if section:
            made[entry.name] = _make(section, values, f'{full}.')
        elif full in values:
            made[entry.name] = values[full]
    return cls(**made)


def _section_of(entry: Field) -> type | None:
    return None if entry.default_factory is MISSING else entry.default_factory
