"""A policy at a server of this package, used like a local one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trt_openvla_ros.camera_steps import CameraSteps, NO_STEPS
from trt_openvla_ros.client import Client
from trt_openvla_ros.codec import decode_description
from trt_openvla_ros.contracts import Prediction, PreparedImage
from trt_openvla_ros.errors import ConfigError, EngineError, InputError
from trt_openvla_ros.pictures import read_picture
from trt_openvla_ros.policy.camera import CameraSettings
from trt_openvla_ros.policy.images import ImageProcessor, refuse_unused
from trt_openvla_ros.policy.prompt import make_prompt, whole_prompt
from trt_openvla_ros.policy.views import Views
from trt_openvla_ros.safety.gate import admit, MAX_FORCED_TOKENS
from trt_openvla_ros.timings import PARTS

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
        camera: CameraSettings | None = None,
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
            camera: What is done to images. Region, rotation and mirror are done here. The other
                steps are the server's choice, and must be left open or be the same.

        Raises:
            ConfigError: The URL, token or key is wrong, or the server does other steps.
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
            processor = ImageProcessor.from_config(served.preprocessor)
        except (ValueError, ConfigError) as error:
            raise EngineError(
                f'{url} does not describe its policy ({error}); does it run the same version?'
            ) from error
        try:
            here, there = _share(served.camera, camera or CameraSettings())
        except ConfigError as error:
            raise ConfigError(f'{url}: {error}') from error
        self._here, self._there = Views(processor, here), Views(processor, served.camera)
        if there.jpeg_round_trip or here.resize == 'lanczos3':
            self._client.jpeg_quality = 0  # another JPEG would be one too many
        here = replace(
            served,
            checkpoint=f'{served.checkpoint} at {self._client.url}',
            engine='remote',
            camera=there,
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
        """Do what is done here of the steps before the model; the server does the rest."""
        return PreparedImage(self._here.reduce(image)[None])

    def preview(self, image: np.ndarray | PreparedImage) -> np.ndarray:
        """Give the image as the model sees it, after the losses of the JPEG that is sent."""
        prepared = image if isinstance(image, PreparedImage) else self.prepare(image)
        reduced = prepared.views[0]
        sent = read_picture(self._client.encode(reduced), reduced[:, :, 0].size)
        return self._there.preview(sent)

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
        prepared = image if isinstance(image, PreparedImage) else self.prepare(image)
        prediction = self._client.predict(prepared.views[0], instruction, asked)
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


def _share(served: CameraSteps, settings: CameraSettings) -> tuple[CameraSteps, CameraSteps]:
    """Share the steps of pictures between here and the server, so that each is done once.

    Args:
        served: Steps that the server does.
        settings: Settings of this side.

    Returns:
        The steps that are done here, and all steps together.

    Raises:
        ConfigError: The sides do not agree.
    """
    for name, asked in settings.of_checkpoint.items():
        offered = getattr(served, name)
        if asked != offered:
            raise ConfigError(
                f'{name} is {getattr(settings, name)} here, and the server serves with '
                f'{str(offered).lower()}; leave it empty here, or set it at the server'
            )
    own = settings.of_camera
    if own == NO_STEPS:
        camera = served.of_camera
    elif served.of_camera == NO_STEPS:
        camera = own
    else:
        raise ConfigError(
            f'here the steps of the camera are {own}, and those of the server {served.of_camera}; '
            'set them at one of both'
        )
    together = served.with_camera(camera)
    if served.of_camera != NO_STEPS or served.resize != 'lanczos3':
        return own, together
    # A picture of the view's size is small, and the server leaves out what was done to it.
    return replace(together, center_crop=False), together
