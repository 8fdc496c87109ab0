"""A policy at a server of this package, used like a local one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trt_openvla_ros.client import Client
from trt_openvla_ros.codec import decode_description
from trt_openvla_ros.contracts import PARTS, Prediction, PreparedImage
from trt_openvla_ros.errors import ConfigError, EngineError, InputError
from trt_openvla_ros.pictures import read_picture
from trt_openvla_ros.policy.images import (
    check_image,
    ImageProcessor,
    refuse_unused,
)
from trt_openvla_ros.policy.prompt import make_prompt, whole_prompt
from trt_openvla_ros.safety.gate import admit, MAX_FORCED_TOKENS

_PATIENCE = 10.0  # [s] for the first answer of a server, which may have to wake up


class RemotePolicy:
    """A policy at a server. It has the protocol `contracts.BasePolicy`.

    An answer after the timeout is never read, because the connection is closed by then.

    Attributes:
        description: Description of the policy at the server.
    """

    def __init__(
        self,
        url: str,
        unnorm_key: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 1.0,
        jpeg_quality: int = 90,
        max_forced_tokens: int = MAX_FORCED_TOKENS,
    ) -> None:
        """Ask the server for the description of its policy.

        Args:
            url: URL of the server.
            unnorm_key: Data set whose statistics are applied unless a prediction names another;
                None takes the unnorm_key of the server.
            token: Bearer token of the server; None reads TRT_OPENVLA_TOKEN.
            timeout: Longest time from image to action [s].
            jpeg_quality: JPEG quality from 1 to 100; 0 sends PNG.
            max_forced_tokens: Most forced tokens of an action, whatever the server allows.

        Raises:
            ConfigError: The URL, token or key is wrong.
            EngineError: The server does not answer, or is not a server of this package.
        """
        self._max_forced_tokens = max_forced_tokens
        self._client = Client(
            url, token=token, timeout=max(timeout, _PATIENCE), jpeg_quality=jpeg_quality
        )
        metadata = self._client.metadata()
        self._client.timeout = timeout
        try:
            served = decode_description(metadata)
            self._processor = ImageProcessor.from_config(served.preprocessor)
        except (ValueError, ConfigError) as error:
            raise EngineError(
                f'{url} does not describe its policy ({error}); does it run the same version?'
            ) from error
        here = replace(
            served, checkpoint=f'{served.checkpoint} at {self._client.url}', engine='remote'
        )
        self.description = replace(here, unnorm_key=here.find(unnorm_key)[0])

    def check(
        self, instruction: str, unnorm_key: str | None = None, *, verbatim: bool = False
    ) -> None:
        """Raise InputError or ConfigError if an instruction or a key cannot be used."""
        self.description.find(unnorm_key)
        template, special = self.description.prompt, self.description.special_tokens
        make_prompt(instruction, template, special, verbatim)
        if verbatim and whole_prompt(instruction, template) != instruction:
            # Servers recognise prompts by their form.
            raise InputError(
                f'{instruction!r:.300} is not a prompt of a known style; a server would take it '
                'for an instruction'
            )

    def prepare(self, image: np.ndarray) -> np.ndarray | PreparedImage:
        """Check an image; the server does the rest."""
        return check_image(image)

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Give the image as the model sees it, after the losses of the JPEG that is sent."""
        sent = read_picture(self._client.encode(check_image(image)), image[:, :, 0].size)
        return self._processor.preview(sent)

    def predict(
        self,
        image: np.ndarray | PreparedImage,
        instruction: str,
        unnorm_key: str | None = None,
        *,
        wrist_images: Sequence[np.ndarray] = (),
        state: np.ndarray | None = None,
        verbatim: bool = False,
        on_reasoning: Callable[[str], None] | None = None,
    ) -> Prediction:
        """Predict as `BasePolicy.predict` does; the total time includes the network.

        The server does not stream, so on_reasoning is called once, at the end.
        """
        refuse_unused(wrist_images, state)
        self.check(instruction, unnorm_key, verbatim=verbatim)
        asked, statistics = self.description.find(unnorm_key)
        prediction = self._client.predict(check_image(image), instruction, asked)
        if (prediction.unnorm_key, len(prediction.action)) != (asked, statistics.action_dim):
            raise EngineError(f'{self._client.url} serves another model now; configure again')
        admit(prediction, self.description, self._max_forced_tokens)
        if on_reasoning is not None and prediction.reasoning:
            on_reasoning(prediction.reasoning)
        timings = {**dict.fromkeys(PARTS, 0.0), **prediction.timings}
        return replace(prediction, timings={**timings, 'total': timings['round_trip']})

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
