"""Preprocessing against torchvision, which the reference implementation uses."""

import json

import numpy as np
from PIL import Image
import pytest
import torch
import torchvision.transforms.functional as TVF  # noqa: N812 - the field's name for it

from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.policy.images import ImageProcessor

SIZES = [
    (480, 640),
    (640, 480),
    (223, 225),
    (17, 31),
    (56, 56),
    (56, 59),
    (59, 56),
    (1, 1),
    (1, 300),
]
MEAN, STD = [0.484375, 0.455078125, 0.40625], [0.228515625, 0.2236328125, 0.224609375]


def config(strategy: str, **changes) -> dict:
    return {
        'image_resize_strategy': strategy,
        'input_sizes': [[3, 56, 56]],
        'interpolations': ['bicubic'],
        'means': [MEAN],
        'stds': [STD],
        **changes,
    }


def reference(image: np.ndarray, strategy: str) -> torch.Tensor:
    pil = Image.fromarray(image)
    if strategy == 'letterbox':
        width, height = pil.size
        side = max(width, height)
        left, top = int((side - width) / 2), int((side - height) / 2)
        pil = TVF.pad(pil, [left, top, left, top], fill=tuple(int(m * 255) for m in MEAN))
    size = [56, 56] if strategy == 'resize-naive' else 56
    pil = TVF.resize(pil, size, TVF.InterpolationMode.BICUBIC)
    return TVF.normalize(TVF.to_tensor(TVF.center_crop(pil, 56)), MEAN, STD)


@pytest.mark.parametrize('strategy', ['resize-naive', 'resize-crop', 'letterbox'])
@pytest.mark.parametrize('size', SIZES)
def test_pixel_values_equal_torchvision(strategy, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    ours = ImageProcessor.from_config(config(strategy))(image)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, reference(image, strategy).numpy())


def test_stored_normalisation_wins_over_means(golden_dir):
    stored = json.loads((golden_dir / 'fused' / 'preprocessor_config.json').read_text())
    dark = ImageProcessor.from_config(stored)(np.zeros((8, 8, 3), np.uint8))
    assert stored['means'][0][0] == 0.485
    assert dark[0, 0, 0] == np.float32(-0.484375) / np.float32(0.228515625)


def test_fused_letterbox_pads_once_with_the_last_towers_mean():
    image = np.full((10, 56, 3), 255, np.uint8)
    both = {'input_sizes': [[3, 56, 56]] * 2, 'interpolations': ['bicubic'] * 2}
    both |= {'means': [MEAN, [0.5] * 3], 'stds': [STD, [0.5] * 3]}
    pixels = ImageProcessor.from_config(config('letterbox', **both))(image)
    raw = pixels.reshape(2, 3, 56, 56) * np.reshape([STD, [0.5] * 3], (2, 3, 1, 1))
    raw = np.rint(255 * (raw + np.reshape([MEAN, [0.5] * 3], (2, 3, 1, 1))))
    assert (raw[:, :, 0, 0] == 127).all()


def test_letterbox_settings_may_be_a_list_per_tower():
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    fill = [int(mean * 255) for mean in MEAN]
    lists = {'tvf_do_letterbox': [True], 'tvf_letterbox_fill': [fill]}
    np.testing.assert_array_equal(
        ImageProcessor.from_config(config('letterbox', **lists))(image),
        ImageProcessor.from_config(config('letterbox'))(image),
    )


def test_preview_is_what_pixel_values_were_made_of():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    processor = ImageProcessor.from_config(config('letterbox'))
    pixels = processor.preview(image).transpose(2, 0, 1).astype(np.float32) / 255
    mean, std = (np.float32(value)[:, None, None] for value in (MEAN, STD))
    np.testing.assert_array_equal((pixels - mean) / std, processor(image))


@pytest.mark.parametrize(
    'image',
    [
        [[0, 0, 0]],
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=['list', 'float', 'grey', 'alpha', 'empty'],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(InputError, match=r'numpy array|\[height, width, 3\] uint8 RGB'):
        ImageProcessor.from_config(config('letterbox'))(image)


@pytest.mark.parametrize('missing', ['input_sizes', 'means', 'stds'])
def test_incomplete_configuration_names_the_key(missing):
    broken = config('letterbox')
    del broken[missing]
    with pytest.raises(ConfigError, match=missing):
        ImageProcessor.from_config(broken)
