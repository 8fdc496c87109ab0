"""The kernels of attention, against the operators of torch on the CPU and against float64."""

from guarded import close, guarded, random
import pytest
import torch

from trt_openvla_ros.engines.torch.attention import attend
from trt_openvla_ros.engines.torch.kernels.attention import launch_attend

# Query heads, key-value heads, their width, length of the cache, position, new rows. A head of
# openvla-7b in its context; groups of four as with 8 key-value heads; small and odd ones.
CASES = [
    (1, 1, 128, 700, 285, 1),
    (2, 2, 128, 300, 0, 1),
    (4, 1, 128, 700, 299, 5),
    (1, 1, 128, 160, 90, 64),
    (8, 2, 32, 64, 17, 3),
    (4, 4, 20, 50, 1, 3),
    (6, 1, 18, 80, 60, 20),
]


@pytest.fixture(autouse=True)
def poison():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def tensors(heads, kv_heads, width, positions, length, dtype, seed=0):
    qkv = random(length, (heads + 2 * kv_heads) * width, seed=seed, dtype=dtype)
    frequency = 1e4 ** (-torch.arange(0, width, 2).float() / width)
    angle = torch.outer(torch.arange(positions).float(), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    rotation = torch.stack([angle.cos(), angle.sin()]).to(dtype)
    cache = random(2, kv_heads, positions, width, seed=seed + 1, dtype=dtype)
    return qkv, rotation, *cache


def both(case, dtype, cache_scale=None):
    """Give result, keys and values of the kernels, and those of torch."""
    heads, kv_heads, width, positions, position, length = case
    qkv, rotation, *cache = tensors(heads, kv_heads, width, positions, length, dtype)
    at = torch.tensor([position])
    ours = [guarded(part) for part in cache]
    for part in ours:
        # What is not filled must not be read, and what is behind the new rows not be written.
        part[:, position:] = torch.nan
    given = guarded(qkv), guarded(rotation), *ours, at, heads, cache_scale
    actual = launch_attend(*given)
    expected = attend(
        qkv, rotation, *cache, at, num_heads=heads, window=None, cache_scale=cache_scale
    )
    return (actual, *ours), (expected, *cache), slice(position, position + length)


# In bfloat16 the interpreter cuts bits off, so that rounding is judged in float16.
@pytest.mark.parametrize(
    ('case', 'dtype'),
    [
        *((case, dtype) for case in CASES for dtype in (torch.float32, torch.float16)),
        *((case, torch.bfloat16) for case in (CASES[0], CASES[4])),
    ],
    ids=str,
)
def test_attention(case, dtype):
    (actual, *ours), (expected, *theirs), new = both(case, dtype)
    close(actual, expected, dtype)
    for part, reference in zip(ours, theirs, strict=True):
        assert torch.equal(part[:, : new.start], reference[:, : new.start])
        assert part[:, new.stop :].isnan().all()
    keys, values = (part[:, new] for part in ours)
    assert torch.equal(values, theirs[1][:, new])
    # One rounding of a product and a sum may be one of the sum alone.
    close(keys, theirs[0][:, new], dtype)
    if dtype is torch.float16:
        assert torch.equal(keys, theirs[0][:, new])


@pytest.mark.parametrize('case', CASES[3:5], ids=str)
def test_fp8_cache(case):
    (actual, *ours), (expected, *theirs), new = both(case, torch.float16, torch.tensor([0.03]))
    close(actual, expected, torch.float16)
    for part, reference in zip(ours, theirs, strict=True):
        assert torch.equal(part[:, new], reference[:, new])
    # Not what an unrounded cache holds.
    _, (_, *plain), _ = both(case, torch.float16)
    assert not torch.equal(plain[1][:, new], theirs[1][:, new])


@torch.inference_mode()
def test_rows_of_a_draft_equal_single_steps():
    heads, kv_heads, width, positions, position, length = case = (4, 1, 32, 64, 9, 4)
    (drafted, *_), _, _ = both(case, torch.float32)
    qkv, rotation, keys, values = tensors(heads, kv_heads, width, positions, length, torch.float32)
    single = [
        launch_attend(row[None], rotation, keys, values, torch.tensor([position + r]), heads, None)
        for r, row in enumerate(qkv)
    ]
    close(drafted, torch.cat(single), torch.float32)


def test_broken_rows_stay_visible():
    heads, kv_heads, width, positions, position, length = 2, 2, 32, 64, 9, 3
    qkv, rotation, keys, values = tensors(heads, kv_heads, width, positions, length, torch.float32)
    qkv[1, 0] = torch.nan
    actual = launch_attend(qkv, rotation, keys, values, torch.tensor([position]), heads, None)
    assert actual.view(3, 2, 32).isnan().all(dim=2).tolist() == [
        [False, False],
        [True, False],
        [False, False],
    ]
