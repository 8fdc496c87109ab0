"""save_backbone: every byte in its place, read back by the libraries that will read it."""

import json
from pathlib import Path
import shutil

import numpy as np
import onnx
import pytest
from random_checkpoint import write_random_checkpoint
from safetensors.torch import load_file, save_file
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trt_openvla_ros.checkpoints.artifact import (
    LLM_BACKBONE,
    Manifest,
    PROJECTOR,
    VISION,
    VISION_ONNX,
)
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.errors import ArtifactError
from trt_openvla_ros.pipeline import onnx_graph
from trt_openvla_ros.pipeline.command import run
from trt_openvla_ros.pipeline.save_backbone import reload_check, vision_onnx
from trt_openvla_ros.policy import Policy

ROOT = Path(__file__).parents[2]


def save_backbone(checkpoint, artifact, *words):
    given = ['--checkpoint', str(checkpoint), '--artifact', str(artifact), '--device', 'cpu']
    return run('save_backbone', [*given, *words])['save_backbone']


def quick(checkpoint, artifact):
    """Without the parts that need torch."""
    return save_backbone(checkpoint, artifact, '--onnx', 'false', '--test-load', 'false')


@pytest.mark.parametrize('name', ['fused', 'single'])
def test_golden_numbers_come_out_of_every_part(golden_dir, split_artifact, name):
    artifact = split_artifact(name)
    cases = json.loads((golden_dir / name / 'golden.json').read_text())
    arrays = np.load(golden_dir / name / 'golden.npz')
    model = AutoModelForCausalLM.from_pretrained(artifact / LLM_BACKBONE, torch_dtype='float32')
    tokenizer = AutoTokenizer.from_pretrained(artifact / LLM_BACKBONE)
    session = onnx_graph.open_session(artifact / VISION_ONNX)
    for case in cases:
        key = case['case']
        pixels = arrays[f'{key[:5]}0_pixel_values'][0]
        seen = onnx_graph.encode_onnx(session, pixels)
        wanted = arrays[f'{key}_image_embeddings'][0]
        np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-4)
        ids = case['input_ids']
        assert tokenizer(case['prompt'])['input_ids'] == ids[: len(ids) - (ids[-1] == 29871)]
        text = model.get_input_embeddings()(torch.tensor(ids))
        inputs = torch.cat([text[:1], torch.from_numpy(wanted), text[1:]])[None]
        with torch.inference_mode():
            logits = model(inputs_embeds=inputs).logits[0, -1].numpy()
        np.testing.assert_allclose(logits, arrays[f'{key}_last_logits'], rtol=0, atol=1e-4)


