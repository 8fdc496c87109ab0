"""Triton kernels of the greedy choice: the head's product with one row, and its largest logit.

Each program finds the largest of a few logits; a last program finds the largest of those. NaN
counts as the largest, and of equal logits the first wins, as with torch operators.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from trt_openvla_ros.engines.torch.kernels.blocks import pick_rows, product_blocks
from trt_openvla_ros.engines.torch.kernels.product import root_of, sums_of, tile_of
from trt_openvla_ros.engines.torch.kernels.rounding import inputs_of

# ruff: noqa: N803, N806 - constants of a kernel are in capitals


@triton.jit
def _largest(values, indices):
    """Give the largest of some values, and the first index that has it."""
    broken = values != values
    number = tl.max(tl.where(broken, -float('inf'), values), axis=0)
    any_broken = tl.max(broken.to(tl.int32), axis=0) > 0
    wanted = tl.where(any_broken, broken, values == number)
    index = tl.min(tl.where(wanted, indices, 2147483647), axis=0)
    return tl.where(any_broken, float('nan'), number), index


@triton.jit(do_not_specialize=['first', 'count'])
def logits_kernel(
    best,
    best_index,
    x,
    weight,
    norm,
    first,
    count,
    eps,
    INPUTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,
    NORM: tl.constexpr,
):
    """Find the largest of ROWS logits.

    Args:
        best: [programs] float32 largest logits.
        best_index: [programs] int32 rows of the head that have them.
        x: [INPUTS] hidden state.
        weight: [V, INPUTS] head.
        norm: [INPUTS] weight of the norm.
        first: First row of the head that counts.
        count: Number of rows that count.
        eps: What the norm adds to the mean square.
        INPUTS: Width.
        ROWS: Rows of a program.
        BLOCK: Elements of a row that are loaded in one step.
        VECTOR: Elements that a thread loads at once; a divisor of BLOCK.
        NORM: Whether to normalise.
    """
    DTYPE: tl.constexpr = x.dtype.element_ty
    STEPS: tl.constexpr = (INPUTS + BLOCK - 1) // BLOCK
    begin = tl.program_id(0) * ROWS
    rows = tl.minimum(tl.arange(0, ROWS), count - 1 - begin)
    weight += (first + begin).to(tl.int64) * INPUTS
    w = tile_of(weight, rows, INPUTS, BLOCK, 0)
    root = 1.0
    if NORM:
        root = root_of(x, eps, INPUTS, BLOCK)
    logits = tl.zeros([ROWS, BLOCK // VECTOR], tl.float32)
    for step in tl.static_range(STEPS):
        if step + 1 < STEPS:
            next_w = tile_of(weight, rows, INPUTS, BLOCK, step + 1)
        cols = step * BLOCK + tl.arange(0, BLOCK)
        values = inputs_of(
            x, cols, norm, root, x, x, (step + 1) * BLOCK > INPUTS,
            INPUTS, NORM, False, '', DTYPE,
        )  # fmt: skip
        logits += sums_of(w, values, ROWS, BLOCK, VECTOR)
        if step + 1 < STEPS:
            w = next_w
    # Rounded as stored logits are, so that the same ones are equal. The last row, where it is
    # computed twice, has the same index twice.
    value, index = _largest(tl.sum(logits, axis=1).to(DTYPE).to(tl.float32), first + begin + rows)
    tl.store(best + tl.program_id(0), value)
    tl.store(best_index + tl.program_id(0), index)


@triton.jit(do_not_specialize=['count'])
def pick_kernel(value, token, best, best_index, count, BLOCK: tl.constexpr):
    """Find the largest of count logits that programs found.

    Args:
        value: [1] result, in the engine's dtype.
        token: [1] int64 its row.
        best: [count] float32 logits.
        best_index: [count] int32 rows.
        count: How many.
        BLOCK: A power of two that is at least count.
    """
    at = tl.arange(0, BLOCK)
    values = tl.load(best + at, mask=at < count, other=-float('inf'))
    indices = tl.load(best_index + at, mask=at < count, other=2147483647)
    largest, index = _largest(values, indices)
    tl.store(value, largest.to(value.dtype.element_ty))
    tl.store(token, index.to(tl.int64))


def constants(inputs: int, head: torch.Tensor, count: int, norm: bool) -> dict[str, object]:
    """Give the constants of logits_kernel for these tensors."""
    blocks = product_blocks(inputs, head.dtype.itemsize, False)
    return {
        'INPUTS': inputs,
        'ROWS': pick_rows(count, blocks.rows),
        'BLOCK': blocks.block,
        'VECTOR': blocks.vector,
        'NORM': norm,
    }


def launch_pick(
    hidden: torch.Tensor,
    head: torch.Tensor,
    norm: torch.Tensor | None,
    eps: float,
    first: int,
    count: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the kernels; operators.pick says what the arguments are."""
    values = constants(hidden.shape[1], head, count, norm is not None)
    programs = triton.cdiv(count, values['ROWS'])
    best = torch.empty(programs, dtype=torch.float32, device=hidden.device)
    index = torch.empty(programs, dtype=torch.int32, device=hidden.device)
    logits_kernel[(programs,)](
        best, index, hidden, head, norm, first, count, eps, **values, num_warps=4
    )
    value = hidden.new_empty(1)
    token = torch.empty(1, dtype=torch.int64, device=hidden.device)
    block = triton.next_power_of_2(programs)
    pick_kernel[(1,)](value, token, best, index, programs, BLOCK=block, num_warps=8)
    return value, token
