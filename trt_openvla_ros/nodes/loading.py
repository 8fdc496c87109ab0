"""From the parameters of the node to a policy that fits VlaAction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from trt_openvla_ros.client import find_token
from trt_openvla_ros.contracts import BasePolicy, Description, find_statistics
from trt_openvla_ros.engines.registry import LANGUAGE_ENGINES
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.motion import Robot
from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.policy.loading import open_policy
from trt_openvla_ros.policy.remote import RemotePolicy
from trt_openvla_ros.robot.meaning import find_meaning, read_meanings

_REMOTE = 'remote'  # the engine that is a server
_ACTION_DIM = 7  # of VlaAction
# Parameters that must fit the data set.
_OF_ACTIONS = frozenset({'unnorm_key', 'max_translation', 'max_rotation'})


def load_policy(parameters: PolicyParameters) -> BasePolicy:
    """Load the policy that the parameters name.

    Raises:
        PolicyError: The checkpoint or a parameter cannot be used.
    """
    read_meanings(parameters.action_meanings)  # a mistake there need not wait for the model
    engines = (*LANGUAGE_ENGINES, _REMOTE)
    if parameters.engine not in engines:
        raise ConfigError(f'unknown engine {parameters.engine!r}; known: {", ".join(engines)}')
    policy = _open_remote(parameters) if parameters.engine == _REMOTE else open_policy(parameters)
    key = policy.description.unnorm_key
    if reason := why_unfit(policy.description, replace(parameters, unnorm_key=key)):
        policy.close()
        raise ConfigError(reason)
    return policy


def why_unfit(
    description: Description,
    parameters: PolicyParameters,
    changed: Collection[str] = _OF_ACTIONS,
) -> str:
    """Say why a policy cannot act with parameters after some of them changed; '' if it can.

    A new unnorm_key that is empty stands for the only key, as it does when a policy is loaded.
    """
    if not _OF_ACTIONS & set(changed):
        return ''
    keys = list(description.statistics)
    key = parameters.unnorm_key or (keys[0] if len(keys) == 1 else '')
    if 'unnorm_key' not in changed:
        key = key or description.unnorm_key
    try:
        _check_statistics(description, key)
        meaning = find_meaning(read_meanings(parameters.action_meanings), key)
    except ConfigError as error:
        return str(error)
    return Robot.of(parameters).why_unlimited(meaning, key)


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
        camera=parameters,
    )
