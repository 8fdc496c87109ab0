"""Every backbone's towers against whole timm models with the same weights."""

import json

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
    views = np.random.default_rng(1).integers(0, 256, engine.normalise.shape, np.uint8)
    pixels = engine.normalise(torch.from_numpy(views))
    parts = zip(timm_towers(checkpoint), pixels[0].split(3), strict=True)
    expected = torch.cat([features_by_hook(vit, part) for vit, part in parts], dim=1)
    features = engine.patch_features(pixels)[0]
    assert features.shape == ((size // (16 if 'in1k' in backbone else 14)) ** 2, len(towers) * 32)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    with torch.inference_mode():
        expected = engine.projector(expected)
    torch.testing.assert_close(engine.encode(views), expected, rtol=0, atol=1e-5)


def test_the_last_block_is_not_kept(fused):
    assert [len(tower.vit.blocks) for tower in fused.engines.vision.towers] == [3, 2]


def test_weights_of_another_shape_are_named(tmp_path):
    path = write_random_checkpoint(tmp_path)
    text = (path / 'config.json').read_text()
    wide = text.replace(f'"embed_dim": {TINY_TOWER["embed_dim"]}', '"embed_dim": 64')
    (path / 'config.json').write_text(wide)
    with pytest.raises(ConfigError, match='3 blocks of width 32 are stored as vision'):
        TorchVision(Checkpoint.open(path), torch.device('cpu'), torch.float32)


def edited(tmp_path, **changes):
    path = write_random_checkpoint(tmp_path / 'edited')
    config = json.loads((path / 'config.json').read_text())
    (path / 'config.json').write_text(json.dumps({**config, **changes}))
    return path


DINO, SIGLIP = 'vit_large_patch14_reg4_dinov2.lvd142m', 'vit_so400m_patch14_siglip_224'


@pytest.mark.parametrize(
    'name',
    [
        'hub:evil/model',
        'hf-hub:evil/model',
        'hf_hub:evil/model',
        'local-dir:/tmp/evil',
        'https://evil.example/model',
        'file:///tmp/evil',
        '/tmp/evil',
        '../evil',
        './evil',
        'evil/model',
        'resnet50',
        'vit_base_patch16_224',
        f'timm/{DINO}',
        f'{DINO}/../evil',
        f'{DINO}:evil',
        f'{DINO}\n',
        f'hf-hub:timm/{DINO}',
        '',
        'x' * 10_000,
    ],
)
def test_names_that_could_be_addresses_never_reach_timm(tmp_path, monkeypatch, name):
    path = edited(tmp_path, timm_model_ids=[name, SIGLIP])
    monkeypatch.setattr('timm.create_model', lambda *_, **__: pytest.fail('reached timm'))
    with pytest.raises(
        ConfigError, match=r'config\.json: timm_model_ids is .* is none of'
    ) as error:
        TorchVision(Checkpoint.open(path), torch.device('cpu'), torch.float32)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    'argument',
    [
        {'checkpoint_path': '/tmp/evil.pth'},
        {'pretrained': True},
        {'pretrained_cfg': {'file': '/tmp/evil.pth'}},
        {'pretrained_cfg_overlay': {'url': 'https://evil.example'}},
        {'cache_dir': '/tmp'},
        {'features_only': True},
        {'scriptable': True},
        {'weight_init': 'jax'},
        {'block_fn': 'evil'},
        {'norm_layer': 'evil'},
        {'num_classes': 5},
        {'img_size': 10},
        {'embed_dim': '32'},
        {'patch_size': [14, 14]},
        {'depth': {'a': 1}},
    ],
)
def test_arguments_that_are_no_shape_never_reach_timm(tmp_path, monkeypatch, argument):
    path = edited(tmp_path, timm_model_kwargs=[TINY_TOWER, {**TINY_TOWER, **argument}])
    monkeypatch.setattr('timm.create_model', lambda *_, **__: pytest.fail('reached timm'))
    with pytest.raises(ConfigError, match=rf'timm_model_kwargs\[1\]\.{next(iter(argument))}'):
        TorchVision(Checkpoint.open(path), torch.device('cpu'), torch.float32)


@pytest.mark.parametrize('act', ['evil', ['gelu'], 7, 'os.system'])
def test_unknown_activations_are_refused(tmp_path, act):
    path = edited(tmp_path, timm_override_act_layers=[None, act])
    with pytest.raises(ConfigError, match='timm_override_act_layers'):
        _ = Checkpoint.open(path).towers


def test_known_models_load_with_other_tags_and_without_arguments(tmp_path):
    path = edited(tmp_path, timm_model_ids=[DINO.partition('.')[0], f'{SIGLIP}.webli'])
    assert TorchVision(Checkpoint.open(path), torch.device('cpu'), torch.float32).towers
    path = edited(tmp_path, timm_model_kwargs=[None, None])
    assert Checkpoint.open(path).towers[0].kwargs == {}


@pytest.mark.parametrize(
    'changes',
    [
        {'timm_model_ids': [DINO, f'{SIGLIP}.of_tomorrow']},
        {'timm_model_kwargs': [{**TINY_TOWER, 'num_heads': 5}, TINY_TOWER]},
        {'timm_model_kwargs': [{**TINY_TOWER, 'num_heads': 0}, TINY_TOWER]},
        {'timm_model_kwargs': [{**TINY_TOWER, 'embed_dim': -1}, TINY_TOWER]},
        {'timm_model_kwargs': [{**TINY_TOWER, 'patch_size': 0}, TINY_TOWER]},
        {'timm_model_kwargs': [{**TINY_TOWER, 'mlp_ratio': -1}, TINY_TOWER]},
    ],
)
def test_what_timm_cannot_build_is_said(tmp_path, changes):
    with pytest.raises(ConfigError, match=r'cannot build vit_|timm_model_kwargs\[0'):
        TorchVision(
            Checkpoint.open(edited(tmp_path, **changes)), torch.device('cpu'), torch.float32
        )


@pytest.mark.parametrize(
    'views',
    [
        np.zeros((2, 224, 224, 3), np.uint8),
        np.zeros((1, 56, 56, 3), np.uint8),
        np.zeros((1, 224, 224, 3), np.float32),
    ],
    ids=['two', 'small', 'float'],
)
def test_other_views_are_refused(fused, views):
    with pytest.raises(InputError, match=r'not \(1, 224, 224, 3\) uint8; take what ImageProc'):
        fused.engines.vision.encode(views)


def test_embeddings_stay_what_they_are(fused):
    views = np.random.default_rng(0).integers(0, 256, (2, 1, 224, 224, 3), np.uint8)
    first = fused.engines.vision.encode(views[0])
    kept = first.clone()
    assert fused.engines.vision.encode_time > 0
    assert not torch.equal(fused.engines.vision.encode(views[1]), first)
    assert torch.equal(first, kept)
    assert torch.equal(fused.engines.vision.encode(views[0]), first)
