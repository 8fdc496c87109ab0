"""Ask a server for actions: without torch, and with nothing but numpy and Pillow."""

from __future__ import annotations

import base64
from collections.abc import Mapping
import http.client
import io
import json
import os
import ssl
import time
from typing import Any
from urllib.parse import urlsplit
import uuid

import numpy as np
from PIL import Image

from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.errors import ConfigError, EngineError, InputError, OutputError

TOKEN_VARIABLE = 'TRT_OPENVLA_TOKEN'
_ARRAYS = {
    'action': np.float64,
    'normalised_action': np.float64,
    'action_ids': np.int64,
    'generated_ids': np.int64,
}
_ERRORS = {
    400: InputError,
    401: ConfigError,
    403: ConfigError,
    413: InputError,
    502: OutputError,
}
_MAX_ANSWER = 8 * 2**20  # bytes; what is longer is no answer of such a server


class Client:
    """A connection to a server of this package, kept open between requests.

    Not for two threads at once. As a context manager it is closed at the end.
    """

    def __init__(
        self,
        url: str = 'http://127.0.0.1:8000',
        *,
        token: str | None = None,
        timeout: float = 30.0,
        jpeg_quality: int = 95,
    ) -> None:
        """Prepare; the first request connects.

        Args:
            url: http:// or https://, host, port, and a path that the server stands behind.
            token: The server's; None reads TRT_OPENVLA_TOKEN.
            timeout: Longest time for a request, all in all [s].
            jpeg_quality: 1 to 100; 0 sends PNG, which is exact.

        Raises:
            ConfigError: An argument cannot be used.
        """
        parts = urlsplit(url)
        if parts.scheme not in ('http', 'https') or not parts.hostname:
            raise ConfigError(f'{url!r} is no URL of a server, such as http://127.0.0.1:8000')
        if not 0 <= jpeg_quality <= 100:
            raise ConfigError(f'jpeg_quality is {jpeg_quality}; 0 to 100 is needed')
        self.url, self.timeout, self.jpeg_quality = url.rstrip('/'), timeout, jpeg_quality
        self._path = parts.path.rstrip('/')
        self._name = uuid.uuid4().hex
        token = os.environ.get(TOKEN_VARIABLE) if token is None else token
        self._headers = {'X-Client-Id': self._name, 'Accept': 'application/json'}
        if token:
            self._headers['Authorization'] = f'Bearer {token}'
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigError(f'{url!r}: {error}') from error
        if parts.scheme == 'https':
            self._http = http.client.HTTPSConnection(
                parts.hostname, port, timeout=timeout, context=ssl.create_default_context()
            )
        else:
            self._http = http.client.HTTPConnection(parts.hostname, port, timeout=timeout)

    def __enter__(self) -> Client:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connection; a further request opens another."""
        self._http.close()

    def metadata(self) -> dict[str, Any]:
        """Ask what is served: checkpoint, unnorm_keys with their ranges, limits, versions.

        Raises:
            PolicyError: As of `predict`.
        """
        return self._request('GET', '/metadata')

    def predict(
        self, image: np.ndarray, instruction: str, unnorm_key: str | None = None
    ) -> Prediction:
        """Ask for one control step.

        Args:
            image: [H, W, 3] uint8 RGB.
            instruction: What the user says, e.g. 'put the spoon on the towel'.
            unnorm_key: Data set whose statistics are applied; None leaves it to the server.

        Raises:
            InputError: The image, instruction or key cannot be used.
            OutputError: What the model wrote is not an action.
            ConfigError: The server wants another token.
            EngineError: No answer came in time, or none could be given.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
            raise InputError('image is no [height, width, 3] uint8 array')
        payload = {
            'image': base64.b64encode(self.encode(image)).decode(),
            'instruction': instruction,
            'unnorm_key': unnorm_key,
        }
        begun = time.perf_counter()
        answer = self._request('POST', '/act', payload)
        prediction = _prediction_of(answer, self.url)
        # The server's part is in the other timings; all the rest is the way.
        prediction.timings['round_trip'] = time.perf_counter() - begun
        return prediction

    def encode(self, image: np.ndarray) -> bytes:
        """Give the file, JPEG or PNG, as which an image [H, W, 3] uint8 RGB is sent."""
        file = io.BytesIO()
        picture = Image.fromarray(image)
        if self.jpeg_quality:
            # Colours at full resolution: small coloured things are what robots look for.
            picture.save(file, 'JPEG', quality=self.jpeg_quality, subsampling=0)
        else:
            picture.save(file, 'PNG', compress_level=1)
        return file.getvalue()

    def _request(self, method: str, path: str, payload: Mapping | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + self.timeout
        # Echoed, so that an answer can never be taken for that to another question. Not
        # X-Request-Id, which proxies replace.
        number = uuid.uuid4().hex
        headers = {**self._headers, 'X-Question-Id': number}
        body = None
        if payload is not None:
            body = json.dumps(payload).encode()
            headers['Content-Type'] = 'application/json'
        try:
            response = self._send(method, self._path + path, body, headers, deadline)
            content = self._receive(response, deadline)
        except (OSError, http.client.HTTPException) as error:
            # Or a late answer would be read as that to the next question.
            self.close()
            late = isinstance(error, TimeoutError) or time.monotonic() >= deadline
            why = f'no answer within {self.timeout:g} s' if late else str(error) or repr(error)
            raise EngineError(f'{self.url}: {why}') from error
        if response.will_close:
            self.close()
        if response.getheader('X-Question-Id', number) != number:
            self.close()
            raise EngineError(f'{self.url}: the answer is to another question')
        if response.status != 200:
            raise _error_of(response, content, self.url)
        return _object_of(content, self.url)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: dict, deadline: float
    ) -> http.client.HTTPResponse:
        fresh = self._http.sock is None
        try:
            return self._exchange(method, path, body, headers, deadline)
        except (ConnectionError, http.client.BadStatusLine):
            # A server closes connections that were idle; then a new one does. Asking twice is
            # safe: an answer changes nothing on the server.
            self.close()
            if fresh or time.monotonic() >= deadline:
                raise
            return self._exchange(method, path, body, headers, deadline)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict, deadline: float
    ) -> http.client.HTTPResponse:
        self._http.timeout = _left(deadline)
        if self._http.sock is None:
            self._http.connect()
        self._http.sock.settimeout(_left(deadline))
        self._http.request(method, path, body, headers)
        self._http.sock.settimeout(_left(deadline))
        return self._http.getresponse()

    def _receive(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        content = bytearray()
        while True:
            # Each part has the time that is left, or drops of an answer would make it endless.
            if self._http.sock is not None:
                self._http.sock.settimeout(_left(deadline))
            part = response.read1(65536)
            if not part:
                break
            content += part
            if len(content) > _MAX_ANSWER:
                raise http.client.HTTPException('the answer does not end')
        if response.length:
            raise http.client.IncompleteRead(bytes(content), response.length)
        response.close()  # read1 alone leaves it open
        return bytes(content)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _object_of(content: bytes, url: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise EngineError(f'{url} answers {content[:60]!r}; is it a server of trt_openvla_ros?')
    return value


def _error_of(response: http.client.HTTPResponse, content: bytes, url: str) -> Exception:
    try:
        reason = str(json.loads(content)['error'])
    except (ValueError, KeyError, TypeError):
        reason = f'{response.reason}, {content[:60]!r}'
    text = f'{url}: {response.status}: {reason}'
    return _ERRORS.get(response.status, EngineError)(text)


def _prediction_of(answer: dict[str, Any], url: str) -> Prediction:
    try:
        arrays = {name: np.asarray(answer[name], dtype) for name, dtype in _ARRAYS.items()}
        action = arrays['action']
        if action.ndim != 1 or arrays['normalised_action'].shape != action.shape:
            raise ValueError(f'an action of shape {action.shape}')
        if not np.isfinite(action).all():
            raise ValueError('an action that is not finite')
        return Prediction(
            **arrays,
            reasoning=str(answer['reasoning']),
            prompt=str(answer['prompt']),
            unnorm_key=str(answer['unnorm_key']),
            reasoning_fields={str(k): str(v) for k, v in answer['reasoning_fields'].items()},
            out_of_range=int(answer['out_of_range']),
            timings={str(k): float(v) for k, v in answer['timings'].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise EngineError(f'{url} gives no prediction: {error!r}') from error
