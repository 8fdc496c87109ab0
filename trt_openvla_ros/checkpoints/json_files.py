"""JSON objects in files: read whole, and checked against a schema before anything uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import reprlib
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.text_files import read_text

# Advice about a value that nobody would have written by hand.
OTHER_CONFIG = 'take config.json of the checkpoint that this one was made from'
_SHOWN = 80  # characters of a wrong value, or of a key, in a message


class Schema(BaseModel):
    """The keys of a JSON object that we read, with their types and ranges; other keys are ignored.

    Nothing is converted: '3', 3.0 and true are no integers. Only an integer is a float, too.
    """

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


# Number of elements along one dimension. No model of the family has larger ones, and a file with
# absurd ones is refused before memory is taken for it.
Size = Annotated[int, Field(ge=1, le=1 << 20)]
Count = Annotated[int, Field(ge=1, le=1024)]  # of layers, heads, bins or bytes of a small kind
Positive = Annotated[float, Field(gt=0, le=1e12)]

_Schema = TypeVar('_Schema', bound=Schema)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or has a key twice or a text that
            is not Unicode.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        # JSON can spell halves of characters, which no file or terminal can take.
        if (b'\\u' if isinstance(text, bytes) else '\\u') in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError('it is nested too deeply') from None
    except UnicodeEncodeError as error:
        raise ValueError('a text in it is not Unicode') from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f'it has the key {_clipped(name)} twice')
        content[name] = value
    return content


def read_object(path: Path, if_missing: str, way_out: str) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: The file.
        if_missing: Text for the message if there is no file; '' takes way_out.
        way_out: Advice for the message if the file is broken.

    Raises:
        ConfigError: The file is missing, cannot be read, or holds something else.
    """
    try:
        value = parse_json(read_text(path))
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ConfigError(f'{path} is missing; {if_missing or way_out}') from error
        raise ConfigError(f'{error}; {way_out}') from error
    except ValueError as error:
        raise ConfigError(f'{path} is not JSON: {error}; {way_out}') from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise ConfigError(f'{path} holds a {kind} instead of an object; {way_out}')
    return value


def checked(
    schema: type[_Schema], content: Mapping[str, Any], source: object, way_out: str
) -> _Schema:
    """Check the content of a file.

    Args:
        schema: Keys, types and ranges.
        content: Content of the file, or of an object in it.
        source: Path of the file, for the message.
        way_out: Advice for the message.

    Raises:
        ConfigError: A key is missing, or its value is of another type or out of range; the
            message names the file, the key and the value.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    key = _key(first['loc'], content)
    if first['type'] == 'missing':
        raise ConfigError(f'{source}: {key} is missing; {way_out}')
    wanted = first['msg'].removeprefix('Value error, ')
    found = f'{key} is {_clipped(first["input"])}; ' if key else ''
    raise ConfigError(f'{source}: {found}{wanted[:1].lower()}{wanted[1:]}; {way_out}')


def _key(location: Sequence[str | int], content: Any) -> str:
    """Write the place of a value as text.towers[0].size, without the kinds that pydantic tried."""
    key, value = '', content
    for index, step in enumerate(location):
        if isinstance(value, list) and isinstance(step, int):
            key, value = f'{key}[{step}]', value[step]
        elif isinstance(value, Mapping) and (step in value or index == len(location) - 1):
            name = step if step.isprintable() and 0 < len(step) <= _SHOWN else _clipped(step)
            key, value = f'{key}.{name}' if key else name, value.get(step)
    return key


def _clipped(value: Any) -> str:
    """Write a value as JSON does; of a list or an object, only what a message can hold."""
    whole = not isinstance(value, list | dict)
    text = json.dumps(value, default=repr) if whole else reprlib.repr(value)
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…'


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented for people."""
    path.write_text(json.dumps(value, indent=2) + '\n', encoding='utf-8')
