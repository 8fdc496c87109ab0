"""Weights quantised at load: how exact they are, and what is refused."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from trt_openvla_ros.engines.torch import weight_only
from trt_openvla_ros.engines.torch.kernels import operators
from trt_openvla_ros.engines.torch.linears import Dense
from trt_openvla_ros.engines.torch.product import Norm, SideBySide
from trt_openvla_ros.engines.torch.weight_only import (
    FORMATS,
    pack_int4,
    quantise,
    unpack_words,
    WeightOnly,
)
from trt_openvla_ros.errors import ConfigError


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ('weights', 'bound'),
    # Measured on normal numbers: 0.0265, 0.0087 (0.0090 in bfloat16) and 0.098.
    [('fp8', 0.028), ('int8', 0.0095), ('int4', 0.1)],
)
def test_error_is_that_of_the_format(weights, bound, dtype):
    weight = 0.02 * random(96, 1024)
    weight[3] *= 100  # a scale for all rows would lose the others
    linear = quantise(weight.to(dtype), weights)
    found = linear.dequantised()
    assert found.dtype is dtype
    error = (found.float() - weight).norm(dim=1) / weight.norm(dim=1)
    assert error.square().mean().sqrt() < bound
    hidden, norm = random(3, 1024, seed=1).to(dtype), Norm(random(1024, seed=2).to(dtype), 1e-5)
    assert torch.equal(linear(hidden, norm), Dense(found)(hidden, norm))


def test_clipping_is_searched():
    # One weight of 8 among many below 1 would take all the steps for itself.
    weight = torch.zeros(1, 128).uniform_(-1, 1, generator=torch.Generator().manual_seed(3))
    weight[0, 5] = 1.4
    linear = quantise(weight, 'int4')
    whole = (weight / (1.4 / 8)).round().clamp(-7, 8) * (1.4 / 8)
    assert (linear.dequantised() - weight).norm() < (whole - weight).norm()


@pytest.mark.parametrize('weights', ['fp8', 'int4'])
def test_weights_are_exact_in_bfloat16(weights):
    linear = quantise(random(64, 512).bfloat16(), weights)
    wide = WeightOnly(linear.stored, linear.scale, 512, torch.float32)
    assert torch.equal(linear.dequantised().float(), wide.dequantised())


@pytest.mark.parametrize(('inputs', 'groups'), [(256, 2), (192, 3), (96, 3), (48, 3), (80, 5)])
def test_groups_are_as_large_as_they_divide(inputs, groups):
    linear = quantise(random(8, inputs), 'int4')
    assert linear.scale.shape == (8, groups)
    assert linear.stored.shape == (8, -(-inputs // 128) * 16)
    assert (linear.dequantised() - random(8, inputs)).norm() < 0.12 * random(8, inputs).norm()


def test_packing_keeps_every_integer():
    generator = torch.Generator().manual_seed(4)
    integers = torch.randint(-8, 8, (5, 300), dtype=torch.int8, generator=generator)
    words = pack_int4(integers)
    assert (words.shape, words.dtype) == ((5, 48), torch.int32)
    assert torch.equal(unpack_words(words, 300), integers)
    # Word w, plane p of a block is input 16 p + w.
    assert (words[2, 16 + 3].item() >> 4 * 5) & 15 == integers[2, 128 + 16 * 5 + 3] + 8


@pytest.mark.parametrize('weights', FORMATS)
def test_zeros_stay_and_broken_weights_stay_visible(weights):
    weight = random(4, 128)
    weight[1] = 0.0
    weight[2, 7], weight[3, 9] = torch.nan, torch.inf
    found = quantise(weight, weights).dequantised()
    assert torch.equal(found[1], torch.zeros(128))
    assert found[0].isfinite().all()
    assert not found[2].isfinite().all()
    assert not found[3].isfinite().all()


@pytest.mark.parametrize('weights', FORMATS)
def test_a_large_weight_is_quantised_in_parts(weights, monkeypatch):
    whole = quantise(random(20, 256), weights)
    monkeypatch.setattr(weight_only, '_CHUNK', 3 * 256)
    parts = quantise(random(20, 256), weights)
    assert torch.equal(whole.dequantised(), parts.dequantised())


@pytest.mark.parametrize('weights', FORMATS)
def test_products_are_joined_if_they_are_quantised_the_same_way(weights):
    first, second = (quantise(random(8, 256, seed=seed), weights) for seed in (5, 6))
    both, hidden = first.joined(second, torch.float32), random(3, 256, seed=7)
    assert type(both) is WeightOnly
    expected = torch.cat([first(hidden), second(hidden)], dim=-1)
    torch.testing.assert_close(both(hidden), expected)
    other = quantise(random(8, 256), 'fp8' if weights == 'int8' else 'int8')
    assert type(first.joined(other, torch.float32)) is SideBySide
    smooth = WeightOnly(second.stored, second.scale, 256, torch.float32, torch.ones(256))
    assert type(first.joined(smooth, torch.float32)) is SideBySide
    assert type(smooth.joined(smooth, torch.float32)) is WeightOnly


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r'40 inputs.*use weights int8'):
        quantise(torch.zeros(4, 40), 'int4')
    with pytest.raises(ConfigError, match="'int3'; it may be fp8, int8, int4"):
        quantise(torch.zeros(4, 128), 'int3')
    with FakeTensorMode():
        weight = torch.empty(4, 128, device='cuda')
        assert quantise(weight, 'fp8').stored.dtype is torch.float8_e4m3fn
        monkeypatch.setattr(weight_only, 'capability', lambda tensor: (8, 7))
        with pytest.raises(ConfigError, match=r'capability 8\.9.*has 8\.7; use weights int8'):
            quantise(weight, 'fp8')
        assert quantise(weight, 'int8').stored.dtype is torch.int8
        monkeypatch.setattr(operators, '_has_triton', lambda: False)
        with pytest.raises(ConfigError, match='install triton, or use weights bfloat16'):
            quantise(weight, 'int8')
