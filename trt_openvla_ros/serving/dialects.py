"""The dialects in which clients ask over HTTP; the content of a request tells its dialect.

original  tensorrt-openvla (rail-berkeley): the image is a string of json_numpy.
openvla   deploy.py of openvla/openvla: the image is json_numpy; the answer is a bare array.
oft       deploy.py of moojink/openvla-oft: 'full_image'; the answer is a list of arrays.
modern    this project: the image is a JPEG or PNG file, in base64 or as a multipart file.

openvla and oft may come doubly encoded, {"encoded": "<JSON text>"}; the answer then is as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import json
from typing import Any

import numpy as np

from trt_openvla_ros.codec import encode_prediction
from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.policy.prompt import MAX_INSTRUCTION
from trt_openvla_ros.serving.arrays import (
    array_of_json,
    bytes_of_base64,
    is_array,
    json_of_array,
    read_json,
)
from trt_openvla_ros.serving.pictures import read_picture, rgb_of_array
from trt_openvla_ros.serving.refusal import Refusal


@dataclass(frozen=True)
class Question:
    """A parsed request.

    Attributes:
        dialect: Name of the dialect, as above.
        image: [H, W, 3] uint8 RGB.
        instruction: Instruction, or a whole prompt.
        unnorm_key: Name of the data set; None lets the server choose.
        write: Function from a prediction to the JSON body of the response.
    """

    dialect: str
    image: np.ndarray
    instruction: str
    unnorm_key: str | None
    write: Callable[[Prediction], bytes]


def read_question(
    body: bytes, max_pixels: int, stopped: Callable[[], bool] = lambda: False
) -> Question:
    """Parse the JSON body of a request; stopped tells whether its client left.

    Raises:
        Refusal: The body is in none of the dialects, or its image or text cannot be used.
    """
    payload = read_json(body)
    if not isinstance(payload, dict):
        raise Refusal(400, f'the body is a JSON {_kind(payload)}; an object is needed')
    double = 'encoded' in payload
    if double:
        if len(payload) > 1 or not isinstance(payload['encoded'], str):
            raise Refusal(400, 'encoded is one string of JSON, with no other key beside it')
        payload = read_json(payload['encoded'])
        if not isinstance(payload, dict):
            raise Refusal(400, f'encoded holds a JSON {_kind(payload)}; an object is needed')
    # Unused arrays too, such as a wrist camera's: a broken one is refused.
    for key, value in payload.items():
        if is_array(value):
            payload[key] = array_of_json(value)
    if 'full_image' in payload:
        return _numpy_question('oft', payload, 'full_image', max_pixels, double)
    image = payload.get('image')
    if not isinstance(image, str):
        return _numpy_question('openvla', payload, 'image', max_pixels, double)
    if double:
        raise Refusal(400, 'doubly encoded requests hold their image as a json_numpy object')
    if image.lstrip().startswith('{'):
        return _original_question(payload, max_pixels)
    picture = read_picture(bytes_of_base64(image, 'image'), max_pixels, stopped)
    return Question('modern', picture, *_texts(payload), write_modern)


def read_form(
    fields: dict[str, str | bytes],
    max_pixels: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Question:
    """Parse a multipart request: a file called image, and texts.

    Raises:
        Refusal: A field is missing or cannot be used.
    """
    image = fields.get('image')
    if not isinstance(image, bytes):
        raise Refusal(400, 'no file called image; use curl -F image=@FILE -F instruction=TEXT')
    picture = read_picture(image, max_pixels, stopped)
    return Question('modern', picture, *_texts(fields), write_modern)


def _numpy_question(
    dialect: str, payload: dict, key: str, max_pixels: int, double: bool
) -> Question:
    image = payload.get(key)
    if not isinstance(image, np.ndarray):
        raise Refusal(
            400,
            f'{key} is {_kind(image) if key in payload else "missing"}; it must be a numpy array '
            'encoded by json_numpy, or (image) a JPEG or PNG file in base64',
        )
    writer = _write_array if dialect == 'openvla' else _write_chunk
    return Question(
        dialect,
        rgb_of_array(image, max_pixels),
        *_texts(payload),
        partial(writer, double=double),
    )


def _original_question(payload: dict, max_pixels: int) -> Question:
    image = read_json(payload['image'])
    if not is_array(image):
        raise Refusal(400, 'image is a string of JSON, but not of an array by json_numpy')
    return_ids = payload.get('return_ids', False)
    if not isinstance(return_ids, bool):
        raise Refusal(400, f'return_ids is {_kind(return_ids)}; true or false is needed')
    return Question(
        'original',
        rgb_of_array(array_of_json(image), max_pixels),
        *_texts(payload),
        partial(_write_original, return_ids=return_ids),
    )


def _texts(payload: dict) -> tuple[str, str | None]:
    """Give instruction and unnorm_key."""
    instruction = payload.get('instruction')
    if not isinstance(instruction, str):
        what = _kind(instruction) if 'instruction' in payload else 'missing'
        raise Refusal(400, f'instruction is {what}; text is needed')
    key = payload.get('unnorm_key')
    if key is not None and not isinstance(key, str):
        raise Refusal(400, f'unnorm_key is {_kind(key)}; text or null is needed')
    check_text('instruction', instruction)
    check_text('unnorm_key', key or '')
    return instruction, key or None


def check_text(name: str, text: str) -> None:
    """Refuse text that is too long or not valid Unicode."""
    if len(text) > MAX_INSTRUCTION:
        raise Refusal(400, f'{name} has {len(text)} characters; {MAX_INSTRUCTION} are allowed')
    # JSON can spell halves of characters, which no tokenizer or terminal can take.
    if any('\ud800' <= character <= '\udfff' for character in text):
        raise Refusal(400, f'{name} is not valid Unicode: {text!a}')


def write_modern(prediction: Prediction) -> bytes:
    """Write every field of a Prediction as plain JSON; numbers survive exactly."""
    return _compact(encode_prediction(prediction))


def _write_array(prediction: Prediction, double: bool) -> bytes:
    return _compact(_maybe_text(json_of_array(prediction.action), double))


def _write_chunk(prediction: Prediction, double: bool) -> bytes:
    """Answer openvla-oft's clients, who take a list of actions."""
    actions = [json_of_array(action) for action in prediction.actions]
    return _compact(_maybe_text(actions, double))


def _write_original(prediction: Prediction, return_ids: bool) -> bytes:
    """Answer as the original does, with the prompt and the answer of the model, without </s>."""
    transcript = prediction.transcript
    if transcript is None:
        raise Refusal(
            501, 'this server has no tokenizer; ask the server behind it, or in the modern dialect'
        )
    ids = json_of_array(transcript.ids.astype(np.int32))
    generated = ids if return_ids else transcript.text
    action = json_of_array(prediction.action)
    return _compact(json.dumps({'action': action, 'generated': generated}))


def _maybe_text(value: Any, double: bool) -> Any:
    return json.dumps(value) if double else value


def _compact(value: Any) -> bytes:
    # The separators of FastAPI, which the servers of the other dialects use.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(',', ':')).encode()


def _kind(value: Any) -> str:
    names = {dict: 'object', list: 'list', str: 'string', bool: 'boolean', type(None): 'null'}
    return names.get(type(value), 'number')
