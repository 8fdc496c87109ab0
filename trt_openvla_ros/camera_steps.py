"""What is done to a picture of the camera before the checkpoint's own processor sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from trt_openvla_ros.errors import ConfigError

ROTATIONS = (0, 90, 180, 270)
MIRRORS = ('none', 'horizontal', 'vertical')
RESIZES = ('processor', 'lanczos3')
WHOLE = (0, 0, 0, 0)


@dataclass(frozen=True)
class CameraSteps:
    """The steps from a camera's picture to the model's view, in the order in which they are done.

    The first three belong to the camera, the others to the checkpoint.

    Attributes:
        region: Left edge, upper edge, width and height [px] of the part that is used; WHOLE for
            all of it.
        rotation: Turn of the picture [deg], clockwise: 0, 90, 180 or 270.
        mirror: 'horizontal' swaps left and right, 'vertical' top and bottom; or 'none'.
        jpeg_round_trip: Whether the picture is written as JPEG and read again, as TensorFlow does.
        resize: 'processor' leaves it to the checkpoint's processor; 'lanczos3' is TensorFlow's.
        center_crop: Whether the middle 0.9 of the area is enlarged to the whole view.
    """

    region: tuple[int, int, int, int] = WHOLE
    rotation: int = 0
    mirror: str = 'none'
    jpeg_round_trip: bool = False
    resize: str = 'processor'
    center_crop: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for a value that is none."""
        for name, choices in (('rotation', ROTATIONS), ('mirror', MIRRORS), ('resize', RESIZES)):
            value = getattr(self, name)
            if isinstance(value, bool) or value not in choices:
                known = ', '.join(map(str, choices))
                raise ConfigError(f'{name} is {value!r}; one of {known} is needed')
        for name in ('jpeg_round_trip', 'center_crop'):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f'{name} is {getattr(self, name)!r}; true or false is needed')
        if len(self.region) != 4 or any(type(n) is not int or n < 0 for n in self.region):
            raise ConfigError(
                f'region is {self.region!r}; x, y, width and height are needed, as whole numbers '
                'from 0 on'
            )
        if self.region != WHOLE and 0 in self.region[2:]:
            x, y, width, height = self.region
            raise ConfigError(
                f'the region at {x}, {y} is {width} x {height} px; set region_width and '
                'region_height, or all four to 0 for the whole picture'
            )

    @property
    def of_camera(self) -> CameraSteps:
        """These steps without those that belong to the checkpoint."""
        return CameraSteps(self.region, self.rotation, self.mirror)

    def with_camera(self, other: CameraSteps) -> CameraSteps:
        """Give these steps with the region, rotation and mirror of others."""
        return replace(self, region=other.region, rotation=other.rotation, mirror=other.mirror)

    def __str__(self) -> str:
        """Name what is done, in order; 'none' if nothing is."""
        x, y, width, height = self.region
        done = {
            f'region {width} x {height} at {x}, {y}': self.region != WHOLE,
            f'rotation {self.rotation}': self.rotation != 0,
            f'mirror {self.mirror}': self.mirror != 'none',
            'jpeg_round_trip': self.jpeg_round_trip,
            f'resize {self.resize}': self.resize != 'processor',
            'center_crop': self.center_crop,
        }
        return ', '.join(name for name, is_done in done.items() if is_done) or 'none'

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {**vars(self), 'region': list(self.region)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CameraSteps:
        """Read what to_json wrote; further keys are ignored.

        Raises:
            ConfigError: A value is none of a step.
            TypeError: The region is no list.
        """
        known = {entry.name: data[entry.name] for entry in fields(cls) if entry.name in data}
        if 'region' in known:
            known['region'] = tuple(known['region'])
        return cls(**known)


NO_STEPS = CameraSteps()
