"""Text files, which people write on any system."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

from trt_openvla_ros.errors import ConfigError

# No file that we read as text is near this size [byte]; weights are beyond it.
_MOST = 1 << 26
# UTF-32's mark begins with that of UTF-16, so it comes first.
_MARKS = (
    (codecs.BOM_UTF32_LE, 'utf-32'),
    (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF8, 'utf-8-sig'),
    (codecs.BOM_UTF16_LE, 'utf-16'),
    (codecs.BOM_UTF16_BE, 'utf-16'),
)


def read_text(path: Path) -> str:
    """Read a file in UTF-8, or in the Unicode encoding that the mark at its beginning names.

    Windows' editors and shells write such marks. Without one, other encodings are not guessed: a
    wrong guess would be another text.

    Raises:
        ConfigError: The file cannot be read, or is in another encoding.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f'{path} cannot be read: it is no file')
        with path.open('rb') as file:
            data = file.read(_MOST + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path} cannot be read: {error}') from error
    if len(data) > _MOST:
        raise ConfigError(f'{path} cannot be read: it has more than {_MOST} bytes')
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), 'utf-8')
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f'{path} is not in {encoding.upper()} (byte 0x{data[error.start]:02x} at position '
            f'{error.start}); save it as UTF-8'
        ) from error
    if '\0' in text:  # UTF-16 without a mark has many
        raise ConfigError(f'{path} is not text in UTF-8: it has a NUL; save it as UTF-8')
    # Line ends of Windows, and of old Macs, are those of Python.
    return text.replace('\r\n', '\n').replace('\r', '\n')


def read_yaml(path: Path) -> Any:
    """Read a file of YAML into plain values; None if it is empty.

    Raises:
        ConfigError: The file cannot be read, or is not YAML; the message begins with its path.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Turn YAML into plain values.

    Args:
        text: The YAML.
        source: Where it is from, for messages.

    Raises:
        ConfigError: It is not YAML.
    """
    # Imported here, because a program without such files does not need PyYAML.
    import yaml

    try:
        return yaml.safe_load(text)
    # Too deep, or of a value that cannot be, such as a 99th day.
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f'{source} is not YAML: {" ".join(str(error).split())}') from error
