from fnmatch import fnmatch
import json
import shutil

import numpy as np
import pytest
from random_checkpoint import write_random_checkpoint
import torch

from trt_openvla_ros.checkpoints.foreign import _HUB_FILES
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.vision import VISION_BACKBONES
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline.command import run
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
    assert Policy.from_checkpoint(path, device='cpu').description.unnorm_key == 'my_robot'


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


def save_as_transformers_5(path, change=lambda nested: None, keep=False):
    """Nest the preprocessor in processor_config.json."""
    flat = path / 'preprocessor_config.json'
    nested = json.loads(flat.read_text())
    change(nested)
    content = {'image_processor': nested, 'processor_class': 'PrismaticProcessor'}
    (path / 'processor_config.json').write_text(json.dumps(content))
    if not keep:
        flat.unlink()
    return path


@pytest.mark.parametrize('keep', [False, True])
def test_processor_that_transformers_5_saved_is_read(copy, fused, tmp_path, keep):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    path = save_as_transformers_5(copy(), keep=keep)
    wanted = fused.predict(image, 'go').action
    policy = Policy.from_checkpoint(path, 'toy_arm', device='cpu')
    np.testing.assert_array_equal(policy.predict(image, 'go').action, wanted)
    words = ['--checkpoint', str(path), '--artifact', str(tmp_path / 'artifact')]
    run('save_backbone', [*words, '--onnx', 'false', '--test-load', 'false', '--device', 'cpu'])
    policy = Policy.from_checkpoint(tmp_path / 'artifact', 'toy_arm', device='cpu')
    np.testing.assert_array_equal(policy.predict(image, 'go').action, wanted)


def test_two_processors_that_differ_are_both_named(copy):
    def change(nested):
        nested['means'] = [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]]

    path = save_as_transformers_5(copy(), change, keep=True)
    with pytest.raises(ConfigError, match=r'preprocessor_config.* and .*processor_config.*means'):
        Checkpoint.open(path)


def test_processor_config_of_transformers_4_changes_nothing(copy):
    path = copy()
    (path / 'processor_config.json').write_text('{"processor_class": "PrismaticProcessor"}')
    wanted = json.loads((path / 'preprocessor_config.json').read_text())
    assert Checkpoint.open(path).preprocessor == wanted


@pytest.mark.parametrize('nested', [[], 'x', 7])
def test_a_nested_processor_that_is_none_is_refused(copy, nested):
    path = copy()
    (path / 'processor_config.json').write_text(json.dumps({'image_processor': nested}))
    with pytest.raises(
        ConfigError, match=r'processor_config\.json: image_processor is .* an object is needed'
    ):
        Checkpoint.open(path)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'model_type': 'llama'}, "model_type 'llama'"),
        ({'vision_backbone_id': 'vit-x'}, 'vision_backbone_id is "vit-x"; .*clip-vit-l'),
        ({'image_sizes': [224]}, '2 vision tower'),
        ({'text_config': {'model_type': 'phi'}}, "'phi' is not supported"),
        ({'text_config': {'rope_scaling': {'type': 'linear', 'factor': 2}}}, 'RoPE scaling'),
        ({'norm_stats': None}, 'no norm_stats'),
        ({'text_config': {'hidden_act': 'gelu'}}, "hidden_act 'gelu' is not supported"),
        ({'text_config': {'attention_bias': True}}, 'attention_bias True is not supported'),
        ({'text_config': {'vocab_size': 100}}, 'not of one checkpoint'),
        ({'text_config': {'vocab_size': 32064, 'hidden_size': 64}}, r'projector\.\* do not fit'),
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
    with pytest.raises(ConfigError, match=r'config\.json (is not|holds a list)'):
        Checkpoint.open(path)


LAYER = 'language_model.model.layers'


@pytest.mark.parametrize(
    ('edit', 'reason'),
    [
        (
            lambda t: t.update({f'{LAYER}.9.input_layernorm.weight': torch.zeros(32)}),
            r'language_model\.model\.layers\.9\S+ \(and 0 more\) has no place',
        ),
        (lambda t: t.pop('projector.fc2.bias'), r'projector\.\* do not fit.*fc2\.bias'),
        (
            lambda t: t.pop('vision_backbone.featurizer.cls_token'),
            r'vision_backbone\.featurizer\.\* do not fit.*cls_token',
        ),
    ],
    ids=['unread', 'projector', 'tower'],
)
def test_weights_that_do_not_fit_are_named(tmp_path, edited_checkpoint, edit, reason):
    path = edited_checkpoint(write_random_checkpoint(tmp_path / 'whole'), edit)
    with pytest.raises(ConfigError, match=f'(?s){reason}'):
        Policy.from_checkpoint(path, device='cpu')


def test_a_pointer_of_git_lfs_is_no_checkpoint(copy):
    path = copy()
    (path / 'model.safetensors').write_text('version https://git-lfs.github.com/spec/v1\n')
    with pytest.raises(ConfigError, match=r'model\.safetensors is no safetensors.*git lfs pull'):
        Policy.from_checkpoint(path, 'toy_arm', device='cpu')


def test_images_of_another_size_than_the_towers_are_refused(copy):
    path = copy(image_sizes=[56, 56])
    with pytest.raises(ConfigError, match=r'makes images of \[\(224, 224\)'):
        Policy.from_checkpoint(path, 'toy_arm', device='cpu')


def test_wrong_arguments_are_refused_before_weights_are_read(copy):
    path = copy()
    (path / 'model.safetensors').unlink()
    with pytest.raises(ConfigError, match='toy_leg'):
        Policy.from_checkpoint(path, 'toy_leg', device='cpu')


def test_vocabulary_that_config_counts_otherwise_is_reported(copy, caplog):
    Policy.from_checkpoint(copy(pad_to_multiple_of=128), 'toy_arm', device='cpu')
    assert '32000 pieces and config.json means 31936' in caplog.text


def test_downloads_hold_no_code_and_no_pickles():
    files = ['config.json', 'model-00001-of-00003.safetensors', 'tokenizer.model']
    assert all(any(fnmatch(file, p) for p in _HUB_FILES) for file in files)
    for file in ('modeling_prismatic.py', 'pytorch_model.bin', 'action_head.pt'):
        assert not any(fnmatch(file, p) for p in _HUB_FILES)
