"""The kernel of products with several rows, against float64."""

from guarded import close, guarded, random
import pytest
import torch

from trt_openvla_ros.engines.torch.kernels.rows import launch_rows
from trt_openvla_ros.engines.torch.weight_only import FORMATS, pack_int4, quantise


@pytest.fixture(autouse=True)
def poison():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('weights', FORMATS)
@pytest.mark.parametrize(
    ('length', 'outputs', 'inputs'),
    [
        (2, 33, 4096),
        (7, 40, 11008),
        (16, 5, 304),
        (17, 20, 144),
        (64, 33, 256),
        (70, 130, 128),
        (250, 70, 128),
    ],
)
def test_rows(length, outputs, inputs, weights, dtype):
    linear = quantise(random(outputs, inputs, seed=1), weights)
    hidden = random(length, inputs, seed=2, dtype=dtype)
    actual = launch_rows(guarded(hidden), guarded(linear.stored), guarded(linear.scale))
    close(actual, hidden.double() @ linear.dequantised().double().T, dtype)


@pytest.mark.parametrize('group', [16, 32, 64, 256])
def test_int4_groups(group):
    integers = torch.randint(-8, 8, (20, 768), generator=torch.Generator().manual_seed(3))
    scale, hidden = random(20, 768 // group, seed=4), random(3, 768, seed=5)
    weight = integers * scale.double().repeat_interleave(group, dim=1)
    words = pack_int4(integers.to(torch.int8))
    actual = launch_rows(guarded(hidden), guarded(words), guarded(scale))
    close(actual, hidden.double() @ weight.T, torch.float32)


def test_one_scale():
    weight = random(20, 144, seed=6).to(torch.float8_e4m3fn)
    hidden, scale = random(3, 144, seed=7), torch.tensor([0.3])
    actual = launch_rows(guarded(hidden), guarded(weight), guarded(scale))
    close(actual, hidden.double() @ weight.double().T * 0.3, torch.float32)


def test_broken_rows_stay_visible_and_alone():
    for weights in FORMATS:
        linear, hidden = quantise(random(8, 128, seed=8), weights), random(3, 128, seed=9)
        hidden[1, 5] = torch.nan
        broken = launch_rows(hidden, linear.stored, linear.scale).isnan()
        assert broken.all(dim=1).tolist() == broken.any(dim=1).tolist() == [False, True, False]
