"""Predictions and descriptions as plain JSON values, and back: the one codec of every wire.

The server writes with it and takes its OpenAPI schema from it; `Client` and `RemotePolicy` read
with it. Numbers survive exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.contracts import ActionStatistics, Description, Prediction
from trt_openvla_ros.errors import ConfigError

_STRING = {'type': 'string'}
_NUMBERS = {'type': 'array', 'items': {'type': 'number'}}
_INTEGERS = {'type': 'array', 'items': {'type': 'integer'}}
_ROWS = {'type': 'array', 'items': _NUMBERS}


@dataclass(frozen=True)
class _Field:
    """One key of a prediction.

    Attributes:
        schema: OpenAPI schema of the value.
        write: Function from a Prediction to the JSON value.
        read: Function from the JSON value to the Prediction's field.
    """

    schema: Mapping[str, Any]
    write: Callable[[Prediction], Any]
    read: Callable[[Any], Any]


def _by_name(read: Callable[[Any], Any], value: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): read(entry) for name, entry in value.items()}


def _array(kinds: str, dtype: type, value: Any) -> np.ndarray:
    """Make an array of JSON numbers; numpy alone would read texts, truth values and null too.

    Raises:
        TypeError: A value is of none of numpy's kinds.
        ValueError: The rows have different lengths.
    """
    array = np.asarray(value)
    if not isinstance(value, list) or (array.size and array.dtype.kind not in kinds):
        raise TypeError(f'{value!r:.60} is no list of {np.dtype(dtype).name}')
    return array.astype(dtype)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f'{value!r:.60} is no whole number')
    return value


def _steps(value: Any) -> int:
    if _whole(value) < 1:
        raise ValueError(f'horizon is {value}; at least 1 is needed')
    return value


_floats = partial(_array, 'iuf', np.float64)
_ids = partial(_array, 'iu', np.int64)
_PREDICTION: dict[str, _Field] = {
    'action': _Field(
        {
            **_NUMBERS,
            'description': "x, y, z, rotation (3), gripper, in the data set's units",
        },
        lambda p: p.action.tolist(),
        _floats,
    ),
    'normalised_action': _Field(_NUMBERS, lambda p: p.normalised_action.tolist(), _floats),
    'action_ids': _Field(_INTEGERS, lambda p: p.action_ids.tolist(), _ids),
    'generated_ids': _Field(_INTEGERS, lambda p: p.generated_ids.tolist(), _ids),
    'reasoning': _Field(_STRING, lambda p: p.reasoning, str),
    'reasoning_fields': _Field(
        {'type': 'object', 'additionalProperties': _STRING},
        lambda p: p.reasoning_fields,
        partial(_by_name, str),
    ),
    'prompt': _Field(_STRING, lambda p: p.prompt, str),
    'unnorm_key': _Field(_STRING, lambda p: p.unnorm_key, str),
    'out_of_range': _Field(
        {'type': 'integer', 'description': '0 for a healthy model'},
        lambda p: p.out_of_range,
        _whole,
    ),
    'timings': _Field(
        {'type': 'object', 'additionalProperties': {'type': 'number'}, 'description': '[s]'},
        lambda p: p.timings,
        partial(_by_name, float),
    ),
}
# Older servers do not send it.
_PASSES: dict[str, _Field] = {
    'passes': _Field(
        {'type': 'integer', 'description': 'runs of the language model; 0 if not known'},
        lambda p: p.passes,
        _whole,
    ),
}
# Only in predictions of several steps; the keys above then hold the first step.
_CHUNK: dict[str, _Field] = {
    'actions': _Field(_ROWS, lambda p: p.actions.tolist(), _floats),
    'normalised_actions': _Field(_ROWS, lambda p: p.normalised_actions.tolist(), _floats),
}


def encode_prediction(prediction: Prediction) -> dict[str, Any]:
    """Write every field that crosses a wire."""
    fields = {**_PREDICTION, **_PASSES, **(_CHUNK if len(prediction.actions) > 1 else {})}
    return {name: one.write(prediction) for name, one in fields.items()}


def decode_prediction(data: Mapping[str, Any]) -> Prediction:
    """Read what encode_prediction wrote.

    Raises:
        ValueError: A field is missing, of another type or shape, or an action is not finite.
    """
    try:
        values = {name: one.read(data[name]) for name, one in _PREDICTION.items()}
        action, normalised = values.pop('action'), values.pop('normalised_action')
        chunk = {name: one.read(data[name]) for name, one in _CHUNK.items() if name in data}
        values |= {name: one.read(data[name]) for name, one in _PASSES.items() if name in data}
        prediction = Prediction(
            actions=chunk.get('actions', action[None]),
            normalised_actions=chunk.get('normalised_actions', normalised[None]),
            **values,
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(repr(error)) from error
    actions = prediction.actions
    if actions.ndim != 2 or prediction.normalised_actions.shape != actions.shape:
        raise ValueError(f'an action has shape {action.shape}')
    if not (np.isfinite(actions).all() and np.isfinite(prediction.normalised_actions).all()):
        raise ValueError('an action is not finite')
    return prediction


def prediction_schema() -> dict[str, Any]:
    """Describe the keys that encode_prediction writes, as properties of an OpenAPI object."""
    return {name: dict(one.schema) for name, one in {**_PREDICTION, **_PASSES, **_CHUNK}.items()}


def encode_description(description: Description) -> dict[str, Any]:
    """Write a description; `unnorm_keys` holds the statistics."""
    values = {**vars(description)}
    values['unnorm_keys'] = {
        key: {
            'q01': one.q01.tolist(),
            'q99': one.q99.tolist(),
            'mask': one.mask.tolist(),
            'text': one.describe(),
        }
        for key, one in values.pop('statistics').items()
    }
    values['special_tokens'] = list(description.special_tokens)
    values['vision_towers'] = list(description.vision_towers)
    values['preprocessor'] = dict(description.preprocessor)
    values['camera'] = description.camera.to_json()
    return values


def decode_description(data: Mapping[str, Any]) -> Description:
    """Read what encode_description wrote; further keys are ignored.

    Raises:
        ValueError: A key is missing, or its value is of another type.
    """
    try:
        texts = ('checkpoint', 'engine', 'dtype', 'device', 'unnorm_key', 'prompt')
        return Description(
            **{name: str(data[name]) for name in (*texts, 'llm_backbone')},
            prompt_style=str(data['prompt_style']),
            horizon=_steps(data['horizon']),
            statistics={
                key: _decode_statistics(key, one) for key, one in data['unnorm_keys'].items()
            },
            reasons=bool(data['reasons']),
            special_tokens=tuple(map(str, data['special_tokens'])),
            vision_towers=tuple(map(str, data['vision_towers'])),
            image_tokens=int(data['image_tokens']),
            preprocessor=dict(data['preprocessor']),
            camera=CameraSteps.from_json(data.get('camera', {})),  # older servers do no steps
        )
    except (KeyError, TypeError, AttributeError, OverflowError, ConfigError) as error:
        raise ValueError(repr(error)) from error


def _decode_statistics(key: str, data: Mapping[str, Any]) -> ActionStatistics:
    try:
        mask = _array('b', bool, data['mask'])
        return ActionStatistics(_floats(data['q01']), _floats(data['q99']), mask)
    except (ConfigError, TypeError, ValueError) as error:
        raise ValueError(f'unnorm_key {key!r}: {error}') from error
