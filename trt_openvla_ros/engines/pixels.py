"""Views of an image to pixel values, on the device that computes.

G: number of different views, S: side of a view, C: 3 channels per vision tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from trt_openvla_ros.checkpoints.preprocessor import geometries, read_preprocessor
from trt_openvla_ros.errors import ConfigError, InputError


class Normaliser:
    """The last step of preprocessing: uint8 views to float32 pixel values of each tower.

    Views are a quarter of the bytes of the float32 values of one tower, so a GPU gets the views.
    All engines share this class, so that all towers see the same numbers.

    Source: PrismaticImageProcessor of openvla/openvla; bit-exact to it on CPU and GPU, because
    each operation is rounded as float32.

    Attributes:
        shape: (G, S, S, 3), the shape of the views of one image.
        device: Device that computes.
    """

    def __init__(self, preprocessor: Mapping[str, Any], device: torch.device) -> None:
        """Put the constants of a preprocessor_config.json, given by its content, onto a device.

        Raises:
            ConfigError: The towers see views of different sizes.
        """
        branches, _ = read_preprocessor(preprocessor)
        different = geometries(branches)
        sizes = {one.crop for one in different}
        if len(sizes) != 1:
            raise ConfigError(
                f'preprocessor_config.json makes images of {sorted(sizes)}; all towers must see '
                'one size, so that their patches cover the same place'
            )
        self.shape = (len(different), *sizes.pop(), 3)
        self.device = device
        self._places = [different.index(branch.geometry) for branch in branches]
        # Tensors of the device, because PyTorch multiplies by the inverse of a Python number on
        # CUDA, which rounds otherwise.
        self._white = torch.full((), 255.0, device=device)
        self._mean, self._std = (
            torch.from_numpy(np.stack(colours)[:, :, None, None]).to(device)
            for colours in ([b.mean for b in branches], [b.std for b in branches])
        )

    def check(self, views: np.ndarray) -> torch.Tensor:
        """Give views as a tensor that shares their memory.

        Raises:
            InputError: They are not uint8 of `shape`.
        """
        if views.shape != self.shape or views.dtype.name != 'uint8':
            raise InputError(
                f'views have shape {views.shape} and dtype {views.dtype}, not {self.shape} uint8; '
                'take what ImageProcessor makes of an image'
            )
        return torch.from_numpy(views)

    def __call__(self, views: torch.Tensor) -> torch.Tensor:
        """Map [G, S, S, 3] uint8 on the device to [1, C, S, S] float32."""
        planes = views.permute(0, 3, 1, 2).contiguous().float() / self._white
        towers = torch.stack([planes[place] for place in self._places])
        return ((towers - self._mean) / self._std).flatten(0, 1)[None]
