"""The products, attention and choice of the engine, on the kernels and on operators of torch.

The operators take tensors of the CPU for those of a GPU here; the interpreter computes.
"""

from contextlib import contextmanager

from guarded import close, random
import pytest
import torch

from trt_openvla_ros.engines.torch import attention, linears, weight_only
from trt_openvla_ros.engines.torch.kernels import operators
from trt_openvla_ros.engines.torch.linears import Dense, Fp8, Int8
from trt_openvla_ros.engines.torch.picking import pick
from trt_openvla_ros.engines.torch.product import Norm, SideBySide
from trt_openvla_ros.engines.torch.weight_only import from_awq, quantise, WeightOnly

DTYPE = torch.float16
OUTPUTS, INPUTS = 12, 160


@pytest.fixture(autouse=True)
def inference():
    # As the engine calls them: its cache is an inference tensor that an operator changes.
    with torch.inference_mode():
        yield


@contextmanager
def kernels():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, 'usable', lambda tensor: True)
        yield


def awq():
    integers = torch.randint(-8, 8, (OUTPUTS, INPUTS), generator=torch.Generator().manual_seed(1))
    packed = ((integers[0::2] & 15) | (integers[1::2] << 4)).to(torch.int8)
    scale = random(OUTPUTS, INPUTS // 32, seed=2).abs() / 8
    return from_awq(packed, scale, random(INPUTS, seed=3, dtype=DTYPE), DTYPE)


def make(kind):
    weight = random(OUTPUTS, INPUTS, seed=4, dtype=DTYPE) / 8
    one = torch.tensor([0.02])
    if kind == 'dense':
        return Dense(weight)
    if kind == 'smooth':
        return Dense(weight, random(INPUTS, seed=3, dtype=DTYPE))
    if kind == 'awq':
        return awq()
    stored = (300 * random(OUTPUTS, INPUTS, seed=5)).clamp(-448, 448)
    if kind == 'fp8 of TensorRT-LLM':
        return Fp8(stored.to(torch.float8_e4m3fn), one / 100, one, DTYPE)
    if kind == 'int8_sq':
        stored = stored.clamp(-128, 127).to(torch.int8)
        factors = random(INPUTS, seed=3, dtype=DTYPE)
        made = Int8(stored, random(OUTPUTS, seed=6).abs() / 1000, one, factors)
        made._weight = stored  # as it is held on a GPU
        return made
    if kind == 'side by side':
        return SideBySide(make('dense'), make('awq'))
    return quantise(weight, kind)


KINDS = [
    'dense',
    'smooth',
    'awq',
    'fp8 of TensorRT-LLM',
    'int8_sq',
    'side by side',
    *weight_only.FORMATS,
]


@pytest.mark.parametrize('kind', KINDS)
def test_products(kind):
    expected = make(kind)
    with kernels():
        actual = make(kind)
    norm = Norm(random(INPUTS, seed=7, dtype=DTYPE), 1e-5)
    for length in (1, 3):
        hidden = random(length, INPUTS, seed=8, dtype=DTYPE)
        plain = expected(hidden)
        residual = random(*plain.shape, seed=9, dtype=DTYPE)
        given = [{}, {'norm': norm}, {'residual': residual}, {'norm': norm, 'residual': residual}]
        # A rounded input may go to the other side, if the norm's last bit differs.
        factor = 8 if kind in ('fp8 of TensorRT-LLM', 'int8_sq') else 1
        for some in given:
            with kernels():
                result = actual(hidden, **some)
            close(result, expected(hidden, **some), DTYPE, factor)
        with kernels():
            result = actual.gated(hidden, norm)
        close(result, expected.gated(hidden, norm), DTYPE, 3 * factor)


def test_what_a_gpu_holds_is_quantised():
    with kernels():
        assert type(awq()) is WeightOnly
        assert awq().joined(awq(), DTYPE).stored.shape == (2 * OUTPUTS, 32)
        assert make('int4')._weight is None
    assert type(awq()) is Dense
    assert make('int4')._weight is not None


def test_a_gpu_without_fp8_emulates_it():
    hidden, linear = random(1, INPUTS, seed=8, dtype=DTYPE), make('fp8 of TensorRT-LLM')
    with kernels(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(linears, 'capability', lambda tensor: (8, 7))
        patch.setattr(operators, 'product', None)
        actual = linear(hidden)
    assert torch.equal(actual, linear(hidden))


def test_attention():
    qkv = random(3, 8 * 32, seed=1)
    rotation = random(2, 40, 32, seed=2)
    rotation[:, :, 16:] = rotation[:, :, :16]
    results = []
    for used in (False, True):
        cache = random(2, 2, 40, 32, seed=3)
        given = qkv, rotation, *cache, torch.tensor([7])
        some = {'num_heads': 4, 'window': None, 'cache_scale': torch.tensor([0.1])}
        if used:
            with kernels():
                result = attention.attend(*given, **some)
        else:
            result = attention.attend(*given, **some)
        results.append((result, cache))
    (expected, filled), (actual, written) = results
    close(actual, expected, torch.float32)
    torch.testing.assert_close(written, filled)


def test_pick():
    head = random(50, 64, seed=1)
    norm = Norm(random(64, seed=2), 1e-5)
    for length, first, count in ((1, 0, None), (1, 10, 20), (3, 10, 20)):
        hidden = random(length, 64, seed=3)
        with kernels():
            value, row = pick(hidden, head, norm, first, count)
        expected, expected_row = pick(hidden, head, norm, first, count)
        torch.testing.assert_close(value, expected)
        assert torch.equal(row, expected_row)
