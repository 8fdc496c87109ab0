"""The export of one layer at a time: modelopt's own numbers, and an end if layers differ."""

import json

from modelopt_reference import FORMATS, random_llama
import pytest
from safetensors.torch import load_file
import torch

from trt_openvla_ros.errors import EngineError
from trt_openvla_ros.pipeline.quantize import modelopt_export
from trt_openvla_ros.pipeline.quantize.layer_export import LayerExport


@pytest.fixture
def model():
    llama = random_llama(torch.bfloat16)
    llama.config.architectures = ['LlamaForCausalLM']
    return llama


def quantise(model, directory, qformat, dtype):
    torch.manual_seed(0)
    inputs = list(torch.randn(2, 1, 16, model.config.hidden_size).bfloat16())
    kind = {'fp8_cache': qformat == 'fp8', 'awq_block_size': 64, 'dtype': dtype}
    directory.mkdir()
    modelopt_export.export(model, inputs, directory, qformat=qformat, **kind)


def stored(directory):
    return load_file(directory / 'rank0.safetensors'), json.loads(
        (directory / 'config.json').read_text()
    )


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
@pytest.mark.parametrize('qformat', FORMATS[1:])
def test_file_is_bit_for_bit_what_modelopt_writes(model, tmp_path, qformat, dtype):
    from modelopt.torch.export import export_tensorrt_llm_checkpoint

    quantise(model, tmp_path / 'ours', qformat, dtype)
    with torch.inference_mode():
        export_tensorrt_llm_checkpoint(
            model,
            'llama',
            getattr(torch, dtype),
            export_dir=tmp_path / 'theirs',
            inference_tensor_parallel=1,
            inference_pipeline_parallel=1,
        )
    found, config = stored(tmp_path / 'ours')
    wanted, their_config = stored(tmp_path / 'theirs')
    assert config == their_config
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        ours, theirs = (entry.reshape(-1).view(torch.uint8) for entry in (found[name], tensor))
        assert torch.equal(ours, theirs), name


@pytest.mark.filterwarnings('ignore')
def test_rows_that_modelopt_pads_are_padded_once(tmp_path):
    """AWQ needs a vocabulary of a multiple of 64."""
    model = random_llama(torch.bfloat16, vocab_size=300)
    model.config.architectures = ['LlamaForCausalLM']
    quantise(model, tmp_path / 'ours', 'int4_awq', 'bfloat16')
    found, config = stored(tmp_path / 'ours')
    assert config['vocab_size'] == len(found['lm_head.weight']) == 320
    embedding = torch.nn.functional.pad(model.get_input_embeddings().weight, (0, 0, 0, 20))
    assert torch.equal(found['transformer.vocab_embedding.weight'], embedding)
    assert model.config.vocab_size == 300


@pytest.mark.filterwarnings('ignore')
def test_a_layer_that_was_quantised_otherwise_is_refused(model, tmp_path):
    quantise(model, tmp_path / 'ours', 'fp8', 'bfloat16')
    model.model.layers[2].mlp.down_proj.weight_quantizer.disable()
    with torch.inference_mode():
        pieces = LayerExport(model, torch.bfloat16).pieces
        said = r'layer 2 otherwise than layer 0: transformer\.layers\.0\.mlp\.proj\.'
        with pytest.raises(EngineError, match=said):
            _ = [list(piece.read()) for piece in pieces.values()]
    assert len(model.model.layers) == 3


@pytest.mark.filterwarnings('ignore')
def test_each_layer_is_exported_once(model, tmp_path, monkeypatch):
    from trt_openvla_ros.pipeline.quantize import layer_export

    exported, original = [], layer_export.torch_to_tensorrt_llm_checkpoint

    def count(given, *args, **kwargs):
        exported.append(list(given.model.layers))
        return original(given, *args, **kwargs)

    monkeypatch.setattr(layer_export, 'torch_to_tensorrt_llm_checkpoint', count)
    quantise(model, tmp_path / 'ours', 'int8_sq', 'bfloat16')
    assert exported == [[layer] for layer in model.model.layers]
