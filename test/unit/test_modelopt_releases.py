"""Quantisation with every release of modelopt, and where TensorRT-LLM is installed as well.

The installed modelopt has one form of recipes; both are recorded here.
"""

import copy
from importlib import import_module
import json
import sys
from types import SimpleNamespace

from modelopt_reference import random_llama
import pytest
import torch

from trt_openvla_ros.errors import EngineError
from trt_openvla_ros.pipeline.quantize.modelopt_export import export
from trt_openvla_ros.pipeline.quantize.modelopt_releases import (
    make_recipe,
    without_tensorrt_llm,
)

OFF = {'enable': False}
FP8 = {'num_bits': (4, 3), 'axis': None}
AWQ = {'num_bits': 4, 'block_sizes': {-1: 128, 'type': 'static'}}


def releases(awq=AWQ, cache=FP8):
    """Give the parts that we use of modelopt 0.37's recipes, and of 0.47's."""
    old = {
        'FP8_DEFAULT_CFG': {'*weight_quantizer': FP8, '*input_quantizer': FP8, 'default': OFF},
        'INT4_AWQ_CFG': {'*weight_quantizer': awq, '*input_quantizer': OFF, 'default': OFF},
        'FP8_KV_CFG': {'*[kv]_bmm_quantizer': cache, 'default': OFF},
    }
    new = {
        'FP8_DEFAULT_CFG': [
            {'quantizer_name': '*', **OFF},
            {'quantizer_name': '*weight_quantizer', 'cfg': FP8},
            {'quantizer_name': '*input_quantizer', 'cfg': FP8},
        ],
        'INT4_AWQ_CFG': [
            {'quantizer_name': '*', **OFF},
            {'quantizer_name': '*weight_quantizer', 'cfg': awq},
            {'quantizer_name': '*input_quantizer', **OFF},
            {'parent_class': 'nn.BatchNorm1d', 'quantizer_name': '*', **OFF},
        ],
        'FP8_KV_CFG': [{'quantizer_name': '*[kv]_bmm_quantizer', 'cfg': cache}],
    }
    return [
        SimpleNamespace(**{name: {'quant_cfg': copy.deepcopy(v)} for name, v in form.items()})
        for form in (old, new)
    ]


def test_recipes_of_both_forms_take_our_settings():
    old, new = releases()
    block = {'num_bits': 4, 'block_sizes': {-1: 64, 'type': 'static'}}
    expected = releases(awq=block)
    for release, wanted in zip((old, new), expected, strict=True):
        before = copy.deepcopy(release)
        awq = make_recipe(release, 'int4_awq', fp8_cache=False, awq_block_size=64)
        assert awq == wanted.INT4_AWQ_CFG
        plain = make_recipe(release, 'fp8', fp8_cache=False, awq_block_size=64)
        assert plain == release.FP8_DEFAULT_CFG
        assert release == before
    cached = make_recipe(old, 'fp8', fp8_cache=True, awq_block_size=64)['quant_cfg']
    assert cached == old.FP8_DEFAULT_CFG['quant_cfg'] | old.FP8_KV_CFG['quant_cfg']
    cached = make_recipe(new, 'fp8', fp8_cache=True, awq_block_size=64)['quant_cfg']
    assert cached == new.FP8_DEFAULT_CFG['quant_cfg'] + new.FP8_KV_CFG['quant_cfg']


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (SimpleNamespace(), 'has no INT4_AWQ_CFG as releases .*, but None; pip install'),
        (SimpleNamespace(INT4_AWQ_CFG={'quant_cfg': 'a.yaml'}), 'has no INT4_AWQ_CFG'),
        (SimpleNamespace(INT4_AWQ_CFG={'quant_cfg': []}), 'sets no block_sizes .*but'),
        (SimpleNamespace(INT4_AWQ_CFG={'quant_cfg': {}}), 'sets no block_sizes .*but'),
        (SimpleNamespace(INT4_AWQ_CFG={'quant_cfg': ['x', {'quantizer_name': 'y'}]}), 'sets no'),
        *((release, 'sets no block_sizes') for release in releases(awq={'num_bits': 4})),
    ],
)
def test_a_form_that_nobody_knows_yet_is_an_error_of_ours(wrong, message):
    with pytest.raises(EngineError, match=message):
        make_recipe(wrong, 'int4_awq', fp8_cache=False, awq_block_size=64)


def test_the_installed_release_has_one_of_the_forms():
    installed = import_module('modelopt.torch.quantization')
    for qformat in ('fp8', 'int4_awq', 'int8_sq'):
        recipe = make_recipe(installed, qformat, fp8_cache=qformat == 'fp8', awq_block_size=64)
        assert '{-1: 64' in str(recipe) or qformat != 'int4_awq'


TENSORRT_LLM = """
class Config:
    @classmethod
    def from_hugging_face(cls, **_):
        return cls()

    def to_dict(self):
        mapping = {'world_size': 1, 'tp_size': 1, 'pp_size': 1}
        return {'quantization': {'quant_algo': 'of TensorRT-LLM'}, 'mapping': mapping}

class Model:
    config_class = Config

MODEL_MAP = {'LlamaForCausalLM': Model}
"""
MODELING_UTILS = """
class Mapping(dict):
    from_dict = classmethod(lambda cls, values: cls(values))

class QuantConfig(Mapping):
    pass
"""


@pytest.fixture
def tensorrt_llm(tmp_path, monkeypatch):
    """Install as much of TensorRT-LLM as modelopt's export asks for."""
    models = tmp_path / 'site' / 'tensorrt_llm' / 'models'
    models.mkdir(parents=True)
    (models.parent / '__init__.py').write_text('__version__ = "1.2.1"\n')
    (models / '__init__.py').write_text(TENSORRT_LLM)
    (models / 'modeling_utils.py').write_text(MODELING_UTILS)
    monkeypatch.syspath_prepend(str(models.parents[1]))
    yield
    for name in [name for name in sys.modules if name.split('.')[0] == 'tensorrt_llm']:
        del sys.modules[name]


def exported(directory):
    directory.mkdir()
    model = random_llama(torch.float32)
    model.config.architectures = ['LlamaForCausalLM']
    inputs = [torch.randn(1, 16, 128)]
    kind = {'qformat': 'fp8', 'fp8_cache': True, 'awq_block_size': 128, 'dtype': 'bfloat16'}
    export(model, inputs, directory, **kind)
    return json.loads((directory / 'config.json').read_text())


@pytest.mark.parametrize('imported', [False, True])
@pytest.mark.usefixtures('tensorrt_llm')
def test_export_takes_the_same_path_where_tensorrt_llm_is_installed(tmp_path, imported):
    before = import_module('tensorrt_llm.models') if imported else None
    quantization = exported(tmp_path / 'exported')['quantization']
    assert (quantization['quant_algo'], quantization['kv_cache_quant_algo']) == ('FP8', 'FP8')
    assert sys.modules.get('tensorrt_llm.models') is before
    assert ('tensorrt_llm' in sys.modules) == imported


@pytest.mark.usefixtures('tensorrt_llm')
def test_tensorrt_llm_is_back_afterwards_even_after_an_error():
    with pytest.raises(ImportError), without_tensorrt_llm():
        import_module('tensorrt_llm')
    assert import_module('tensorrt_llm').__version__ == '1.2.1'
