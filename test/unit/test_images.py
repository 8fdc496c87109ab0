"""Preprocessing against torchvision, which the reference implementation uses."""

import json

import numpy as np
from PIL import Image
import pytest
import torch
import torchvision.transforms.functional as TVF  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.pixels import Normaliser
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


def pixel_values(content: dict, image: np.ndarray) -> np.ndarray:
    """[C, S, S], by both halves of preprocessing."""
    views = torch.from_numpy(ImageProcessor.from_config(content)(image))
    return Normaliser(content, torch.device('cpu'))(views)[0].numpy()


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
    ours = pixel_values(config(strategy), image)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, reference(image, strategy).numpy())


def test_stored_normalisation_wins_over_means(golden_dir):
    stored = json.loads((golden_dir / 'fused' / 'preprocessor_config.json').read_text())
    dark = pixel_values(stored, np.zeros((8, 8, 3), np.uint8))
    assert stored['means'][0][0] == 0.485
    assert dark[0, 0, 0] == np.float32(-0.484375) / np.float32(0.228515625)


def test_fused_letterbox_pads_once_with_the_last_towers_mean():
    image = np.full((10, 56, 3), 255, np.uint8)
    both = {'input_sizes': [[3, 56, 56]] * 2, 'interpolations': ['bicubic'] * 2}
    both |= {'means': [MEAN, [0.5] * 3], 'stds': [STD, [0.5] * 3]}
    pixels = pixel_values(config('letterbox', **both), image)
    raw = pixels.reshape(2, 3, 56, 56) * np.reshape([STD, [0.5] * 3], (2, 3, 1, 1))
    raw = np.rint(255 * (raw + np.reshape([MEAN, [0.5] * 3], (2, 3, 1, 1))))
    assert (raw[:, :, 0, 0] == 127).all()


def test_letterbox_settings_may_be_a_list_per_tower():
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    fill = [int(mean * 255) for mean in MEAN]
    lists = {'tvf_do_letterbox': [True], 'tvf_letterbox_fill': [fill]}
    np.testing.assert_array_equal(
        pixel_values(config('letterbox', **lists), image),
        pixel_values(config('letterbox'), image),
    )


def test_every_value_of_every_channel_is_normalised_as_numpy_does():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    towers = {'means': [MEAN, [0.5] * 3], 'stds': [STD, [0.1, 0.2, 0.3]]}
    both = config('resize-naive', input_sizes=[[3, 16, 16]] * 2, interpolations=None, **towers)
    scaled = ramp[0].transpose(2, 0, 1).astype(np.float32) / 255
    wanted = [
        (scaled - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]
        for mean, std in zip(*towers.values(), strict=True)
    ]
    found = Normaliser(both, torch.device('cpu'))(torch.from_numpy(ramp))
    np.testing.assert_array_equal(found[0], np.concatenate(wanted))


def test_preview_is_the_first_towers_view():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    processor = ImageProcessor.from_config(config('letterbox'))
    np.testing.assert_array_equal(processor.preview(image)[None], processor(image))


def test_towers_share_a_view_unless_they_are_shown_another():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    both = {'input_sizes': [[3, 56, 56]] * 2, 'means': [MEAN] * 2, 'stds': [STD] * 2}
    same = config('resize-naive', **{**both, 'interpolations': ['bicubic'] * 2})
    other = config('resize-naive', **{**both, 'interpolations': ['bilinear', 'bicubic']})
    assert ImageProcessor.from_config(same)(image).shape == (1, 56, 56, 3)
    assert ImageProcessor.from_config(other)(image).shape == (2, 56, 56, 3)
    pixels = pixel_values(other, image)
    np.testing.assert_array_equal(pixels[3:], pixel_values(same, image)[3:])
    assert not np.array_equal(pixels[:3], pixels[3:])


def test_towers_of_two_sizes_are_refused():
    content = config(
        'resize-naive',
        input_sizes=[[3, 56, 56], [3, 28, 28]],
        interpolations=None,
        means=[MEAN] * 2,
        stds=[STD] * 2,
    )
    with pytest.raises(ConfigError, match=r'\(28, 28\), \(56, 56\).*one size'):
        Normaliser(content, torch.device('cpu'))


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
        pixel_values(config('letterbox'), image)


@pytest.mark.parametrize('missing', ['input_sizes', 'means', 'stds'])
def test_incomplete_configuration_names_the_key(missing):
    broken = config('letterbox')
    del broken[missing]
    with pytest.raises(ConfigError, match=missing):
        ImageProcessor.from_config(broken)
