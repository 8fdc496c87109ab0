"""A policy that is computed by a server elsewhere, used like one that is computed here."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
from typing import Any

import numpy as np

from trt_openvla_ros.actions import ActionStatistics, find_statistics
from trt_openvla_ros.client import Client, TOKEN_VARIABLE
from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.errors import ConfigError, EngineError
from trt_openvla_ros.images import check_image, decode_image, ImageProcessor
from trt_openvla_ros.prompt import normalise_instruction, refuse_special

_PATIENCE = 10.0  # [s] for the first word of a server, which may wake up for it


class RemotePolicy:
    """What `Policy` is to the node, by a server of this package.

    An answer that comes after the timeout is never seen: its connection was closed.
    """

    def __init__(
        self,
        url: str,
        unnorm_key: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 1.0,
        jpeg_quality: int = 90,
    ) -> None:
        """Ask the server what it serves.

        Args:
            url: Of the server.
            unnorm_key: Data set whose statistics are applied; None takes the server's.
            token: The server's; None reads the environment.
            timeout: Longest time from image to action [s].
            jpeg_quality: 1 to 100; 0 sends PNG.

        Raises:
            ConfigError: The URL, token or key is wrong.
            EngineError: The server does not answer, or is of another kind.
        """
        self._client = Client(
            url, token=token, timeout=max(timeout, _PATIENCE), jpeg_quality=jpeg_quality
        )
        metadata = self._client.metadata()
        self._client.timeout = timeout
        try:
            self._ranges = {k: {'action': v} for k, v in metadata['unnorm_keys'].items()}
            self._special = [str(token) for token in metadata['special_tokens']]
            self._processor = ImageProcessor.from_config(metadata['preprocessor'])
            self.origin = {
                'checkpoint': f'{metadata["checkpoint"]} at {self._client.url}',
                **{key: str(metadata[key]) for key in ('dtype', 'device')},
            }
            default = metadata['unnorm_key']
        except (KeyError, TypeError, AttributeError, ConfigError) as error:
            raise EngineError(
                f'{url} does not say what it serves ({error!r}); is it of the same version?'
            ) from error
        self.set_unnorm_key(unnorm_key or default)

    def statistics(self, unnorm_key: str | None) -> tuple[str, ActionStatistics]:
        """As `Policy.statistics`."""
        return find_statistics(self._ranges, unnorm_key, self._client.url)

    def set_unnorm_key(self, unnorm_key: str | None) -> None:
        """As `Policy.set_unnorm_key`."""
        self._unnorm_key = self.statistics(unnorm_key)[0]

    @property
    def unnorm_key(self) -> str:
        """The data set whose statistics are applied."""
        return self._unnorm_key

    def check_instruction(self, instruction: str) -> None:
        """As `Policy.check_instruction`."""
        refuse_special(instruction, self._special)
        normalise_instruction(instruction)

    def preview(self, image: np.ndarray) -> np.ndarray:
        """As `Policy.preview`: of the image that is sent, with its losses."""
        return self._processor.preview(decode_image(self._client.encode(image)))

    def predict(
        self,
        image: np.ndarray,
        instruction: str,
        *,
        on_reasoning: Callable[[str], None] | None = None,
    ) -> Prediction:
        """As `Policy.predict`; the total time includes the way there and back.

        The server does not stream: on_reasoning is told once, at the end.

        Raises:
            InputError: The image or instruction cannot be used.
            OutputError: What the model wrote is not an action.
            EngineError: No answer came in time, or the server could give none.
        """
        prediction = self._client.predict(check_image(image), instruction, self._unnorm_key)
        key, timings = prediction.unnorm_key, prediction.timings
        if key != self._unnorm_key or len(prediction.action) != len(self.statistics(key)[1].q01):
            raise EngineError(f'{self._client.url} serves another model now; configure again')
        timings['total'] = timings['round_trip']
        for part in ('preprocess', 'vision', 'prefill', 'decode'):
            timings.setdefault(part, 0.0)
        if on_reasoning is not None and prediction.reasoning:
            on_reasoning(prediction.reasoning)
        return prediction

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def open_remote(parameters: dict[str, Any]) -> RemotePolicy:
    """Open what the node's parameters say.

    Raises:
        ConfigError: A parameter cannot be used.
        EngineError: The server does not answer.
    """
    if not parameters['remote_url']:
        raise ConfigError(
            'engine remote needs parameter remote_url, such as http://192.168.1.5:8000'
        )
    token = os.environ.get(TOKEN_VARIABLE)
    if token is None and parameters['remote_token_file']:
        path = Path(parameters['remote_token_file']).expanduser()
        try:
            token = path.read_text(encoding='utf-8').strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'remote_token_file {path} cannot be read: {error}') from error
    return RemotePolicy(
        parameters['remote_url'],
        parameters['unnorm_key'] or None,
        token=token,
        timeout=parameters['remote_timeout'],
        jpeg_quality=parameters['remote_jpeg_quality'],
    )
