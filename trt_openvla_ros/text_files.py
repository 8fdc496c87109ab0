"""Text files, which people write on any system."""

from __future__ import annotations

import codecs
from pathlib import Path

from trt_openvla_ros.errors import ConfigError

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
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path} cannot be read: {error}') from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), 'utf-8')
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f'{path} is not in {encoding.upper()} (byte 0x{data[error.start]:02x} at position '
            f'{error.start}); save it as UTF-8'
        ) from error
