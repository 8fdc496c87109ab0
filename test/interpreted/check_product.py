"""The kernel of products with one row, against float64 and against the classes on the CPU."""

import math

from guarded import close, DTYPES, guarded, random
import pytest
import torch

from trt_openvla_ros.engines.torch.kernels.product import launch_product
from trt_openvla_ros.engines.torch.linears import Dense, Fp8, Int8
from trt_openvla_ros.engines.torch.product import Norm
from trt_openvla_ros.engines.torch.weight_only import FORMATS, quantise, unpack_words

# Outputs and inputs: the widths of openvla-7b and ecot-7b, and small and odd ones.
SHAPES = [(6, 4096), (10, 11008), (22, 96), (18, 257), (2, 40)]
EPS = 1e-5


def launch(hidden, weight, scale=None, norm=None, residual=None, gated=False, **rest):
    arguments = {'smoothing': None, 'inverse': None} | rest
    arguments = {k: None if v is None else guarded(v) for k, v in arguments.items()}
    return launch_product(
        hidden=guarded(hidden),
        weight=guarded(weight),
        scale=None if scale is None else guarded(scale),
        norm=None if norm is None else guarded(norm.weight),
        eps=EPS,
        residual=None if residual is None else guarded(residual),
        gated=gated,
        **arguments,
    )


def exact(hidden, weight, norm=None, residual=None, gated=False):
    """Compute in float64, with the norm's result rounded to the dtype."""
    x = hidden.double()
    if norm is not None:
        x = x / (x.square().mean() + EPS).sqrt() * norm.weight.double()
        x = x.to(hidden.dtype).double()
    y = x @ weight.double().T
    if gated:
        gate, up = y.chunk(2, dim=-1)
        y = gate * torch.sigmoid(gate) * up
    return y if residual is None else y + residual.double()


@pytest.fixture(autouse=True)
def poison():
    # New tensors are full of NaN, so an output that nobody writes is seen.
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def case(outputs, inputs, dtype, seed=0):
    hidden = random(1, inputs, seed=seed + 1, dtype=dtype)
    norm = Norm(random(inputs, seed=seed + 2, dtype=dtype), EPS)
    residual = random(1, outputs, seed=seed + 3, dtype=dtype)
    weight = random(outputs, inputs, seed=seed + 4) / math.sqrt(inputs)
    return hidden, norm, residual, weight.to(dtype)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(('outputs', 'inputs'), SHAPES)
def test_plain_weights(outputs, inputs, dtype):
    hidden, norm, residual, weight = case(outputs, inputs, dtype)
    close(launch(hidden, weight), exact(hidden, weight), dtype)
    both = launch(hidden, weight, norm=norm, residual=residual)
    close(both, exact(hidden, weight, norm, residual), dtype)
    gated = launch(hidden, weight, norm=norm, gated=True)
    close(gated, exact(hidden, weight, norm, gated=True), dtype, factor=2)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('weights', FORMATS)
@pytest.mark.parametrize(('outputs', 'inputs'), SHAPES)
def test_quantised_weights_are_those_of_the_cpu(outputs, inputs, weights, dtype):
    if weights == 'int4' and inputs % 16:
        inputs += -inputs % 16
    hidden, norm, residual, weight = case(outputs, inputs, dtype, seed=5)
    linear = quantise(weight.float(), weights)
    if weights == 'int4':
        # The last words of a row may hold inputs that do not exist; what they are is no matter.
        assert torch.equal(
            unpack_words(linear.stored, inputs).float()
            * linear.scale.float().repeat_interleave(inputs // linear.scale.shape[1], dim=1),
            linear.dequantised(),
        )
    used = linear.dequantised()
    arguments = hidden, linear.stored, linear.scale
    # INT4 takes a constant off large sums.
    factor = 4 if weights == 'int4' and dtype is torch.float32 else 1
    close(launch(*arguments), exact(hidden, used), dtype, factor)
    both = launch(*arguments, norm=norm, residual=residual)
    close(both, exact(hidden, used, norm, residual), dtype, factor)
    gated = launch(*arguments, norm=norm, gated=True)
    close(gated, exact(hidden, used, norm, gated=True), dtype, 2 * factor)


@pytest.mark.parametrize('group', [16, 32, 64, 128, 256])
def test_int4_groups(group):
    outputs, inputs = 12, 768
    hidden, norm, _, _ = case(outputs, inputs, torch.float32)
    linear = quantise(random(outputs, inputs, seed=9), 'int4')
    integers = unpack_words(linear.stored, inputs).double()
    scale = random(outputs, inputs // group, seed=10)
    weight = integers * scale.double().repeat_interleave(group, dim=1)
    actual = launch(hidden, linear.stored, scale, norm=norm, gated=True)
    close(actual, exact(hidden, weight, norm, gated=True), torch.float32, 8)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('inputs', [4096, 11008, 90])
def test_rounded_inputs_of_tensorrt_llm(inputs, dtype):
    outputs = 6
    hidden, norm, residual, _ = case(outputs, inputs, dtype)
    hidden[0, :8] = torch.tensor([17, 19, -17, 448, 463, 1e4, -1e4, 2.0**-10], dtype=dtype) / 50
    smoothing = random(inputs, seed=20).abs().to(dtype)
    one, many = torch.tensor([0.003]), random(outputs, seed=21).abs() / 100
    stored = (100 * random(outputs, inputs, seed=22)).clamp(-448, 448)
    fp8 = Fp8(stored.to(torch.float8_e4m3fn), one, torch.tensor([0.02]), dtype)
    int8 = Int8(stored.clamp(-128, 127).to(torch.int8), many, torch.tensor([0.02]), smoothing)
    for linear, rest in (
        (fp8, {'weight': fp8.stored, 'scale': fp8._alpha, 'inverse': fp8._inverse}),
        (
            int8,
            {
                'weight': int8._weight.to(torch.int8),
                'scale': int8._alpha,
                'inverse': int8._inverse,
                'smoothing': smoothing,
            },
        ),
    ):
        close(launch(hidden, **rest), linear(hidden), dtype)
        both = launch(hidden, norm=norm, residual=residual, **rest)
        # One input in a thousand lies so near the middle that the last bit of the norm decides.
        close(both, linear(hidden, norm, residual), dtype, 100 if dtype is torch.float32 else 10)


def test_factors_of_the_input():
    hidden, norm, _, weight = case(10, 300, torch.float16)
    smoothing = random(300, seed=30, dtype=torch.float16)
    linear = Dense(weight.half(), smoothing)
    actual = launch(hidden, weight, norm=norm, smoothing=smoothing)
    close(actual, linear(hidden, norm), torch.float16)


@pytest.mark.parametrize('broken', [torch.nan, torch.inf, -torch.inf])
def test_broken_inputs_stay_visible(broken):
    for weights in ('', *FORMATS):
        hidden, norm, _, weight = case(4, 128, torch.float32)
        hidden[0, 77] = broken
        linear = quantise(weight, weights) if weights else None
        pair = (linear.stored, linear.scale) if weights else (weight, None)
        assert not launch(hidden, *pair).isfinite().any()
        assert launch(hidden, *pair, norm=norm).isnan().all()
    for stored in (weight.to(torch.float8_e4m3fn), weight.to(torch.int8)):
        rounded = launch(hidden, stored, torch.ones(1), inverse=torch.ones(1))
        assert rounded.isnan().all() == math.isnan(broken)
