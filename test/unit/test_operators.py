"""The calls of the kernels where nothing is computed: on the device name cuda, without a GPU."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.utils._python_dispatch import TorchDispatchMode

from trt_openvla_ros.engines.torch.attention import attend
from trt_openvla_ros.engines.torch.linears import Dense, Fp8, Int8
from trt_openvla_ros.engines.torch.picking import pick
from trt_openvla_ros.engines.torch.product import Norm, SideBySide
from trt_openvla_ros.engines.torch.weight_only import FORMATS, quantise

BF16 = torch.bfloat16


class Launches(TorchDispatchMode):
    """Writes down which operators run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def fake():
    with FakeTensorMode():
        yield


def empty(*shape, dtype=BF16):
    return torch.empty(shape, dtype=dtype, device='cuda')


def make(kind):
    one = empty(1, dtype=torch.float32)
    if kind == 'dense':
        return Dense(empty(64, 128))
    if kind == 'fp8 of TensorRT-LLM':
        return Fp8(empty(64, 128, dtype=torch.float8_e4m3fn), one, one, BF16)
    if kind == 'int8_sq':
        scales = empty(64, dtype=torch.float32)
        return Int8(empty(64, 128, dtype=torch.int8), scales, one, empty(128))
    return quantise(empty(64, 128), kind)


@pytest.mark.parametrize('kind', ['dense', 'fp8 of TensorRT-LLM', 'int8_sq', *FORMATS])
def test_one_row_is_one_launch(fake, kind):
    linear, norm = make(kind), Norm(empty(128), 1e-5)
    with Launches() as launches:
        result = linear(empty(1, 128), norm, empty(1, 64))
        gated = linear.gated(empty(1, 128), norm)
    launched = [name for name in launches.names if not name.startswith(('aten.empty', 'prim.'))]
    assert launched == ['trt_openvla_ros.product.default'] * 2
    assert (result.shape, gated.shape) == ((1, 64), (1, 32))
    assert result.dtype is gated.dtype is BF16
    assert result.is_cuda
    with Launches() as launches:
        assert linear(empty(5, 128), norm, empty(5, 64)).shape == (5, 64)
        assert linear.gated(empty(5, 128), norm).shape == (5, 32)
    ours = [name for name in launches.names if name.startswith('trt')]
    assert ours == ['trt_openvla_ros.rows.default'] * (2 if kind in ('int8_sq', *FORMATS) else 0)


def test_products_side_by_side(fake):
    both = SideBySide(make('int8'), make('int4'))
    with Launches() as launches:
        assert both.gated(empty(1, 128), Norm(empty(128), 1e-5)).shape == (1, 64)
    assert launches.names.count('trt_openvla_ros.product.default') == 2


@pytest.mark.parametrize(('tokens', 'kernel'), [(1, True), (64, True), (65, False)])
def test_attention(fake, tokens, kernel):
    cache = empty(2, 8, 256, 64)
    position = empty(1, dtype=torch.int64)
    with Launches() as launches:
        result = attend(
            empty(tokens, 48 * 64),
            empty(2, 256, 64),
            *cache,
            position,
            num_heads=32,
            window=None,
            cache_scale=None,
        )
    assert (result.shape, result.dtype, result.is_cuda) == ((tokens, 32 * 64), BF16, True)
    assert ('trt_openvla_ros.attend.default' in launches.names) == kernel


def test_pick(fake):
    head = empty(320, 128)
    for length in (1, 3):
        value, row = pick(empty(length, 128), head, Norm(empty(128), 1e-5), 10, 256)
        assert (value.shape, value.dtype) == ((length,), BF16)
        assert (row.shape, row.dtype, row.is_cuda) == ((length,), torch.int64, True)


def test_waiting_for_the_host_would_be_seen(fake):
    _, row = pick(empty(1, 128), empty(320, 128))
    with pytest.raises(DataDependentOutputException):
        row.item()
