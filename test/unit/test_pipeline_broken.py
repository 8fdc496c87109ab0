"""Checkpoints that cannot be used: each is a sentence, and leaves nothing behind."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
import torch

from trt_openvla_ros.errors import ArtifactError, ConfigError, EngineError
from trt_openvla_ros.pipeline.command import run
from trt_openvla_ros.pipeline.machine import check_gpu_memory, check_memory


def save_backbone(checkpoint, artifact, *words):
    given = ['--checkpoint', str(checkpoint), '--artifact', str(artifact), '--device', 'cpu']
    return run('save_backbone', [*given, *words])['save_backbone']


def quick(checkpoint, artifact):
    """Without the parts that need torch."""
    return save_backbone(checkpoint, artifact, '--onnx', 'false', '--test-load', 'false')


@pytest.fixture
def broken(golden_dir, tmp_path):
    path = tmp_path / 'a checkpoint'
    shutil.copytree(golden_dir / 'fused', path)
    return path


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(content))


def edit_weights(path, edit):
    weights = load_file(path / 'model.safetensors')
    edit(weights)
    save_file(weights, path / 'model.safetensors')


def truncate(path, size):
    with (path / 'model.safetensors').open('r+b') as file:
        file.truncate(size)


EMBEDDING = 'language_model.model.embed_tokens.weight'
BROKEN = {
    'no weights': (
        lambda p: (p / 'model.safetensors').unlink(),
        'lacks model.safetensors',
    ),
    'a shard missing': (
        lambda p: (p / 'model.safetensors.index.json').write_text(
            json.dumps({'weight_map': {'a': 'model.safetensors', 'b': 'model-2.safetensors'}})
        ),
        'lacks model-2.safetensors',
    ),
    'no config': (lambda p: (p / 'config.json').unlink(), 'config.json is missing'),
    'no processor': (
        lambda p: (p / 'preprocessor_config.json').unlink(),
        'preprocessor_config.json is missing',
    ),
    'no tokenizer': (
        lambda p: [(p / f'tokenizer.{kind}').unlink() for kind in ('json', 'model')],
        'neither tokenizer.json nor tokenizer.model',
    ),
    'cut off in the weights': (lambda p: truncate(p, 2_000_000), 'is cut off: '),
    'cut off in the header': (lambda p: truncate(p, 1000), 'is no safetensors file, or cut off'),
    'empty file': (lambda p: truncate(p, 0), '(0 bytes); after a clone, `git lfs pull` brings it'),
    'git lfs pointer': (
        lambda p: (p / 'model.safetensors').write_text('version https://git-lfs.github.com/spec'),
        'git lfs pull',
    ),
    'other model': (
        lambda p: edit_json(p / 'config.json', model_type='llava'),
        "has model_type 'llava'; an OpenVLA checkpoint has 'openvla'",
    ),
    'vocabulary of the config': (
        lambda p: edit_json(p / 'config.json', text_config={'vocab_size': 32128}),
        'has 32064 rows and config.json a vocab_size of 32128; set text_config.vocab_size to 32',
    ),
    'rows of the head': (
        lambda p: edit_weights(
            p,
            lambda w: w.update({'language_model.lm_head.weight': w[EMBEDDING][:32000].clone()}),
        ),
        'lm_head.weight has 32000 rows and config.json a vocab_size of 32064',
    ),
    'vocabulary of the tokenizer': (
        lambda p: (
            edit_json(p / 'config.json', text_config={'vocab_size': 1088}),
            edit_weights(
                p,
                lambda w: w.update(
                    {
                        name: w[name][:1088].clone()
                        for name in (EMBEDDING, 'language_model.lm_head.weight')
                    }
                ),
            ),
        ),
        'the tokenizer has 32000 pieces and the embedding 1088 rows',
    ),
    'a tensor missing': (
        lambda p: edit_weights(p, lambda w: w.pop('language_model.model.norm.weight')),
        'language_model.model.norm.weight is missing; config.json says (32,)',
    ),
    'a tensor of another shape': (
        lambda p: edit_json(p / 'config.json', text_config={'intermediate_size': 96}),
        'is of shape (88, 32); config.json says (96, 32)',
    ),
    'more layers than said': (
        lambda p: edit_json(p / 'config.json', text_config={'num_hidden_layers': 2}),
        'has no place in the Llama of 2 layers',
    ),
    'mixed precision': (
        lambda p: edit_weights(p, lambda w: w.update({EMBEDDING: w[EMBEDDING].float()})),
        'is stored as BF16, F32',
    ),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_checkpoint_is_a_sentence_and_leaves_nothing(broken, tmp_path, name):
    damage, said = BROKEN[name]
    damage(broken)
    with pytest.raises(ConfigError) as error:
        quick(broken, tmp_path / 'artifact')
    assert said in str(error.value)
    assert str(broken) in str(error.value)
    assert not (tmp_path / 'artifact').exists()


def test_missing_vision_weights_are_a_sentence(broken, tmp_path):
    edit_weights(broken, lambda w: w.pop('vision_backbone.featurizer.pos_embed'))
    with pytest.raises(ConfigError, match=r'vision_backbone\.featurizer\.\* do not fit'):
        save_backbone(broken, tmp_path / 'artifact', '--test-load', 'false')
    assert not (tmp_path / 'artifact').exists()


def test_no_such_checkpoint_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match='is neither a directory nor a Hub id'):
        quick(tmp_path / 'nothing', tmp_path / 'artifact')


def test_artifact_inside_its_checkpoint_is_refused(broken):
    before = sorted(broken.iterdir())
    with pytest.raises(ArtifactError, match='set it to another directory'):
        quick(broken, broken)
    with pytest.raises(ArtifactError, match='set it to another directory'):
        quick(broken, broken / 'artifact')
    assert sorted(broken.iterdir()) == before


def test_too_little_memory_is_a_sentence():
    with pytest.raises(EngineError, match=r'and 1000000000\.0 GB are needed; buy some'):
        check_memory(10**18, 'buy some')
    check_memory(1, 'none')


def test_too_little_memory_of_the_gpu_is_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda _: (10**9, 24 * 10**9))
    gpu = torch.device('cuda:0')
    with pytest.raises(EngineError, match=r'cuda:0 has 1\.0 GB of 24\.0 GB free and 2\.0 GB are'):
        check_gpu_memory(gpu, 2 * 10**9, 'set device to cpu')
    check_gpu_memory(gpu, 10**9, 'none')
    check_gpu_memory(torch.device('cpu'), 10**18, 'none')
