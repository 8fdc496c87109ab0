"""TensorRT-LLM checkpoints that are broken, odd, or written by other tools than modelopt."""

import dataclasses
import json
import shutil

from modelopt_reference import quantise, random_llama
import pytest
from safetensors.torch import load_file, save_file
import torch

from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.engines.torch.language import TorchLanguage
from trt_openvla_ros.engines.torch.linears import Dense, Fp8
from trt_openvla_ros.errors import ConfigError

IDS = [1, 5, 7, 300, 12]
LAYER = 'transformer.layers.1.'


def load(path, **kwargs):
    checkpoint = TrtllmCheckpoint.open(path, **kwargs)
    return TorchLanguage(checkpoint, torch.device('cpu'), torch.float32)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """One exported directory of each format that is asked for."""
    made = {}

    def export(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            embeddings = torch.randn(4, 24, 128, generator=torch.Generator().manual_seed(1))
            model = random_llama(torch.float32, num_hidden_layers=2)
            quantise(model, name, embeddings, made[name])
        return made[name]

    return export


@pytest.fixture
def edited(exported, tmp_path):
    """Copy an exported checkpoint and change its configuration and its tensors, both dicts."""

    def copy(name, config=None, tensors=None):
        path = tmp_path / 'edited'
        shutil.copytree(exported(name), path)
        if config:
            values = json.loads((path / 'config.json').read_text())
            config(values)
            (path / 'config.json').write_text(json.dumps(values))
        if tensors:
            values = load_file(path / 'rank0.safetensors')
            tensors(values)
            save_file(values, path / 'rank0.safetensors')
        return path

    return copy


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'architecture': 'GPTForCausalLM'}, "architecture 'GPTForCausalLM'; supported: Llama"),
        ({'hidden_act': 'gelu'}, "hidden_act 'gelu' is not supported; only 'silu'"),
        ({'rotary_scaling': {'type': 'linear'}}, 'rotary_scaling .* only None'),
        ({'mapping': {'world_size': 2, 'tp_size': 2}}, 'split over 2 GPUs; quantise again'),
        ({'moe': {'num_experts': 8}}, 'mixture of experts'),
        ({'quantization': {'quant_algo': 'NVFP4'}}, "'NVFP4' is not supported.*bf16, fp8, int4"),
        ({'quantization': {'kv_cache_quant_algo': 'INT8'}}, "'INT8' is not supported; only 'FP8'"),
        ({'pretrained_config': {}, 'version': '1.2.1'}, r"built engine \(version '1\.2\.1'\)"),
        ({'hidden_size': 'wide'}, r'config\.json: hidden_size is "wide"; .*quantise again'),
        ({'intermediate_size': 512}, r'mlp\.fc\.weight is of shape \(384, 128\).*\(512, 128\)'),
        ({'num_hidden_layers': 3}, r'layers\.2\.input_layernorm\.weight is missing'),
        ({'num_hidden_layers': 1}, r'layers\.1\..* \(and \d+ more\) has no place in the Llama'),
        ({'quantization': {'quant_algo': None}}, r'qkv\.weight is torch\.float8.*means torch\.bf'),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(edited, change, message):
    path = edited('fp8', config=lambda values: values.update(change))
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_a_configuration_of_another_release_is_refused(edited):
    path = edited('bf16', config=lambda values: values.pop('norm_epsilon'))
    with pytest.raises(ConfigError, match='norm_epsilon is missing; another release wrote it'):
        load(path)


@pytest.mark.parametrize('text', ['', '{"architecture": ', '[]', None])
def test_a_configuration_that_cannot_be_read_is_refused(exported, tmp_path, text):
    if text is not None:
        (tmp_path / 'config.json').write_text(text)
    with pytest.raises(ConfigError, match=r'config\.json (is missing|is not JSON|holds a)'):
        load(tmp_path)


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('fp8', lambda t: t.pop(f'{LAYER}mlp.proj.weight'), r'1\.mlp\.proj\.weight is missing'),
        (
            'fp8',
            lambda t: t.pop(f'{LAYER}mlp.gate.activation_scaling_factor'),
            r'gate\.activation_scaling_factor is missing',
        ),
        (
            'fp8',
            lambda t: t.update({f'{LAYER}mlp.gate.weights_scaling_factor': torch.ones(384)}),
            r'weights_scaling_factor is of shape \(384,\); config\.json says \(1,\)',
        ),
        (
            'fp8',
            lambda t: t[f'{LAYER}attention.qkv.weights_scaling_factor'].fill_(torch.nan),
            r'qkv\.weights_scaling_factor is nan; a scale is positive and finite',
        ),
        (
            'fp8',
            lambda t: t.update({f'{LAYER}attention.dense.weight': torch.ones(128, 128)}),
            r'dense\.weight is torch\.float32; config\.json means torch\.float8_e4m3fn',
        ),
        (
            'fp8',
            lambda t: t.update({'lm_head.weights_scaling_factor': torch.ones(1)}),
            'lm_head is quantised.*quantise again with lm_head excluded',
        ),
        (
            'bf16',
            lambda t: t.update({f'{LAYER}attention.qkv.bias': torch.ones(256)}),
            r'qkv\.bias \(and 0 more\) has no place',
        ),
        (
            'bf16',
            lambda t: t.update({f'{LAYER}attention.kv_cache_scaling_factor': torch.ones(1)}),
            r'kv_cache_scaling_factor \(and 0 more\) has no place',
        ),
        ('bf16', lambda t: t.pop('lm_head.weight'), r'lm_head\.weight is missing'),
        (
            'int4_awq',
            lambda t: t.pop(f'{LAYER}mlp.fc.prequant_scaling_factor'),
            r'fc\.prequant_scaling_factor is missing',
        ),
        (
            'int8_sq',
            lambda t: t.update({f'{LAYER}mlp.fc.weights_scaling_factor': torch.ones(1)}),
            r'weights_scaling_factor is of shape \(1,\); config\.json says \(384,\)',
        ),
    ],
)
def test_a_tensor_that_is_missing_or_odd_is_named(edited, name, change, message):
    with pytest.raises(ConfigError, match=message):
        load(edited(name, tensors=change))


