"""INT4 weights inside a Triton kernel.

A row of a weight is stored in int32 words, and 16 words hold 128 inputs. Four bits of every word
are a plane: word w has input 16 p + w of the 128 in plane p. So a thread that loads four words
needs four neighbouring inputs for each plane, and a plane has one scale if groups are 16 or more.
"""

from __future__ import annotations

import triton
import triton.language as tl

from trt_openvla_ros.engines.torch.kernels.rounding import inputs_of, part

# ruff: noqa: N803 - constants of a kernel are in capitals

# The bits of the float32 16.0.
SIXTEEN = 0x41800000


@triton.jit
def nibbles_of(words, sixteen, PLANE: tl.constexpr):
    """Give 16 + n of the unsigned four bits n of one plane; sixteen has the bits of 16.0.

    The bits become the first four behind the leading one of a float32 from 16 to 31. That takes a
    shift and a mask, where conversions of integers would be slower than the memory.
    """
    moved = words << (19 - 4 * PLANE) if PLANE < 5 else words >> (4 * PLANE - 19)
    return ((moved & 0x00780000) | sixteen).to(tl.float32, bitcast=True)


@triton.jit
def planes_of(
    words,
    sixteen,
    x,
    norm,
    root,
    smoothing,
    inverse,
    STEP: tl.constexpr,
    FIRST: tl.constexpr,
    SPAN: tl.constexpr,
    INPUTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
    SMOOTH: tl.constexpr,
    INPUT: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Multiply planes FIRST on of words, which share a scale, with their inputs.

    Returns:
        [ROWS, BLOCK] sums for each word, still with the 16 of nibbles_of and the 8 of the storage,
        and [BLOCK] sums of the inputs, which tell how much that is.
    """
    word = STEP * BLOCK + tl.arange(0, BLOCK)
    sums = tl.zeros([ROWS, BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for index in tl.static_range(SPAN):
        cols = word // 16 * 128 + (FIRST + index) * 16 + word % 16
        values = inputs_of(
            x, cols, norm, root, smoothing, inverse, (STEP + 1) * BLOCK * 8 > INPUTS,
            INPUTS, NORM, SMOOTH, INPUT, DTYPE,
        )  # fmt: skip
        sums += nibbles_of(words, sixteen, FIRST + index) * values[None, :]
        total += values
    return sums, total


@triton.jit
def scaled(
    sums,
    total,
    scale,
    rows,
    STEP: tl.constexpr,
    FIRST: tl.constexpr,
    INPUTS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Make [ROWS, BLOCK / 4] of the sums of planes_of: a thread has four words, with one scale."""
    exact = sums - 24.0 * total[None, :]
    exact = tl.sum(tl.reshape(exact, [ROWS, BLOCK // 4, 4]), axis=2)
    four = STEP * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    group = (four // 4 * 128 + FIRST * 16) // GROUP
    at = rows[:, None] * (INPUTS // GROUP) + group[None, :]
    inside = (rows[:, None] >= 0) & (group[None, :] < INPUTS // GROUP)
    return exact * part(scale, at, inside, (STEP + 1) * BLOCK * 8 > INPUTS).to(tl.float32)
