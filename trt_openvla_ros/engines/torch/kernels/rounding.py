"""How inputs and cached values are rounded inside kernels, bit for bit as torch operators do it.

All in float32 and without the GPU's conversions, so that GPUs without FP8 round the same.
"""

from __future__ import annotations

import triton
import triton.language as tl

# ruff: noqa: N803 - constants of a kernel are in capitals


def interpreted() -> bool:
    """Tell whether kernels run in the interpreter, for which tl.dot needs float32 operands.

    It multiplies the bits of bfloat16 as integers.
    """
    return triton.knobs.runtime.interpret


@triton.jit
def nearest_e4m3(x):
    """Round float32 to the nearest E4M3, halves to even; too large values saturate, NaN stays."""
    x = tl.where(x > 448.0, 448.0, x)
    x = tl.where(x < -448.0, -448.0, x)
    power = (x.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    # Three bits behind the leading one; below 2^-6 the distance stays the same.
    step = tl.maximum(power, 0.015625) * 0.125
    # Added to 1.5 * 2^23 steps, no bit is left behind that of a whole step.
    whole = step * 12582912.0
    return (x + whole) - whole


@triton.jit
def nearest_int8(x):
    """Round float32 to the nearest of -128 ... 127, halves to even; NaN stays."""
    x = tl.where(x > 127.0, 127.0, x)
    x = tl.where(x < -128.0, -128.0, x)
    return (x + 12582912.0) - 12582912.0


@triton.jit
def part(pointer, at, mask, BOUNDED: tl.constexpr):
    """Load values; zeros where the mask is False, if BOUNDED says that there is such a place."""
    if BOUNDED:
        return tl.load(pointer + at, mask=mask, other=0.0)
    else:
        return tl.load(pointer + at)


@triton.jit
def inputs_of(
    x,
    cols,
    norm,
    root,
    smoothing,
    inverse,
    BOUNDED: tl.constexpr,
    INPUTS: tl.constexpr,
    NORM: tl.constexpr,
    SMOOTH: tl.constexpr,
    INPUT: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Load a part of a row; normalise, smooth and round it, each step rounded to DTYPE.

    Args:
        x: Pointer to the row.
        cols: What to load.
        norm: Pointer to the norm's weight.
        root: Reciprocal of the row's root mean square.
        smoothing: Pointer to factors.
        inverse: Pointer to one float32, by which values are multiplied before they are rounded.
        BOUNDED: Whether some of cols lie behind the end of the row; those are 0.
        INPUTS: Length of the row.
        NORM: Whether to normalise.
        SMOOTH: Whether to multiply by the factors.
        INPUT: What to round to at last: '', 'e4m3' or 'int8'.
        DTYPE: The engine's dtype.

    Returns:
        Float32 values.
    """
    mask = cols < INPUTS
    values = part(x, cols, mask, BOUNDED).to(tl.float32)
    if NORM:
        weights = part(norm, cols, mask, BOUNDED).to(tl.float32)
        values = (values * root * weights).to(DTYPE).to(tl.float32)
    if SMOOTH:
        factors = part(smoothing, cols, mask, BOUNDED).to(tl.float32)
        values = (values * factors).to(DTYPE).to(tl.float32)
    if INPUT == 'e4m3':
        values = nearest_e4m3(values * tl.load(inverse))
    if INPUT == 'int8':
        values = nearest_int8(values * tl.load(inverse))
    return values
