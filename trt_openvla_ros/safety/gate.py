"""The gate that every prediction passes before it is published, sent or returned.

H: steps of one prediction, D: dimensions of an action.
"""

from __future__ import annotations

import numpy as np

from trt_openvla_ros.contracts import Description, Prediction
from trt_openvla_ros.errors import OutputError

# Decision 2 has the measurement.
MAX_FORCED_TOKENS = 0
# Of a limit's size: a server may round to float32, which keeps seven digits.
_TOLERANCE = 1e-6


def admit(
    prediction: Prediction,
    description: Description,
    max_forced_tokens: int = MAX_FORCED_TOKENS,
) -> Prediction:
    """Return a prediction unchanged if it may become motion.

    Args:
        prediction: Answer of a policy, of any kind.
        description: What the policy announced: horizon, and ranges by unnorm_key.
        max_forced_tokens: Most action tokens that only the constraint made action tokens. An
            action of such tokens alone never passes.

    Raises:
        OutputError: The actions have another shape or dtype, are not finite, or lie outside the
            announced ranges, or too many tokens were forced.
    """
    key = prediction.unnorm_key
    if not isinstance(key, str) or key not in description.statistics:
        raise OutputError(
            f'the answer has unnorm_key {key!r:.80}, which the policy never announced; load the '
            'policy again'
        )
    statistics = description.statistics[key]
    shape = (description.horizon, statistics.action_dim)
    one = np.ones(statistics.action_dim)
    for name, values, low, high in (
        ('normalised action', prediction.normalised_actions, -one, one),
        ('action', prediction.actions, *statistics.limits),
    ):
        _check_array(name, values, shape)
        _check_range(f'the {name} for {key!r}', values, low, high)
    _check_forced(prediction, description.prompt_style, max_forced_tokens)
    return prediction


def admit_command(command: np.ndarray) -> np.ndarray:
    """Return [D] float64, what a controller will get, unchanged if it is finite.

    Raises:
        OutputError: A value is not finite.
    """
    if not np.isfinite(command).all():
        raise OutputError(
            f'the limited action is {command.tolist()}; check max_translation, max_rotation, '
            'gripper_closed and gripper_open'
        )
    return command


def _check_array(name: str, values: np.ndarray, shape: tuple[int, int]) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.shape != shape:
        found = (
            f'an array {list(values.shape)} of {values.dtype}'
            if isinstance(values, np.ndarray)
            else f'a {type(values).__name__}'
        )
        raise OutputError(f'the {name} is {found}; the policy announced {list(shape)}, as float64')


def _check_range(name: str, values: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    slack = _TOLERANCE * np.maximum(abs(low), abs(high))
    # Written so that NaN fails.
    outside = np.argwhere(~((values >= low - slack) & (values <= high + slack)))
    if len(outside):
        step, axis = outside[0]
        raise OutputError(
            f'{name} is {values[step, axis]} in dimension {axis} of step {step}, outside '
            f'[{low[axis]:.6g}, {high[axis]:.6g}]; weights, dtype or statistics are broken, or '
            'are of two models'
        )


def _check_forced(prediction: Prediction, style: str, most: int) -> None:
    forced, tokens = prediction.out_of_range, prediction.actions.size
    if type(forced) is not int or not 0 <= forced <= tokens:
        raise OutputError(f'out_of_range is {forced!r:.80}; 0 to {tokens} tokens can be')
    if forced > most or forced == tokens:
        rule = f'max_forced_tokens is {most}' if forced < tokens else 'no token was meant'
        raise OutputError(
            f'{forced} of {tokens} action tokens were forced, because the model wrote something '
            f'else there; {rule}. Set prompt_style, now {style!r}, to the one that the model was '
            'trained with'
        )
