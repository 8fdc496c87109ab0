"""Files of checkpoints and artifacts with any value replaced: each loads or is refused by name."""

import copy
import json
from pathlib import Path
from resource import getrusage, RUSAGE_SELF
import shutil

import numpy as np
import pytest
from recorded import record

from trt_openvla_ros.checkpoints.artifact import Manifest
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.tokenizer import ADDED, CONFIG, copy_tokenizer, SPECIAL, Tokenizer
from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.codec import encode_description
from trt_openvla_ros.engines.tensorrt_llm.config import EngineConfig
from trt_openvla_ros.errors import ConfigError, PolicyError
from trt_openvla_ros.pipeline.save_backbone.reload_check import _compare_tokenizers
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.spec import ModelSpec

ROOT = Path(__file__).parents[2]
SOURCES = {
    **{name: ROOT / 'models' / name for name in ('tiny_openvla', 'tiny_ecot')},
    **{name: ROOT / 'test' / 'data' / 'golden' / name for name in ('fused', 'single')},
}
DELETED = object()
VALUES = [
    *(DELETED, None, True, -1, 0, 3.0, 1_000_000, 10**30, 10**400, float('nan'), float('inf')),
    *('', 'text', [], {}, [[1]], ['text'], {'a': {'b': None}}),
]
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def places(value, at=()):
    """Give the place of every value; of long lists and tables, that of the first and the last."""
    yield at
    inside = list(value.items() if isinstance(value, dict) else enumerate(value))
    if isinstance(value, list) or len(inside) > 40:
        inside = [inside[i] for i in sorted({0, len(inside) - 1}) if inside]
    for key, one in inside:
        yield from places(one if isinstance(one, dict | list) else (), (*at, key))


def replaced(content, at, value):
    if not at:
        return {} if value is DELETED else value
    changed = copy.deepcopy(content)
    inside = changed
    for step in at[:-1]:
        inside = inside[step]
    if value is DELETED:
        del inside[at[-1]]
    else:
        inside[at[-1]] = value
    return changed


def variants(file):
    """Write every variant into the file, one after the other, and give what was done."""
    content = json.loads(file.read_text())
    for at in places(content):
        for value in VALUES:
            file.write_text(json.dumps(replaced(content, at, value)))
            shown = 'deleted' if value is DELETED else f'{value!r:.40}'
            yield '.'.join(map(str, at)), shown


def check(file, load, *names):
    """Load every variant of a file; count those that load and those that are refused.

    A refusal names the file or the key, or else one of names.
    """
    loaded = refused = 0
    for place, shown in variants(file):
        try:
            load()
            loaded += 1
        except PolicyError as error:
            message = str(error)
        except BaseException as error:
            raise AssertionError(f'{file.name}: {place} {shown}: {error!r}') from error
        else:
            continue
        refused += 1
        key = place.rpartition('.')[2]
        told = any(name in message for name in (file.name, key, *names))
        assert told, f'{place} {shown}: {message}'
        assert message.isprintable() or '\n' in message
        assert len(message) < 2000
    return loaded, refused


def read(path):
    """Read all that is known of a checkpoint before its weights are."""
    checkpoint = Checkpoint.open(path)
    keys = tuple(checkpoint.statistics)
    spec = ModelSpec.read(checkpoint, keys[0] if keys else None)
    spec.views(IMAGE)
    return checkpoint.towers, checkpoint.llm, checkpoint.image_tokens, spec.lengths


@pytest.mark.parametrize('file', ['config.json', 'preprocessor_config.json'])
@pytest.mark.parametrize('source', SOURCES)
def test_files_of_a_checkpoint(tmp_path, source, file):
    path = shutil.copytree(SOURCES[source], tmp_path / 'a checkpoint')
    assert all(check(path / file, lambda: read(path)))


@pytest.mark.parametrize('source', ['tiny_openvla', 'single'])
def test_a_tokenizer(tmp_path, source):
    path = shutil.copytree(SOURCES[source], tmp_path / 'a checkpoint')
    assert all(check(path / 'tokenizer.json', lambda: Tokenizer(path)))