def test_graph_has_one_fixed_image_in_and_embeddings_out(split_artifact):
    graph = onnx.load(str(split_artifact('fused') / VISION_ONNX), load_external_data=False).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {'pixel_values': [1, 6, 224, 224], 'image_embeddings': [1, 256, 32]}
    kinds = {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    assert kinds == {onnx.TensorProto.FLOAT}
    assert 'trt_openvla_ros' not in str(graph.node)  # the exporter tells where our sources lie


def test_weights_are_the_same_bytes(golden_dir, split_artifact):
    artifact = split_artifact('fused')
    wanted = load_file(golden_dir / 'fused' / 'model.safetensors')
    found = {**load_file(artifact / VISION), **load_file(artifact / PROJECTOR)}
    backbone = load_file(artifact / LLM_BACKBONE / 'model.safetensors')
    found |= {f'language_model.{name}': tensor for name, tensor in backbone.items()}
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_artifact_is_a_checkpoint(split_artifact, golden_dir):
    image = np.load(golden_dir / 'fused' / 'golden.npz')['case00_image']
    actions = [
        Policy.from_checkpoint(path, 'toy_arm', device='cpu').predict(image, 'push it').action
        for path in (split_artifact('fused'), golden_dir / 'fused')
    ]
    np.testing.assert_array_equal(*actions)


def test_facts_tell_what_was_compared(split_artifact):
    facts = Manifest.read(split_artifact('fused')).facts('save_backbone')
    assert facts['dtype'] == 'bfloat16'
    assert facts['test_load']['layers_compared'] == facts['test_load']['layers'] == 3
    assert facts['test_load']['logits_relative_error'] < 1e-4
    assert facts['onnx']['relative_error'] < 1e-4


@pytest.mark.parametrize(
    ('source', 'dtype'),
    [
        ('test/data/golden/single', 'bfloat16'),
        ('test/data/golden/single', 'float16'),
        # Heads whose width has no square root in bfloat16, as SigLIP's of openvla-7b.
        ('models/tiny_openvla', 'bfloat16'),
    ],
)
def test_graph_in_half_precision_is_checked_too(tmp_path, source, dtype):
    facts = vision_onnx.export_vision(
        Checkpoint.open(ROOT / source), tmp_path / 'vision.onnx', dtype
    )
    assert facts['relative_error'] < vision_onnx.TOLERANCE[dtype]
    assert ('float32' in facts['checked_in']) == (dtype == 'bfloat16')
    graph = onnx.load(str(tmp_path / 'vision.onnx'), load_external_data=False).graph
    name = {'bfloat16': 'BFLOAT16', 'float16': 'FLOAT16'}[dtype]
    kinds = [tensor.data_type for tensor in graph.initializer]
    assert kinds.count(onnx.TensorProto.DataType.Value(name)) > 20
    assert {f.name for f in tmp_path.iterdir()} == {'vision.onnx', 'vision.onnx.data'}


def test_shards_stay_shards(tmp_path):
    source = write_random_checkpoint(tmp_path / 'source', shards=3)
    facts = save_backbone(source, tmp_path / 'artifact', '--onnx', 'false')
    backbone = tmp_path / 'artifact' / LLM_BACKBONE
    assert len(list(backbone.glob('*.safetensors'))) == 3
    assert facts['test_load']['logits_relative_error'] < 1e-3


def test_as_many_layers_as_fit_are_compared(golden_dir, split_artifact):
    checkpoint = Checkpoint.open(golden_dir / 'fused')
    reloaded = Checkpoint.open(split_artifact('fused'))
    embedding = 2 * 4 * 32064 * 32
    layer = 4 * (4 * 32 * 32 + 3 * 32 * 88 + 2 * 32)
    facts = reload_check.compare_reloaded(checkpoint, reloaded, embedding + 2 * layer + 4 * 32)
    assert facts['layers_compared'] == 2


def test_wrong_weights_do_not_pass_the_load_test(golden_dir, split_artifact, tmp_path):
    artifact = tmp_path / 'artifact'
    shutil.copytree(split_artifact('fused'), artifact)
    checkpoint = Checkpoint.open(golden_dir / 'fused')
    file = artifact / LLM_BACKBONE / 'model.safetensors'
    weights = load_file(file)
    weights['model.layers.1.mlp.up_proj.weight'] *= 1.05
    save_file(weights, file)
    with pytest.raises(ArtifactError, match=r'test_load: the logits of LLM_backbone are 0\.'):
        reload_check.compare_reloaded(checkpoint, Checkpoint.open_parts(artifact), 10**9)
    weights = load_file(artifact / VISION)
    weights['vision_backbone.featurizer.pos_embed'][0, 0, 0] += 1
    save_file(weights, artifact / VISION)
    with pytest.raises(ArtifactError, match='test_load: the vision weights'):
        reload_check.compare_reloaded(checkpoint, Checkpoint.open_parts(artifact), 10**9)


def test_tokenizer_config_runs_no_code_and_adds_bos(golden_dir, tmp_path):
    source = tmp_path / 'source'
    shutil.copytree(golden_dir / 'fused', source)
    (source / 'tokenizer_config.json').write_text('{"auto_map": {"AutoProcessor": "evil.Code"}}')
    config = json.loads((source / 'config.json').read_text())
    config['auto_map'] = {'AutoConfig': 'openvla/openvla-7b--evil.Code'}
    (source / 'config.json').write_text(json.dumps(config))
    quick(source, tmp_path / 'artifact')
    for path in (tmp_path / 'artifact').rglob('*.json'):
        assert 'evil' not in path.read_text()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / 'artifact' / LLM_BACKBONE)
    assert tokenizer('put')['input_ids'][0] == 1
