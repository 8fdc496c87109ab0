"""A client that asks a server for actions. It needs only numpy and Pillow, not torch."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
import http.client
import io
import json
import os
from pathlib import Path
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit
import uuid

import numpy as np
from PIL import Image

from trt_openvla_ros.codec import decode_prediction
from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.errors import ConfigError, EngineError, InputError, OutputError
from trt_openvla_ros.text_files import read_text

TOKEN_VARIABLE = 'TRT_OPENVLA_TOKEN'
_ERRORS = {
    400: InputError,
    401: ConfigError,
    403: ConfigError,
    413: InputError,
    502: OutputError,
}
_MAX_ANSWER = 8 * 2**20  # [bytes] a server of this package sends no longer answer


class Client:
    """A connection to a server of this package, kept open between requests.

    Use it from one thread at a time. As a context manager it closes itself at the end.
    """

    def __init__(
        self,
        url: str = 'http://127.0.0.1:8000',
        *,
        token: str | None = None,
        timeout: float = 30.0,
        jpeg_quality: int = 95,
    ) -> None:
        """Prepare the connection; the first request opens it.

        Args:
            url: URL of the server: http:// or https://, host, port, and a path if there is one.
            token: Bearer token of the server; None reads TRT_OPENVLA_TOKEN.
            timeout: Longest time for a whole request [s].
            jpeg_quality: JPEG quality from 1 to 100; 0 sends PNG, which is exact.

        Raises:
            ConfigError: An argument cannot be used.
        """
        parts = urlsplit(url)
        if parts.scheme not in ('http', 'https') or not parts.hostname:
            raise ConfigError(f'{url!r} is no URL of a server, such as http://127.0.0.1:8000')
        if parts.query or parts.fragment or '@' in parts.netloc:
            # Not shown, because it may hold a token, and errors and logs show the URL.
            raise ConfigError(
                f'the URL of {parts.hostname} has a user or a query; give the server alone, and '
                f'the token in {TOKEN_VARIABLE} or token_file'
            )
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
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._http.close()

    def metadata(self) -> dict[str, Any]:
        """Ask for the facts of the server: checkpoint, unnorm_keys with ranges, limits, versions.

        Raises:
            PolicyError: One of the errors of `predict`.
        """
        return self._request('GET', '/metadata')

    def predict(
        self, image: np.ndarray, instruction: str, unnorm_key: str | None = None
    ) -> Prediction:
        """Ask for one control step.

        Args:
            image: [H, W, 3] uint8 RGB.
            instruction: Instruction of the user, e.g. 'put the spoon on the towel'.
            unnorm_key: Data set whose statistics are applied; None lets the server choose.

        Raises:
            InputError: The image, instruction or key cannot be used.
            OutputError: The model did not write an action.
            ConfigError: The server refuses the token.
            EngineError: The server did not answer in time, or could not answer.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
            raise InputError('image is not a [height, width, 3] uint8 array')
        payload = {
            'image': base64.b64encode(self.encode(image)).decode(),
            'instruction': instruction,
            'unnorm_key': unnorm_key,
        }
        begun = time.perf_counter()
        answer = self._request('POST', '/act', payload)
        try:
            prediction = decode_prediction(answer)
        except ValueError as error:
            raise EngineError(f'{self.url} gives no prediction: {error}') from error
        # The other timings hold the server's part; the rest of the round trip is the network's.
        round_trip = time.perf_counter() - begun
        return replace(prediction, timings={**prediction.timings, 'round_trip': round_trip})

    def encode(self, image: np.ndarray) -> bytes:
        """Encode an image [H, W, 3] uint8 RGB as the JPEG or PNG file that is sent."""
        file = io.BytesIO()
        picture = Image.fromarray(image)
        if self.jpeg_quality:
            # Colours at full resolution, because robots look for small coloured things.
            picture.save(file, 'JPEG', quality=self.jpeg_quality, subsampling=0)
        else:
            picture.save(file, 'PNG', compress_level=1)
        return file.getvalue()

    def _request(self, method: str, path: str, payload: Mapping | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + self.timeout
        # The server echoes this id, so a wrong answer is noticed. X-Request-Id would not do,
        # because proxies replace it.
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
            # Otherwise the next request would read this one's late answer.
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
            # A server closes idle connections, so try a new one. Asking twice is safe, because
            # a request changes nothing on the server.
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
        self._http.response_class = partial(_Response, deadline=deadline)
        return self._http.getresponse()

    def _receive(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        content = bytearray()
        while True:
            part = response.read1(65536)
            if not part:
                break
            content += part
            if len(content) > _MAX_ANSWER:
                raise http.client.HTTPException(f'the answer is longer than {_MAX_ANSWER} bytes')
        if response.length:
            raise http.client.IncompleteRead(bytes(content), response.length)
        response.close()  # read1 alone leaves it open
        return bytes(content)


class _Response(http.client.HTTPResponse):
    """A response before a deadline; a socket's own timeout begins anew with each byte."""

    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_Timed(raw, sock, deadline))


class _Timed(io.RawIOBase):
    """A socket's file, each of whose reads gets only the time that is left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int | None:
        self._sock.settimeout(_left(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


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


def find_token(file: str, setting: str) -> str | None:
    """Find a server's bearer token: in the environment, else in a file.

    Args:
        file: Path of the file; '' if there is none.
        setting: Name of the setting that holds the path, for messages.

    Returns:
        The token; None if neither has one.

    Raises:
        ConfigError: The file cannot be read.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if token is not None or not file:
        return token
    try:
        return read_text(Path(file).expanduser()).strip()
    except ConfigError as error:
        raise ConfigError(f'{setting}: {error}') from error
