"""The places of the small checkpoints that come with the package."""

from __future__ import annotations

from pathlib import Path

from trt_openvla_ros.errors import ConfigError

_MODELS = Path('models')


def shipped_model(name: str) -> Path:
    """Find a checkpoint that comes with the package, such as 'tiny_openvla'.

    An installation by colcon has the checkpoints in its share directory, and a checkout has them
    in models/. pip installs none.

    Raises:
        ConfigError: The checkpoint is in neither of the two.
    """
    for place in (_share(), Path()):
        if place is not None and (place / _MODELS / name).is_dir():
            return place / _MODELS / name
    raise ConfigError(
        f'{_MODELS / name} is neither installed nor in the current directory; '
        'give a checkpoint with --checkpoint DIRECTORY'
    )


def _share() -> Path | None:
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory('trt_openvla_ros'))
    except (ImportError, LookupError, OSError):  # no ROS, not this package, or not sourced
        return None
