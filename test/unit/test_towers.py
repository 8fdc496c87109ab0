"""Every backbone's towers against whole timm models with the same weights."""

import numpy as np
import pytest
from random_checkpoint import TINY_TOWER, write_random_checkpoint
from reference import timm_towers
import torch
from torch import nn

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.vision import VISION_BACKBONES
from trt_openvla_ros.engines.torch.vision import TorchVision
from trt_openvla_ros.errors import ConfigError, InputError


def features_by_hook(vit: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Run the whole model and take what its second-to-last block gives, prefix removed."""
    taken = []
    vit.blocks[-2].register_forward_hook(lambda module, inputs, output: taken.append(output))
    with torch.inference_mode():
        vit(pixels[None])
    return taken[0][0, vit.num_prefix_tokens :]


@pytest.mark.parametrize('backbone', VISION_BACKBONES)
def test_features_are_the_second_to_last_block(tmp_path, backbone):
    checkpoint = Checkpoint.open(write_random_checkpoint(tmp_path, backbone))
    engine = TorchVision(checkpoint, torch.device('cpu'), torch.float32)
    towers = checkpoint.towers
    size = towers[0].image_size
    pixels = torch.randn(3 * len(towers), size, size, generator=torch.Generator().manual_seed(1))
    parts = zip(timm_towers(checkpoint), pixels.split(3), strict=True)
    expected = torch.cat([features_by_hook(vit, part) for vit, part in parts], dim=1)
    features = engine.patch_features(pixels.numpy())
    assert features.shape == ((size // (16 if 'in1k' in backbone else 14)) ** 2, len(towers) * 32)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    assert engine.encode(pixels.numpy()).shape == (len(features), 32)


def test_the_last_block_is_not_kept(fused):
    assert [len(tower.vit.blocks) for tower in fused.engines.vision.towers] == [3, 2]


def test_weights_of_another_shape_are_named(tmp_path):
    path = write_random_checkpoint(tmp_path)
    text = (path / 'config.json').read_text()
    wide = text.replace(f'"embed_dim": {TINY_TOWER["embed_dim"]}', '"embed_dim": 64')
    (path / 'config.json').write_text(wide)
    with pytest.raises(ConfigError, match='3 blocks of width 32 are stored as vision'):
        TorchVision(Checkpoint.open(path), torch.device('cpu'), torch.float32)


def test_pixel_values_of_another_size_are_refused(fused):
    with pytest.raises(InputError, match=r'\(6, 224, 224\)'):
        fused.engines.vision.encode(np.zeros((6, 56, 56), np.float32))