def test_awq_of_a_group_size_that_does_not_fit_is_refused(edited):
    def change(values):
        values['quantization']['group_size'] = 100

    with pytest.raises(ConfigError, match='128 inputs, no multiple of group_size 100'):
        load(edited('int4_awq', config=change))


@pytest.mark.parametrize('size', [0, 5, 1000, -1000])
def test_a_file_that_is_cut_off_is_refused(edited, size):
    path = edited('bf16')
    file = path / 'rank0.safetensors'
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ConfigError, match='is cut off or no safetensors file, quantise again'):
        load(path)


def test_a_missing_file_is_named(edited):
    path = edited('bf16')
    (path / 'rank0.safetensors').unlink()
    with pytest.raises(ConfigError, match=r'rank0\.safetensors is missing'):
        load(path)


def test_rows_of_padding_are_left_out(edited):
    def pad(tensors):
        for name in ('transformer.vocab_embedding.weight', 'lm_head.weight'):
            rows = tensors[name]
            # Not zeros, so that a row that is read would show.
            tensors[name] = torch.cat([rows, torch.full((64, 128), 9.0, dtype=rows.dtype)])

    path = edited('bf16', config=lambda v: v.update(vocab_size=384), tensors=pad)
    expected = TrtllmCheckpoint.open(path).llm
    expected = dataclasses.replace(expected, vocab_size=320, max_positions=64)
    engine = load(path, expected=expected)
    assert (len(engine.weights.embedding), len(engine.weights.head)) == (320, 320)
    assert engine.config.max_positions == 64
    with pytest.raises(ConfigError, match='vocabulary of 384 and the checkpoint beside it of 400'):
        load(path, expected=dataclasses.replace(expected, vocab_size=400))
    with pytest.raises(ConfigError, match=r'another model.*hidden_size is 128 here and 64 there'):
        load(path, expected=dataclasses.replace(expected, hidden_size=64))


def test_bytes_of_fp8_may_be_stored_as_int8(exported, edited):
    def change(tensors):
        for name, tensor in tensors.items():
            if tensor.dtype == torch.float8_e4m3fn:
                tensors[name] = tensor.view(torch.int8)

    embeddings = torch.randn(16, 128, generator=torch.Generator().manual_seed(3))
    expected = load(exported('fp8')).first_logits(IDS, embeddings)
    actual = load(edited('fp8', tensors=change)).first_logits(IDS, embeddings)
    assert (actual == expected).all()


def test_modules_may_be_excluded(edited):
    def config(values):
        values['quantization']['exclude_modules'] = ['lm_head', 'layers.1.mlp*']

    def tensors(values):
        for name in list(values):
            if name.startswith(f'{LAYER}mlp.'):
                if name.endswith('_factor'):
                    del values[name]
                else:
                    values[name] = values[name].bfloat16()

    first, second = load(edited('fp8', config, tensors)).weights.layers
    assert type(first.gate_up) is type(second.qkv) is Fp8
    assert type(second.gate_up) is type(second.down) is Dense


def test_the_larger_scale_of_keys_and_values_counts(edited):
    def change(tensors):
        tensors[f'{LAYER}attention.v_cache_scaling_factor'] = torch.tensor([1.5])
        tensors.pop('transformer.layers.0.attention.k_cache_scaling_factor')
        tensors.pop('transformer.layers.0.attention.v_cache_scaling_factor')
        tensors['transformer.layers.0.attention.kv_cache_scaling_factor'] = torch.tensor([2.5])
        tensors['transformer.layers.0.attention.kv_cache_rcp_scaling_factor'] = torch.tensor([0.4])

    engine = load(edited('fp8', tensors=change))
    assert [layer.cache_scale.item() for layer in engine.weights.layers] == [2.5, 1.5]


def test_embeddings_may_be_tied(edited):
    path = edited(
        'bf16',
        config=lambda values: values.update(share_embedding_table=True),
        tensors=lambda values: values.pop('lm_head.weight'),
    )
    engine = load(path)
    assert torch.equal(engine.weights.head, engine.weights.embedding)
