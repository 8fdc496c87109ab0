import json
import shutil

import numpy as np
import pytest
from random_checkpoint import write_random_checkpoint
import torch

from trt_openvla_ros.checkpoint import Checkpoint, VISION_BACKBONES
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.policy import Policy


@pytest.fixture
def copy(golden_dir, tmp_path):
    """A writable copy of a golden checkpoint, with changes to its config.json."""

    def make(**changes):
        path = tmp_path / 'copy'
        shutil.copytree(golden_dir / 'fused', path, copy_function=shutil.copyfile)
        config = json.loads((path / 'config.json').read_text())
        for key, value in changes.items():
            if value is None:
                config.pop(key, None)
            else:
                config[key] = value
        (path / 'config.json').write_text(json.dumps(config))
        return path

    return make


def test_what_config_leaves_out_is_the_v01_model_with_transformers_defaults(copy):
    path = copy(vision_backbone_id=None, llm_backbone_id=None, text_config=None)
    checkpoint = Checkpoint.open(path)
    assert checkpoint.llm_backbone_id == 'vicuna-v15-7b'
    assert checkpoint.llm.rms_norm_eps == 1e-6  # and not Llama-2's 1e-5
    assert (checkpoint.llm.hidden_size, checkpoint.llm.num_layers) == (4096, 32)
    assert checkpoint.llm.rope_theta == 10000.0


@pytest.mark.parametrize('backbone', VISION_BACKBONES)
def test_backbone_id_alone_decides_towers(copy, backbone):
    names = ('timm_model_ids', 'image_sizes', 'timm_override_act_layers', 'timm_model_kwargs')
    nothing = dict.fromkeys([*names, 'use_fused_vision_backbone'])
    towers = Checkpoint.open(copy(**nothing, vision_backbone_id=backbone)).towers
    size, models = VISION_BACKBONES[backbone]
    assert [(t.timm_id, t.image_size) for t in towers] == [(m, size) for m, _ in models]


def test_config_lists_win_over_the_backbone_id(golden_dir):
    towers = Checkpoint.open(golden_dir / 'single').towers
    assert [tower.image_size for tower in towers] == [56]


def test_dataset_statistics_win_over_config(copy):
    path = copy()
    own = {'my_robot': {'action': {'q01': [0.0] * 7, 'q99': [2.0] * 7}}}
    (path / 'dataset_statistics.json').write_text(json.dumps(own))
    assert list(Checkpoint.open(path).norm_stats) == ['my_robot']
    assert Policy.from_checkpoint(path, device='cpu').unnorm_key == 'my_robot'


def test_sharded_weights_are_the_same_weights(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    whole = write_random_checkpoint(tmp_path / 'whole')
    sharded = write_random_checkpoint(tmp_path / 'sharded', shards=3)
    assert not (sharded / 'model.safetensors').exists()
    actions = [
        Policy.from_checkpoint(path, device='cpu').predict(image, 'go').action
        for path in (whole, sharded)
    ]
    np.testing.assert_array_equal(*actions)


def test_transformers_5_spelling_of_rope_is_read(copy, golden_dir):
    text = json.loads((golden_dir / 'fused' / 'config.json').read_text())['text_config']
    text['rope_parameters'] = {'rope_type': 'default', 'rope_theta': 500.0}
    assert Checkpoint.open(copy(text_config=text)).llm.rope_theta == 500.0


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'model_type': 'llama'}, "model_type 'llama'"),
        ({'vision_backbone_id': 'vit-x'}, "unknown vision_backbone_id 'vit-x'"),
        ({'image_sizes': [224]}, '2 vision tower'),
        ({'text_config': {'model_type': 'phi'}}, "'phi' is not supported"),
        ({'text_config': {'rope_scaling': {'type': 'linear', 'factor': 2}}}, 'RoPE scaling'),
        ({'norm_stats': None}, 'no norm_stats'),
        ({'text_config': {'vocab_size': 100, 'hidden_size': 32}}, 'embed_tokens'),
    ],
)
def test_impossible_configuration_says_what_is_wrong(copy, changes, reason):
    with pytest.raises(ConfigError, match=reason):
        Policy.from_checkpoint(copy(**changes), 'toy_arm', device='cpu')


@pytest.mark.parametrize(
    ('file', 'reason'),
    [
        ('config.json', r'config\.json is missing'),
        ('preprocessor_config.json', r'preprocessor_config\.json is missing'),
        ('model.safetensors', r'lacks model\.safetensors.*safetensors only'),
    ],
)
def test_missing_file_is_named(copy, file, reason):
    path = copy()
    (path / file).unlink()
    with pytest.raises(ConfigError, match=reason):
        Policy.from_checkpoint(path, 'toy_arm', device='cpu')


def test_pickled_weights_are_never_read(copy):
    path = copy()
    (path / 'model.safetensors').unlink()
    torch.save({'projector.fc1.weight': torch.zeros(1)}, path / 'pytorch_model.bin')
    with pytest.raises(ConfigError, match='runs code'):
        Policy.from_checkpoint(path, 'toy_arm', device='cpu')


@pytest.mark.parametrize(
    ('source', 'reason'),
    [('/nowhere/at/all', 'neither a directory nor a Hub id'), ('here', 'neither a directory')],
)
def test_missing_checkpoint_is_named(source, reason):
    with pytest.raises(ConfigError, match=reason):
        Checkpoint.open(source)


def test_hub_id_without_a_network_says_so(monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(ConfigError, match="'openvla/no-such-model' is no directory here"):
        Checkpoint.open('openvla/no-such-model')


@pytest.mark.parametrize('content', ['{', '[]', '\xff'])
def test_broken_json_is_named(copy, content):
    path = copy()
    (path / 'config.json').write_text(content, encoding='latin-1')
    with pytest.raises(ConfigError, match=r'config\.json (is not JSON|holds a list)'):
        Checkpoint.open(path)
