"""Interface packages that only some robots need; they are imported when one is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trt_openvla_ros.errors import ConfigError


def load(name: str, wanted_by: str) -> Any:
    """Import a message, service or action, or another class of an optional package.

    Args:
        name: Full name, such as 'moveit_msgs.msg.ServoStatus'.
        wanted_by: Parameter and value that need it, for the message.

    Raises:
        ConfigError: The package is not installed, or does not have it.
    """
    module, _, entry = name.rpartition('.')
    package = name.split('.')[0]
    try:
        return getattr(import_module(module), entry)
    except ImportError as error:
        raise ConfigError(
            f'{wanted_by} needs {package}, which cannot be imported ({error}); install it '
            f'(apt install ros-$ROS_DISTRO-{package.replace("_", "-")}), or choose another value'
        ) from error
    except AttributeError as error:
        raise ConfigError(
            f'{wanted_by} needs {name}, which the installed {package} does not have; it is older '
            'than that of ROS 2 Jazzy, so choose another value'
        ) from error
