"""Products with quantised weights, against arithmetic done another way."""

import pytest
import torch

from trt_openvla_ros.engines.torch import linears
from trt_openvla_ros.engines.torch.linears import (
    Dense,
    Fp8,
    Int8,
    through_e4m3,
    to_e4m3,
    unpack_int4,
)
from trt_openvla_ros.engines.torch.product import Norm, SideBySide


def test_e4m3_rounds_to_even_and_saturates():
    # 1/448 would not be exact; of E4M3 17 and 19 lie halfway between neighbours.
    values = torch.tensor([17.0, 19.0, -17.0, 448.0, 463.0, 465.0, 1e6, -torch.inf, 2.0**-10, 0.0])
    expected = [16.0, 20.0, -16.0, 448.0, 448.0, 448.0, 448.0, -448.0, 0.0, 0.0]
    assert to_e4m3(values, torch.ones(1)).float().tolist() == expected
    assert through_e4m3(values / 4, torch.tensor([0.25])).tolist() == [v / 4 for v in expected]
    # What is broken must stay visible: the engine looks for it in the logits.
    assert through_e4m3(torch.tensor([torch.nan]), torch.ones(1)).isnan().all()


def fp8(outputs, inputs, input_scale=0.02, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = (100 * torch.randn(outputs, inputs, generator=generator)).to(torch.float8_e4m3fn)
    return Fp8(weight, torch.tensor([0.003]), torch.tensor([input_scale]), dtype)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_fp8_is_a_sum_of_exact_products(dtype):
    linear = fp8(64, 128, dtype=dtype)
    hidden = torch.randn(5, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    scale = linear.input_scale.to(dtype).double()
    rounded = (hidden.double() / scale).clamp(-448, 448).to(torch.float8_e4m3fn).double()
    expected = rounded @ linear.stored.double().T * 0.003 * 0.02
    tolerance = 1e-6 if dtype is torch.float32 else 2**-8
    torch.testing.assert_close(
        linear(hidden).double(), expected, rtol=tolerance, atol=tolerance * expected.abs().max()
    )


def test_fp8_on_the_hardware_is_called_with_the_same_numbers(monkeypatch):
    # Torch has a version of this kernel for CPUs; which layout and scales it wants is the same.
    emulated = fp8(64, 128)
    monkeypatch.setattr(linears, '_has_fp8', lambda weight: True)
    native = fp8(64, 128)
    hidden = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))
    try:
        actual = native(hidden)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f'this torch has no FP8 product for CPUs: {error}')
    assert native.native
    assert not emulated.native
    torch.testing.assert_close(actual, emulated(hidden), rtol=1e-6, atol=1e-6)


def test_int4_is_unpacked_in_order_and_with_sign():
    # Bytes of which each half is an output: the low one first.
    integers = torch.arange(-8, 8, dtype=torch.int8).reshape(4, 4)
    packed = (integers[0::2] & 15) | (integers[1::2] << 4)
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    expected = integers * scale.repeat_interleave(2, dim=1)
    assert torch.equal(unpack_int4(packed, scale, torch.float32), expected)


def test_products_are_joined_only_where_scales_are_equal():
    hidden = torch.randn(3, 128, generator=torch.Generator().manual_seed(1))
    first = fp8(64, 128)
    for second, kind in (
        (fp8(64, 128, seed=1), Fp8),
        (fp8(64, 128, input_scale=0.05, seed=1), SideBySide),
        (Dense(torch.randn(64, 128)), SideBySide),
    ):
        joined = first.joined(second, torch.float32)
        assert type(joined) is kind
        expected = torch.cat([first(hidden), second(hidden)], dim=-1)
        torch.testing.assert_close(joined(hidden), expected, rtol=0, atol=1e-5)
    smooth = Dense(torch.randn(64, 128), torch.rand(128))
    assert type(smooth.joined(smooth, torch.float32)) is SideBySide
    assert type(Dense(smooth.weight).joined(Dense(smooth.weight), torch.float32)) is Dense


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('kind', ['dense', 'fp8', 'int8', 'side by side'])
def test_norm_residual_and_gate_are_those_of_a_llama(kind, dtype):
    weight = random(64, 128)
    stored = (100 * weight).to(torch.int8)
    scales = 0.01 * torch.rand(64, generator=torch.Generator().manual_seed(4))
    linear = {
        'dense': lambda: Dense(weight.to(dtype)),
        'fp8': lambda: fp8(64, 128, dtype=dtype),
        'int8': lambda: Int8(stored, scales, torch.tensor([0.02]), torch.ones(128, dtype=dtype)),
        'side by side': lambda: SideBySide(
            Dense(weight[:32].to(dtype)), fp8(32, 128, dtype=dtype)
        ),
    }[kind]()
    hidden, residual = random(5, 128, seed=1).to(dtype), random(5, 64, seed=2).to(dtype)
    norm = Norm(random(128, seed=3).to(dtype), 1e-5)
    wide = hidden.float()
    root = torch.sqrt(wide.square().mean(dim=-1, keepdim=True) + 1e-5)
    product = linear((wide / root * norm.weight.float()).to(dtype))
    # One rounding of the normalised input may go to the other side.
    close = {'rtol': 0, 'atol': (0.02 if dtype is torch.bfloat16 else 1e-4) * product.std().item()}
    torch.testing.assert_close(linear(hidden, norm), product, **close)
    assert torch.equal(linear(hidden, norm, residual), residual + linear(hidden, norm))
    assert torch.equal(linear(hidden, residual=residual), residual + linear(hidden))
    gate, up = linear(hidden, norm).double().chunk(2, dim=-1)
    gated = linear.gated(hidden, norm)
    assert gated.dtype is dtype
    expected = gate * torch.sigmoid(gate) * up
    tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-5
    torch.testing.assert_close(gated.double(), expected, rtol=tolerance, atol=tolerance / 10)
