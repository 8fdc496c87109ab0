"""What moves places between a camera's picture and a model's view, as text from node to node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import json
from typing import Any

import numpy as np

from trt_openvla_ros.camera_steps import CameraSteps, NO_STEPS
from trt_openvla_ros.checkpoints.preprocessor import geometries, Geometry, read_preprocessor
from trt_openvla_ros.contracts import Description
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.policy.view_map import map_of

_SIDE = (224, 224)  # [px]; any square does as well where the picture is stretched
_LARGEST = 4096  # [px]


@dataclass(frozen=True)
class SeenView:
    """The view of a model's first tower, without its pixels.

    Attributes:
        steps: Steps of the policy.
        letterbox: Whether the checkpoint's processor pads a picture to a square first.
        size, crop: Sizes of that processor, as in Geometry [px].
    """

    steps: CameraSteps = NO_STEPS
    letterbox: bool = False
    size: tuple[int, int] | int = _SIDE
    crop: tuple[int, int] = _SIDE

    @classmethod
    def of(cls, description: Description) -> SeenView:
        """Take it from the description of a policy."""
        branches, fill = read_preprocessor(description.preprocessor)
        geometry = geometries(branches)[0]
        return cls(description.camera, fill is not None, geometry.size, geometry.crop)

    def to_text(self) -> str:
        """Write it as JSON."""
        return json.dumps({**vars(self), 'steps': self.steps.to_json()})

    @classmethod
    def from_text(cls, text: str) -> SeenView:
        """Read what to_text wrote.

        Raises:
            InputError: The text is something else.
        """
        try:
            data = json.loads(text)
            size, letterbox = data['size'], data['letterbox']
            if not isinstance(letterbox, bool):
                raise TypeError('letterbox is no truth value')
            size = _sides(size) if isinstance(size, list) else _side(size)
            steps = CameraSteps.from_json(data['steps'])
            return cls(steps, letterbox, size, _sides(data['crop']))
        except (ConfigError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f'{text!r:.80} does not describe a view ({error})') from error

    def to_camera(self, places: np.ndarray, camera_size: tuple[int, int]) -> np.ndarray:
        """Give places of the view in pixels of the camera's picture, float64.

        Args:
            places: [..., 2] x and y in sizes of the view: 0 and 1 are its outer edges.
            camera_size: (height, width) of the picture [px].

        Raises:
            InputError: The region is outside such a picture (ImageError).
        """
        geometry = Geometry(self.size, self.crop, 0)
        known = map_of(self.steps, geometry, self.letterbox, camera_size)
        return known.to_camera(np.asarray(places, float) * self.crop[::-1] - 0.5)

    def boxes_to_camera(
        self, named: Sequence[tuple[str, np.ndarray]], camera_size: tuple[int, int]
    ) -> list[tuple[str, np.ndarray]]:
        """Give named boxes, [4] left, top, right, bottom, like places."""
        found = []
        for name, corners in named:
            ends = self.to_camera(np.reshape(corners, (2, 2)), camera_size)
            # A turned or mirrored picture has other corners first.
            found.append((name, np.concatenate([ends.min(0), ends.max(0)])))
        return found


def _side(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise ValueError(f'a side is {value!r:.20}')
    return value


def _sides(values: Any) -> tuple[int, int]:
    height, width = values
    return _side(height), _side(width)
