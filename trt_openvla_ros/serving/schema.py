"""The description of /act in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from trt_openvla_ros.codec import prediction_schema

DESCRIPTION = """An OpenVLA policy: image and instruction in, action out.

POST /act takes four dialects, told apart by content. The openpi protocol (a websocket at /) is not
part of OpenAPI. If the server has a token, send it as `Authorization: Bearer TOKEN`. With
`X-Client-Id: NAME` a newer request replaces an older one of that name that still waits; the older
one gets 409. Errors are `{"error": reason}`.
"""

_TEXT = {'type': 'string'}
_KEY = {'type': 'string', 'nullable': True, 'description': 'Data set; see /metadata.'}
_INSTRUCTION = {
    'type': 'string',
    'description': 'Instruction. A text that begins like a whole prompt is read unchanged.',
    'example': 'pick up the red block',
}
_ARRAY = {
    'type': 'object',
    'description': 'A numpy array as json_numpy writes it.',
    'required': ['__numpy__', 'dtype', 'shape'],
    'properties': {
        '__numpy__': {'type': 'string', 'format': 'byte', 'description': 'base64, C order'},
        'dtype': {'type': 'string', 'example': '|u1'},
        'shape': {'type': 'array', 'items': {'type': 'integer'}, 'example': [224, 224, 3]},
    },
}


def _object(title: str, description: str, required: list[str], **properties: Any) -> dict:
    return {
        'title': title,
        'description': description,
        'type': 'object',
        'required': required,
        'properties': properties,
    }


_MODERN = _object(
    'modern',
    'A JPEG or PNG file in base64; the answer has every field of the prediction.',
    ['image', 'instruction'],
    image={'type': 'string', 'format': 'byte'},
    instruction=_INSTRUCTION,
    unnorm_key=_KEY,
)
_ORIGINAL = _object(
    'original',
    'tensorrt-openvla: image is a string of JSON; the answer is a JSON string of {action, '
    'generated}.',
    ['image', 'instruction'],
    image={'type': 'string', 'description': 'json_numpy.dumps(array)'},
    instruction=_INSTRUCTION,
    unnorm_key=_KEY,
    return_ids={'type': 'boolean', 'default': False},
)
_OPENVLA = _object(
    'openvla',
    'openvla\'s deploy.py; the answer is the action as json_numpy. {"encoded": "<JSON>"} too.',
    ['image', 'instruction'],
    image=_ARRAY,
    instruction=_INSTRUCTION,
    unnorm_key=_KEY,
)
_OFT = _object(
    'oft',
    "openvla-oft's deploy.py; further cameras and the state are not used. The answer is a list of "
    'actions as json_numpy. {"encoded": "<JSON>"} too.',
    ['full_image', 'instruction'],
    full_image=_ARRAY,
    instruction=_INSTRUCTION,
)
_FORM = _object(
    'multipart',
    'curl -F image=@FILE -F instruction=TEXT; the answer is that of modern.',
    ['image', 'instruction'],
    image={'type': 'string', 'format': 'binary'},
    instruction=_INSTRUCTION,
    unnorm_key=_TEXT,
)
_PREDICTION = _object(
    'prediction', 'The answer in the modern dialect.', ['action'], **prediction_schema()
)
_ERROR = _object('error', 'Reason why there is no action.', ['error'], error=_TEXT)
_STATUS = {
    400: 'The request cannot be used.',
    401: 'The token is missing or wrong.',
    403: 'The request comes from a page of another site.',
    408: 'The body took too long.',
    409: 'A newer request of the same client took its place.',
    413: 'The body or the image is too large.',
    415: 'The body is neither JSON nor multipart, or it is compressed.',
    500: 'The policy failed; the log says why.',
    501: 'The dialect needs a tokenizer, which this server does not have.',
    502: 'The model did not write an action.',
    503: 'All places are taken, or the policy is busy; Retry-After says for how long.',
    504: 'The policy took too long.',
}

# Arguments of the route.
ACT: dict[str, Any] = {
    'openapi_extra': {
        'requestBody': {
            'required': True,
            'content': {
                'application/json': {'schema': {'anyOf': [_MODERN, _ORIGINAL, _OPENVLA, _OFT]}},
                'multipart/form-data': {'schema': _FORM},
            },
        }
    },
    'responses': {
        200: {
            'description': 'The action.',
            'content': {'application/json': {'schema': _PREDICTION}},
        },
        **{
            status: {'description': text, 'content': {'application/json': {'schema': _ERROR}}}
            for status, text in _STATUS.items()
        },
    },
}
