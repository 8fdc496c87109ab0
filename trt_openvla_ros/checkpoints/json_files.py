"""JSON objects in files: read whole, and checked against a schema before anything uses them."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.text_files import read_text

_SHOWN = 80  # characters of a wrong value in a message


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
        value = json.loads(read_text(path))
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ConfigError(f'{path} is missing; {if_missing or way_out}') from error
        raise ConfigError(f'{error}; {way_out}') from error
    except (ValueError, RecursionError) as error:
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
    key = '.'.join(map(str, first['loc']))
    if first['type'] == 'missing':
        raise ConfigError(f'{source}: {key} is missing; {way_out}')
    value = json.dumps(first['input'], default=repr)
    if len(value) > _SHOWN:
        value = f'{value[:_SHOWN]}…'
    wanted = first['msg'].removeprefix('Value error, ')
    at = f'{key} is {value}' if key else value
    raise ConfigError(f'{source}: {at}; {wanted[:1].lower()}{wanted[1:]}; {way_out}')


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented for people."""
    path.write_text(json.dumps(value, indent=2) + '\n', encoding='utf-8')
