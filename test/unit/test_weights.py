"""Weights as other tools save them are read right, or refused in a sentence that names them."""

import json
from pathlib import Path

import numpy as np
import pytest
from random_checkpoint import write_random_checkpoint
from safetensors.torch import load_file, save_file
import torch

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline.command import run
from trt_openvla_ros.policy import Policy

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
QUERY = 'language_model.model.layers.0.self_attn.q_proj'
INDEX = 'model.safetensors.index.json'


def act(path):
    return Policy.from_checkpoint(path, device='cpu').predict(IMAGE, 'go').action


@pytest.fixture
def random(tmp_path):
    """A random checkpoint, which the test may change."""
    return write_random_checkpoint(tmp_path / 'random')


def renamed(path, rename):
    file = path / 'model.safetensors'
    save_file({rename(k): v for k, v in load_file(file).items()}, file, {'format': 'pt'})
    return path


def compiled_part(name):
    return name.replace('language_model.', 'language_model._orig_mod.')


def layers_wrapped(name):
    return name.replace(
        '.self_attn.', '._fsdp_wrapped_module._checkpoint_wrapped_module.self_attn.'
    )


@pytest.mark.parametrize(
    ('rename', 'left_out'),
    [
        ('_orig_mod.', '_orig_mod.'),
        ('module.', 'module.'),
        ('base_model.model.', 'base_model.model.'),
        ('module._orig_mod.', '_orig_mod.'),
        ('model.', 'model.'),
        ('_forward_module.vla.', 'vla.'),
        ('policy.net.', 'policy.net.'),
        (compiled_part, '_orig_mod.'),
        (layers_wrapped, '_fsdp_wrapped_module.'),
    ],
)
def test_a_prefix_is_left_out_with_a_word(random, tmp_path, caplog, rename, left_out):
    wanted = act(random)
    renamed(random, rename if callable(rename) else lambda name: rename + name)
    np.testing.assert_array_equal(act(random), wanted)
    assert repr(left_out) in caplog.text
    words = ['--checkpoint', str(random), '--artifact', str(tmp_path / 'artifact')]
    run('save_backbone', [*words, '--onnx', 'false', '--device', 'cpu'])
    np.testing.assert_array_equal(act(tmp_path / 'artifact'), wanted)


@pytest.mark.parametrize(
    ('rename', 'reason'),
    [
        (lambda n: n.replace('projector', 'ema.projector'), r'begin in 2 ways.*ema\.projector'),
        (lambda n: n.removeprefix('language_model.'), 'no tensor begins with language_model'),
        (
            lambda n: n.replace('language_model.model.', 'model.language_model.'),
            r'begin in 2 ways.*model\.language_model\.',
        ),
        (
            lambda n: n.replace('language_model.model.', 'llm.'),
            r'begin with .*llm\.embed_tokens\.',
        ),
        (lambda n: n.replace('vision_backbone', 'vision_tower'), r'vision_tower\.featurizer'),
        (lambda n: n.replace('featurizer', 'dino_featurizer'), 'begin with .*dino_featurizer'),
    ],
)
def test_names_of_another_model_are_named_in_one_line(random, rename, reason):
    renamed(random, rename)
    with pytest.raises(ConfigError, match=reason) as error:
        act(random)
    assert len(str(error.value)) < 600


def test_weights_that_do_not_fit_give_a_short_line(random):
    renamed(random, lambda name: name.replace('.attn.', '.attention.'))
    with pytest.raises(ConfigError, match=r'featurizer\.\* do not fit.*and \d+ more') as error:
        act(random)
    assert len(str(error.value)) < 500


ADAPTED = ('lora_A.default.weight', 'lora_B.weight', 'base_layer.weight', 'lora_embedding_A')
ADAPTED += ('original_module.weight', 'modules_to_save.default.weight')


@pytest.mark.parametrize('name', ADAPTED)
@pytest.mark.parametrize('prefix', ['', 'base_model.model.'])
def test_an_adapter_that_is_not_merged_is_refused(random, edited_checkpoint, name, prefix):
    renamed(random, lambda one: prefix + one)
    path = edited_checkpoint(
        random, lambda t: t.update({f'{prefix}{QUERY}.{name}': torch.ones(2)})
    )
    with pytest.raises(ConfigError, match=rf'q_proj\.{name}.*not merged.*merge_and_unload'):
        act(path)


@pytest.mark.parametrize(
    ('names', 'tool'),
    [
        (('qweight', 'qzeros', 'scales', 'g_idx'), 'GPTQ'),
        (('qweight', 'qzeros', 'scales'), 'GPTQ or AWQ'),
        (('weight.absmax', 'weight.quant_map'), 'bitsandbytes'),
        (('weight.quant_state.bitsandbytes__nf4',), 'bitsandbytes'),
        (('SCB',), 'bitsandbytes'),
        (('weight_packed', 'weight_scale', 'weight_shape'), 'compressed-tensors'),
        (('weight_scale',), 'FP8'),
        (('weight_scale_inv',), 'FP8'),
        (('weight_quantizer._amax',), 'modelopt'),
        (('W_q', 'scale'), 'HQQ'),
        (('weight:_data',), 'quanto'),
    ],
)
def test_quantised_names_are_said_to_be_quantised(random, edited_checkpoint, names, tool):
    new = {f'{QUERY}.{name}': torch.ones(2) for name in names}
    path = edited_checkpoint(random, lambda tensors: tensors.update(new))
    with pytest.raises(ConfigError, match=rf'q_proj.*quantised model \(.*{tool}.*stage quantize'):
        act(path)


