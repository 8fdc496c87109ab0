"""The formats in which the torch engine holds weights, from the parameter to the device."""

import pytest
from random_checkpoint import write_random_checkpoint
import torch

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.base import WEIGHTS
from trt_openvla_ros.engines.torch import weight_only
from trt_openvla_ros.engines.torch.language import TorchLanguage
from trt_openvla_ros.engines.torch.linears import Dense
from trt_openvla_ros.engines.torch.llama_weights import Tensors
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.loading import ModelSettings, open_policy

CPU = torch.device('cpu')
IDS = [1, 512, 29901, 1724, 3158, 29871]
# Measured: relative errors of 0, 0.13, 0.02 and 0.51, of the logits of a random model.
LIMITS = {'bfloat16': 1e-9, 'fp8': 0.2, 'int8': 0.05, 'int4': 0.7}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    llm = {'hidden_size': 128, 'intermediate_size': 320}
    return Checkpoint.open(write_random_checkpoint(tmp_path_factory.mktemp('llm'), llm=llm))


@pytest.fixture(scope='module')
def embeddings():
    return torch.randn(16, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('weights', WEIGHTS)
def test_fewer_bits_cost_some_precision(checkpoint, embeddings, weights):
    wanted = TorchLanguage(checkpoint, CPU, torch.float32).first_logits(IDS, embeddings)
    engine = TorchLanguage(checkpoint, CPU, torch.float32, weights)
    found = engine.first_logits(IDS, embeddings)
    error = float(((found - wanted) ** 2).sum() ** 0.5 / (wanted**2).sum() ** 0.5)
    # The checkpoint is stored in bfloat16.
    assert (error == 0) == (weights == 'bfloat16')
    assert error < LIMITS[weights]
    assert (type(engine.weights.layers[0].qkv) is Dense) == (weights == 'bfloat16')
    # Embedding, norms and head are as they were.
    plain = TorchLanguage(checkpoint, CPU, torch.float32).weights
    for name in ('embedding', 'norm', 'head'):
        assert torch.equal(getattr(engine.weights, name), getattr(plain, name))


def test_a_device_holds_one_layer_beside_what_is_quantised(checkpoint, monkeypatch):
    """What is still to be quantised stays in the mapped file."""
    taken, held = [], []
    take = Tensors.take
    monkeypatch.setattr(
        Tensors, 'take', lambda self, *args, **kw: taken.append(args[0]) or take(self, *args, **kw)
    )
    quantise = weight_only.quantise

    def note(weight, weights):
        held.append(len(taken))
        return quantise(weight, weights)

    monkeypatch.setattr('trt_openvla_ros.engines.torch.llama_weights.quantise', note)
    TorchLanguage(checkpoint, CPU, torch.float32, 'int8')
    layers = checkpoint.llm.num_layers
    # Four products of each layer, each quantised before the next is taken.
    assert len(held) == 4 * layers
    assert held == sorted(set(held))


def test_policies_act_in_each_format(golden_dir):
    for weights in ('bfloat16', 'fp8', 'int8'):  # the golden widths have no groups for int4
        settings = ModelSettings(
            checkpoint=str(golden_dir / 'fused'), unnorm_key='toy_arm', weights=weights
        )
        assert open_policy(settings).description.engine == 'torch'


def test_an_unknown_format_or_another_engine_is_refused(golden_dir):
    path = golden_dir / 'fused'
    with pytest.raises(ConfigError, match=r"'int3'; known: bfloat16, fp8, int8, int4"):
        Policy.from_checkpoint(path, 'toy_arm', weights='int3')
    with pytest.raises(ConfigError, match=r'only engine torch quantises.*quantize\.qformat'):
        Policy.from_checkpoint(path, 'toy_arm', engine='tensorrt_llm', weights='int4')


def test_a_width_that_has_no_groups_is_refused(tmp_path):
    llm = {'hidden_size': 24, 'intermediate_size': 40, 'num_attention_heads': 2}
    checkpoint = Checkpoint.open(write_random_checkpoint(tmp_path, llm=llm))
    with pytest.raises(ConfigError, match=r'24 inputs, which 16 does not divide.*int8'):
        TorchLanguage(checkpoint, CPU, torch.float32, 'int4')
