"""From the parameters of the node to a policy that fits VlaAction."""

from __future__ import annotations

import numpy as np

from trt_openvla_ros.client import find_token
from trt_openvla_ros.contracts import BasePolicy, Description, find_statistics
from trt_openvla_ros.engines.registry import LANGUAGE_ENGINES
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.policy.loading import open_policy
from trt_openvla_ros.policy.remote import RemotePolicy

_REMOTE = 'remote'  # the engine that is a server
_ACTION_DIM = 7  # of VlaAction


def load_policy(parameters: PolicyParameters) -> BasePolicy:
    """Load the policy that the parameters name.

    Raises:
        PolicyError: The checkpoint or a parameter cannot be used.
    """
    engines = (*LANGUAGE_ENGINES, _REMOTE)
    if parameters.engine not in engines:
        raise ConfigError(f'unknown engine {parameters.engine!r}; known: {", ".join(engines)}')
    policy = _open_remote(parameters) if parameters.engine == _REMOTE else open_policy(parameters)
    try:
        _check_statistics(policy.description, policy.description.unnorm_key)
    except ConfigError:
        policy.close()
        raise
    return policy


def why_unfit(description: Description, unnorm_key: str) -> str:
    """Say why the parameter unnorm_key cannot have a value; '' if it can.

    An empty value stands for the only key, as it does when a policy is loaded.
    """
    keys = list(description.statistics)
    try:
        _check_statistics(description, unnorm_key or (keys[0] if len(keys) == 1 else ''))
    except ConfigError as error:
        return str(error)
    return ''


def _check_statistics(description: Description, unnorm_key: str) -> None:
    """Refuse statistics whose actions a VlaAction cannot hold.

    Raises:
        ConfigError: The key is unknown, its actions have another length, or its gripper is not
            an opening from 0 to 1.
    """
    key, statistics = find_statistics(description.statistics, unnorm_key, description.checkpoint)
    if statistics.action_dim != _ACTION_DIM:
        raise ConfigError(
            f'actions of {key!r} have {statistics.action_dim} dimensions; VlaAction has '
            f'{_ACTION_DIM}'
        )
    low, high = statistics.q01[VlaAction.GRIPPER], statistics.q99[VlaAction.GRIPPER]
    if statistics.mask[VlaAction.GRIPPER] and not np.allclose((low, high), (0, 1), atol=0.05):
        raise ConfigError(
            f'the gripper of {key!r} runs from {low} to {high}; an opening from 0 to 1 is needed, '
            'or statistics whose mask leaves the gripper out'
        )


def _open_remote(parameters: PolicyParameters) -> RemotePolicy:
    if not parameters.remote_url:
        raise ConfigError(
            'engine remote needs parameter remote_url, such as http://192.168.1.5:8000'
        )
    return RemotePolicy(
        parameters.remote_url,
        parameters.unnorm_key or None,
        token=find_token(parameters.remote_token_file, 'remote_token_file'),
        timeout=parameters.remote_timeout,
        jpeg_quality=parameters.remote_jpeg_quality,
        max_forced_tokens=parameters.max_forced_tokens,
    )
