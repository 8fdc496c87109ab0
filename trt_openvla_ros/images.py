"""RGB images to pixel values, exactly as the models were trained.

H, W: size of the camera's image; S: size of the tower's image; C: 3 per vision tower.
"""

from __future__ import annotations

from dataclasses import dataclass
import io

import numpy as np
from PIL import Image

from trt_openvla_ros.errors import ConfigError, InputError

_INTERPOLATION = {'nearest': 0, 'lanczos': 1, 'bilinear': 2, 'bicubic': 3, 'box': 4, 'hamming': 5}


@dataclass(frozen=True)
class _Geometry:
    """How an image becomes one of the tower's size."""

    size: tuple[int, int] | int  # exact (height, width), or the length of the shorter side
    crop: tuple[int, int]
    interpolation: int


@dataclass(frozen=True)
class _Branch:
    """Preprocessing of one vision tower."""

    geometry: _Geometry
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class ImageProcessor:
    """The checkpoint's preprocessing, read from preprocessor_config.json.

    Source: PrismaticImageProcessor of openvla/openvla; bit-exact to it.
    """

    branches: tuple[_Branch, ...]
    letterbox_fill: tuple[int, int, int] | None

    @classmethod
    def from_config(cls, config: dict) -> ImageProcessor:
        """Read preprocessor_config.json.

        Raises:
            ConfigError: A key is missing or unusable.
        """
        try:
            return cls(*_parse(config))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ConfigError(f'preprocessor_config.json cannot be used: {error!r}') from error

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Prepare one image.

        Args:
            image: [H, W, 3] uint8 RGB.

        Returns:
            [C, S, S] float32.

        Raises:
            InputError: The array is not such an image.
        """
        pil = self._open(image)
        # Resizing costs most, and both towers of the fused models want the same.
        resized = {g: _resize(g, pil) for g in {branch.geometry for branch in self.branches}}
        return np.concatenate([_normalise(b, resized[b.geometry]) for b in self.branches])

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Give the [S, S, 3] uint8 RGB image that the first tower sees, before normalising."""
        return np.asarray(_resize(self.branches[0].geometry, self._open(image)))

    def _open(self, image: np.ndarray) -> Image.Image:
        pil = Image.fromarray(check_image(image))
        return pil if self.letterbox_fill is None else _letterbox(pil, self.letterbox_fill)


def check_image(image: np.ndarray) -> np.ndarray:
    """Return image when it is [H, W, 3] uint8 with H, W >= 1; raise InputError when not."""
    if not isinstance(image, np.ndarray):
        raise InputError(f'image is a {type(image).__name__}; a numpy array is needed')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f'image has shape {image.shape} and dtype {image.dtype}; '
            '[height, width, 3] uint8 RGB is needed'
        )
    return image


def decode_image(data: bytes) -> np.ndarray:
    """Decode a JPEG or PNG file that this process wrote, to [H, W, 3] uint8 RGB."""
    return np.asarray(Image.open(io.BytesIO(data), formats=('JPEG', 'PNG')).convert('RGB'))


def _parse(config: dict) -> tuple[tuple[_Branch, ...], tuple[int, int, int] | None]:
    sizes = [tuple(size[-2:]) for size in config['input_sizes']]
    strategy = config.get('image_resize_strategy', 'resize-naive')
    stored = config.get('tvf_normalize_params')
    branches = []
    for index, size in enumerate(sizes):
        # Stored tvf_* keys win: openvla-7b's hold means rounded to bfloat16, as in training.
        normalise = stored[index] if stored else {}
        resize = (config.get('tvf_resize_params') or [{}] * len(sizes))[index]
        crop = (config.get('tvf_crop_params') or [{}] * len(sizes))[index]
        target = resize.get('size', size if strategy == 'resize-naive' else size[0])
        if isinstance(target, list | tuple):
            target = tuple(target) if len(target) == 2 else target[0]
        names = config.get('interpolations') or ['bicubic'] * len(sizes)
        crop_size = crop.get('output_size', size)
        if isinstance(crop_size, int):
            crop_size = (crop_size, crop_size)
        branches.append(
            _Branch(
                _Geometry(
                    size=target,
                    crop=tuple(crop_size),
                    interpolation=resize.get('interpolation', _INTERPOLATION[names[index]]),
                ),
                mean=np.asarray(normalise.get('mean', config['means'][index]), np.float32),
                std=np.asarray(normalise.get('std', config['stds'][index]), np.float32),
            )
        )
    do_letterbox = config.get('tvf_do_letterbox', strategy == 'letterbox')
    fill = config.get('tvf_letterbox_fill')
    if isinstance(do_letterbox, list):  # some forks store one entry per tower
        do_letterbox, fill = any(do_letterbox), fill[-1] if fill else None
    if not do_letterbox:
        return tuple(branches), None
    # The reference pads once, with the last tower's mean colour.
    return tuple(branches), tuple(fill or [int(mean * 255) for mean in config['means'][-1]])


def _letterbox(image: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
    width, height = image.size
    side = max(width, height)
    # Rounded down on both sides, so an odd difference leaves the result 1 px short of square.
    left, top = (side - width) // 2, (side - height) // 2
    padded = Image.new('RGB', (width + 2 * left, height + 2 * top), fill)
    padded.paste(image, (left, top))
    return padded


def _resize(geometry: _Geometry, image: Image.Image) -> Image.Image:
    width, height = image.size
    if isinstance(geometry.size, int):
        short, long = sorted(image.size)
        scaled = int(geometry.size * long / short)
        new = (geometry.size, scaled) if width <= height else (scaled, geometry.size)
    else:
        new = geometry.size[::-1]
    if new != image.size:
        image = image.resize(new, geometry.interpolation)
    width, height = image.size
    crop_height, crop_width = geometry.crop
    top = round((height - crop_height) / 2)
    left = round((width - crop_width) / 2)
    return image.crop((left, top, left + crop_width, top + crop_height))


def _normalise(branch: _Branch, image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order='C') / 255
    return (pixels - branch.mean[:, None, None]) / branch.std[:, None, None]
