"""The kernels of the greedy choice, against the operators of torch."""

from guarded import DTYPES, guarded, random
import pytest
import torch

from trt_openvla_ros.engines.torch.kernels.pick import launch_pick
from trt_openvla_ros.engines.torch.picking import pick
from trt_openvla_ros.engines.torch.product import Norm

EPS = 1e-5
# Rows of the head, width, first row that counts, and how many.
CASES = [(17, 96, 0, 17), (300, 64, 100, 21), (9, 4096, 2, 5)]
# So many rows that a program takes several; the others give one to each.
MANY = (4101, 32, 0, 4101)


@pytest.fixture(autouse=True)
def poison():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def both(hidden, head, first, count, norm=None):
    """Give value and row of the kernels, and those of torch."""
    weight = None if norm is None else guarded(norm.weight)
    value, row = launch_pick(guarded(hidden), guarded(head), weight, EPS, first, count)
    assert (value.dtype, row.dtype) == (hidden.dtype, torch.int64)
    return (value, row), pick(hidden, head, norm, first, count)


@pytest.mark.parametrize(
    ('rows', 'width', 'first', 'count', 'dtype'),
    [
        *((*case, dtype) for case in CASES for dtype in DTYPES),
        (*MANY, torch.float16),
    ],
)
def test_largest_logit(rows, width, first, count, dtype):
    hidden = random(1, width, seed=1, dtype=dtype)
    head = random(rows, width, seed=2, dtype=dtype)
    # Rows that do not count have the largest logits.
    head[:first] = head[first + count :] = 9 * hidden
    winner = first + count * 2 // 3
    head[winner] = 2 * hidden[0]
    norm = Norm(random(width, seed=3, dtype=dtype).abs(), EPS)
    for use in (None, norm) if rows < 4096 else (norm,):
        (value, row), (expected, expected_row) = both(hidden, head, first, count, use)
        assert row.tolist() == expected_row.tolist() == [winner]
        # In the interpreter bfloat16 is cut off, not rounded.
        tolerance = 2e-2 if dtype is torch.bfloat16 else 2e-3
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize(('rows', 'width', 'first', 'count'), CASES)
def test_first_of_equal_logits_wins(rows, width, first, count):
    hidden, head = random(1, width, seed=1), random(rows, width, seed=2)
    for at in (first + count - 1, first + count // 2, first + 1):
        head[at] = hidden[0]
        # Torch may sum equal rows differently, so it is no judge here.
        (_, row), _ = both(hidden, head, first, count)
        assert row.tolist() == [at]
    # Logits that differ, but not in the dtype in which torch would have stored them.
    near = torch.ones(rows, 16, dtype=torch.float16)
    near[first + 3, 0] = 1.0009765625
    ones = torch.ones(1, 16, dtype=torch.float16)
    (_, row), (_, expected) = both(ones, near, first, count)
    assert row.tolist() == expected.tolist() == [first]


@pytest.mark.parametrize(('rows', 'width', 'first', 'count'), CASES)
def test_what_is_no_number_wins(rows, width, first, count):
    hidden, head = random(1, width, seed=1), random(rows, width, seed=2)
    last = first + count - 1
    head[last, 0] = torch.inf * hidden[0, 0].sign()
    (value, row), (_, expected) = both(hidden, head, first, count)
    assert (value.item(), row.item(), expected.item()) == (torch.inf, last, last)
    for at in (last, first + 3):
        head[at, 0] = torch.nan
        (value, row), (broken, expected) = both(hidden, head, first, count)
        assert value.isnan().item()
        assert broken.isnan().item()
        assert row.tolist() == expected.tolist() == [at]
    head[:] = 0.0
    head[:, 0] = -torch.inf * hidden[0, 0].sign()
    (value, row), _ = both(hidden, head, first, count)
    assert (value.item(), row.item()) == (-torch.inf, first)
