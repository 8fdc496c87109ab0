"""The node's parameters to a policy that fits VlaAction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.opening import ModelSettings, open_policy
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.remote import open_remote, RemotePolicy

_ACTION_DIM = 7  # of VlaAction
_REMOTE = (
    'remote_url',
    'remote_token_file',
    'remote_jpeg_quality',
    'remote_timeout',
    'unnorm_key',
)


def load_policy(value: Callable[[str], Any]) -> Policy | RemotePolicy:
    """Load what the parameters say.

    Args:
        value: Name of a parameter to its value.

    Raises:
        PolicyError: The checkpoint or a parameter cannot be used.
    """
    if value('engine') == 'remote':
        policy = open_remote({name: value(name) for name in _REMOTE})
    else:
        policy = open_policy(
            ModelSettings(**{f.name: value(f.name) for f in fields(ModelSettings)})
        )
    check_statistics(policy, policy.unnorm_key)
    return policy


def check_statistics(policy: Policy | RemotePolicy, unnorm_key: str | None) -> None:
    """Refuse statistics whose actions a VlaAction cannot hold.

    Raises:
        ConfigError: The key is unknown, its actions have another length, or its gripper is not
            an opening from 0 to 1.
    """
    key, statistics = policy.statistics(unnorm_key)
    if len(statistics.q01) != _ACTION_DIM:
        raise ConfigError(
            f'actions of {key!r} have {len(statistics.q01)} dimensions; VlaAction has '
            f'{_ACTION_DIM}'
        )
    low, high = statistics.q01[VlaAction.GRIPPER], statistics.q99[VlaAction.GRIPPER]
    if statistics.mask[VlaAction.GRIPPER] and not np.allclose((low, high), (0, 1), atol=0.05):
        raise ConfigError(
            f'the gripper of {key!r} runs from {low} to {high}; an opening from 0 to 1 is needed, '
            'or statistics whose mask leaves it out'
        )


def why_unfit(policy: Policy | RemotePolicy, unnorm_key: str) -> str:
    """Say why statistics cannot be used with a policy; '' where they can."""
    try:
        check_statistics(policy, unnorm_key or None)
    except ConfigError as error:
        return str(error)
    return ''