KINDS = (torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool, torch.float8_e4m3fn)


@pytest.mark.parametrize('kind', [*KINDS, torch.float8_e5m2, torch.complex64])
@pytest.mark.parametrize(
    'name', [f'{QUERY}.weight', 'projector.fc1.bias', 'vision_backbone.featurizer.pos_embed']
)
def test_weights_that_are_no_floats_are_refused(random, edited_checkpoint, kind, name):
    path = edited_checkpoint(random, lambda t: t.update({name: t[name].to(kind)}))
    with pytest.raises(ConfigError, match=f'{name} (is stored as|has the unknown dtype)'):
        act(path)


@pytest.mark.parametrize('kind', [torch.float16, torch.float32, torch.float64])
def test_every_float_is_read(random, edited_checkpoint, kind):
    wanted = act(random)
    path = edited_checkpoint(
        random, lambda tensors: tensors.update({k: v.to(kind) for k, v in tensors.items()})
    )
    np.testing.assert_allclose(act(path), wanted, atol=0.01)


def test_modules_of_oft_among_the_weights_are_refused(random, edited_checkpoint):
    path = edited_checkpoint(random, lambda t: t.update({'action_head.fc1.weight': torch.ones(2)}))
    with pytest.raises(ConfigError, match=r'action_head\.fc1\.weight is of OpenVLA-OFT'):
        act(path)


def test_tensors_that_nobody_reads_are_named(random, edited_checkpoint, caplog):
    path = edited_checkpoint(random, lambda t: t.update({'value_head.weight': torch.ones(2)}))
    np.testing.assert_array_equal(act(path), act(random))
    assert '1 tensors are read by no policy: value_head.weight' in caplog.text


def write_index(path, weight_map):
    (path / INDEX).write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))


@pytest.mark.parametrize('old_shards', [False, True])
def test_the_single_file_wins_over_an_old_index_as_in_transformers(tmp_path, caplog, old_shards):
    path = write_random_checkpoint(tmp_path / 'both', shards=2)
    if old_shards:
        for file in path.glob('model-*'):
            save_file({k: -v for k, v in load_file(file).items()}, file, {'format': 'pt'})
    else:
        for file in path.glob('model-*'):
            file.unlink()
    whole = write_random_checkpoint(tmp_path / 'whole')
    (whole / 'model.safetensors').rename(path / 'model.safetensors')
    assert [shard.path.name for shard in Checkpoint.open(path).shards] == ['model.safetensors']
    assert f'{INDEX} beside it is not' in caplog.text
    again = write_random_checkpoint(tmp_path / 'again')
    np.testing.assert_array_equal(act(path), act(again))


def test_one_shard_named_like_the_whole_is_refused_with_both_names(tmp_path):
    path = write_random_checkpoint(tmp_path / 'part', shards=2)
    (path / 'model-00001-of-00002.safetensors').rename(path / 'model.safetensors')
    with pytest.raises(ConfigError, match=rf'model\.safetensors lacks \d+ of the \d+.*{INDEX}'):
        act(path)


def test_a_shard_that_is_missing_is_named(tmp_path):
    path = write_random_checkpoint(tmp_path / 'part', shards=3)
    (path / 'model-00002-of-00003.safetensors').unlink()
    with pytest.raises(ConfigError, match=r'lacks model-00002-of-00003\.safetensors'):
        act(path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    path = write_random_checkpoint(tmp_path / 'twice', shards=2)
    first, second = (load_file(file) for file in sorted(path.glob('model-*')))
    name = next(iter(first))
    file = path / 'model-00002-of-00002.safetensors'
    save_file({**second, name: first[name]}, file, {'format': 'pt'})
    with pytest.raises(ConfigError, match=r'is the same tensor as .* in model-00001'):
        act(path)


@pytest.mark.parametrize('where', ['absolute', 'above', 'linked', 'below', 'dots', 'pickled'])
def test_an_index_names_files_beside_it_only(tmp_path, where):
    path = write_random_checkpoint(tmp_path / 'inner' / 'given')
    file = path / 'model.safetensors'
    elsewhere = tmp_path / 'inner' / 'other.safetensors'
    elsewhere.write_bytes(file.read_bytes())
    (path / 'link').symlink_to(tmp_path / 'inner')
    (path / 'below').mkdir()
    (path / 'below' / 'x.safetensors').write_bytes(file.read_bytes())
    name = {
        'absolute': str(elsewhere),
        'above': '../other.safetensors',
        'linked': 'link/other.safetensors',
        'below': 'below/x.safetensors',
        'dots': '..',
        'pickled': 'pytorch_model.bin',
    }[where]
    write_index(path, dict.fromkeys(load_file(file), name))
    file.unlink()
    with pytest.raises(ConfigError, match=rf'weight_map has .*{Path(name).name}'):
        act(path)


def test_shards_may_be_symbolic_links_as_in_the_cache_of_the_hub(tmp_path):
    path = write_random_checkpoint(tmp_path / 'snapshots', shards=2)
    wanted = act(path)
    for number, file in enumerate(path.glob('*.safetensors')):
        file.rename(tmp_path / f'blob{number}')
        file.symlink_to(f'../blob{number}')
    np.testing.assert_array_equal(act(path), wanted)