@pytest.mark.parametrize('file', [CONFIG, SPECIAL, ADDED])
def test_what_transformers_reads_beside_a_tokenizer(tmp_path, file):
    path = shutil.copytree(SOURCES['single'], tmp_path / 'a checkpoint')
    checkpoint = Checkpoint.open(path)

    def load():
        copy_tokenizer(path, tmp_path)
        _compare_tokenizers(checkpoint, tmp_path)

    loaded, _ = check(path / file, load, 'AutoTokenizer')
    assert loaded


def test_statistics_beside_a_checkpoint(tmp_path):
    path = shutil.copytree(SOURCES['fused'], tmp_path / 'a checkpoint')
    stats = json.loads((path / 'config.json').read_text())['norm_stats']
    (path / 'dataset_statistics.json').write_text(json.dumps(stats))
    assert all(check(path / 'dataset_statistics.json', lambda: read(path)))


def test_an_index_of_shards(tmp_path):
    path = shutil.copytree(SOURCES['single'], tmp_path / 'a checkpoint')
    weights = (path / 'model.safetensors').rename(path / 'model-1.safetensors')
    index = {'metadata': {'total_size': 1}, 'weight_map': {'a': weights.name, 'b': weights.name}}
    (path / 'model.safetensors.index.json').write_text(json.dumps(index))
    assert all(check(path / 'model.safetensors.index.json', lambda: read(path)))


@pytest.mark.parametrize('place', ['config.json', 'manifest.json'])
def test_files_of_an_artifact(split_artifact, tmp_path, place):
    path = shutil.copytree(split_artifact('single'), tmp_path / 'an artifact')

    def load():
        if place != 'manifest.json':
            record(path)
        read(path)
        Manifest.read(path)

    _, refused = check(path / place, load)
    assert refused


@pytest.mark.parametrize('folder', ['trtllm_checkpoint', 'language_engine'])
def test_files_of_engines(engine_artifact, tmp_path, folder):
    source = engine_artifact('single')
    path = shutil.copytree(source / folder, tmp_path / folder)
    expected = Checkpoint.open(source).llm

    def load():
        if folder == 'trtllm_checkpoint':
            TrtllmCheckpoint.open(path, expected=expected)
        else:
            config = EngineConfig.open(path)
            assert (config.image_room, config.cache_tokens) >= (0, 0)

    assert all(check(path / 'config.json', load))


def test_what_loads_also_predicts_and_is_sent(tmp_path):
    path = shutil.copytree(SOURCES['fused'], tmp_path / 'a checkpoint')
    rng = np.random.default_rng(0)

    def load():
        read(path)  # what this refuses is quick
        if rng.random() < 0.05:
            policy = Policy.from_checkpoint(path, 'toy_arm', device='cpu')
            json.dumps(encode_description(policy.description), allow_nan=False)
            assert np.isfinite(policy.predict(IMAGE, 'push it').actions).all()

    for file in ('config.json', 'preprocessor_config.json'):
        original = (path / file).read_text()
        check(path / file, load)
        (path / file).write_text(original)


SIZES = ('vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers')
SIZES += ('num_attention_heads', 'num_key_value_heads', 'head_dim', 'max_position_embeddings')


@pytest.mark.parametrize('size', [0, -1, 3.0, True, '8', 1 << 16, 1 << 20, 10**9, 10**30])
@pytest.mark.parametrize('key', SIZES)
def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path, key, size):
    path = shutil.copytree(SOURCES['fused'], tmp_path / 'a checkpoint')
    config = json.loads((path / 'config.json').read_text())
    config['text_config'][key] = size
    (path / 'config.json').write_text(json.dumps(config))
    before = getrusage(RUSAGE_SELF).ru_maxrss
    if key == 'max_position_embeddings' and size in (1 << 16, 1 << 20):
        read(path)  # llm_max_length limits it
    else:
        with pytest.raises(ConfigError, match=r'config\.json'):
            Policy.from_checkpoint(path, 'toy_arm', device='cpu')
    assert getrusage(RUSAGE_SELF).ru_maxrss < before + 300_000  # [kB]; torch itself takes some
