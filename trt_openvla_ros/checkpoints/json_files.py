"""JSON objects in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trt_openvla_ros.errors import ConfigError


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
        value = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise ConfigError(f'{path} is missing; {if_missing or way_out}') from error
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error}; {way_out}') from error
    except ValueError as error:
        raise ConfigError(f'{path} is not JSON: {error}; {way_out}') from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise ConfigError(f'{path} holds a {kind} instead of an object; {way_out}')
    return value


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented for people."""
    path.write_text(json.dumps(value, indent=2) + '\n', encoding='utf-8')
