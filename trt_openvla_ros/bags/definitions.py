"""Definitions of messages, for bags that hold none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PACKAGE = 'trt_openvla_ros'


def typestore() -> Any:
    """Give rosbags' store of ROS 2 Humble's messages, with those of this package.

    Recordings of Humble and before in sqlite3 do not contain the definitions of their messages;
    all others do, and are read by their own. The definitions here are those of this release: it
    cannot read what another one recorded so.
    """
    from rosbags.typesys import get_types_from_msg, get_typestore, Stores

    store = get_typestore(Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for path in sorted(_directory().glob('*.msg')):
        name = f'{PACKAGE}/msg/{path.stem}'
        types |= get_types_from_msg(path.read_text(encoding='utf-8'), name)
    store.register(types)
    return store


def _directory() -> Path:
    """Find the .msg files: where pip installs them, in the checkout, or where colcon has them."""
    places = [Path(__file__).with_name('messages'), Path(__file__).parents[2] / 'msg']
    try:
        from ament_index_python.packages import get_package_share_directory

        places.append(Path(get_package_share_directory(PACKAGE)) / 'msg')
    except (ImportError, LookupError, OSError):  # no ROS, not this package, or not sourced
        pass
    # Another package beside an installed one may have a directory msg, too.
    return next((place for place in places if (place / 'VlaAction.msg').is_file()), places[0])
