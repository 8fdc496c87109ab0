"""How /act is described in the OpenAPI document."""

from __future__ import annotations

from typing import Any

DESCRIPTION = """An OpenVLA policy: image and instruction in, action out.

POST /act takes four dialects, told apart by content. The openpi protocol (a websocket at /) is not
part of OpenAPI. Send the server's token, where it has one, as `Authorization: Bearer TOKEN`. With
`X-Client-Id: NAME` a newer request takes the place of an older one of that name that still waits,
which is answered 409. Errors are `{"error": reason}`.
"""

_TEXT = {'type': 'string'}
_KEY = {'type': 'string', 'nullable': True, 'description': 'Data set; see /metadata.'}
_INSTRUCTION = {
    'type': 'string',
    'description': 'A sentence; a text that begins as a full prompt does is read as it stands.',
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
    'A JPEG or PNG file in base64; answered by every field of the prediction.',
    ['image', 'instruction'],
    image={'type': 'string', 'format': 'byte'},
    instruction=_INSTRUCTION,
    unnorm_key=_KEY,
)
_ORIGINAL = _object(
    'original',
    'tensorrt-openvla: image is a string of JSON; answered by a JSON string of {action, '
    'generated}.',
    ['image', 'instruction'],
    image={'type': 'string', 'description': 'json_numpy.dumps(array)'},
    instruction=_INSTRUCTION,
    unnorm_key=_KEY,
    return_ids={'type': 'boolean', 'default': False},
)
_OPENVLA = _object(
    'openvla',
    'openvla\'s deploy.py; answered by the action as json_numpy. {"encoded": "<JSON>"} too.',
    ['image', 'instruction'],
    image=_ARRAY,
    instruction=_INSTRUCTION,
    unnorm_key=_KEY,
)
_OFT = _object(
    'oft',
    "openvla-oft's deploy.py; further cameras and the state are not used. Answered by a list of "
    'one action as json_numpy. {"encoded": "<JSON>"} too.',
    ['full_image', 'instruction'],
    full_image=_ARRAY,
    instruction=_INSTRUCTION,
)
_FORM = _object(
    'multipart',
    'curl -F image=@FILE -F instruction=TEXT; answered as modern is.',
    ['image', 'instruction'],
    image={'type': 'string', 'format': 'binary'},
    instruction=_INSTRUCTION,
    unnorm_key=_TEXT,
)
_NUMBERS = {'type': 'array', 'items': {'type': 'number'}}
_PREDICTION = _object(
    'prediction',
    'The answer in the modern dialect.',
    ['action'],
    action={**_NUMBERS, 'description': 'm, m, m, rad, rad, rad, gripper'},
    normalised_action=_NUMBERS,
    action_ids={'type': 'array', 'items': {'type': 'integer'}},
    generated_ids={'type': 'array', 'items': {'type': 'integer'}},
    reasoning=_TEXT,
    reasoning_fields={'type': 'object', 'additionalProperties': _TEXT},
    prompt=_TEXT,
    unnorm_key=_TEXT,
    out_of_range={'type': 'integer', 'description': '0 for a healthy model'},
    timings={'type': 'object', 'additionalProperties': {'type': 'number'}, 'description': '[s]'},
)
_ERROR = _object('error', 'Why there is no action.', ['error'], error=_TEXT)
_STATUS = {
    400: 'The request cannot be used.',
    401: 'The token is missing or wrong.',
    403: 'The request comes from a page of another site.',
    408: 'The body took too long.',
    409: 'A newer request of the same client took its place.',
    413: 'The body or the image is too large.',
    415: 'Neither JSON nor multipart.',
    500: 'The policy failed; the log says how.',
    502: 'What the model wrote is no action.',
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
