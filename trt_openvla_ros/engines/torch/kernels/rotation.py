"""Rotation of heads by their position, and rounding for an FP8 cache, inside a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl

from trt_openvla_ros.engines.torch.kernels.rounding import nearest_e4m3

# ruff: noqa: N803, N806 - constants of a kernel are in capitals


@triton.jit
def rotated(pointer, rows, inside, columns, cosine, sine, HALF: tl.constexpr):
    """Load rows of a head and rotate them.

    Args:
        pointer: Pointers to the heads: [rows, 1].
        rows: Which rows exist: [rows, 1].
        inside: Which columns of a half exist: [1, columns].
        columns: [1, columns].
        cosine: Pointers to the cosines of the rows' positions: [rows, 1].
        sine: The same of sines.
        HALF: Half of the width of a head.

    Returns:
        Both halves, each rounded as torch operators do: after the cosine, and at the end.
    """
    DTYPE: tl.constexpr = pointer.dtype.element_ty
    mask = rows & inside
    low = tl.load(pointer + columns, mask=mask, other=0.0).to(tl.float32)
    high = tl.load(pointer + HALF + columns, mask=mask, other=0.0).to(tl.float32)
    cos_low = tl.load(cosine + columns, mask=mask, other=0.0).to(tl.float32)
    cos_high = tl.load(cosine + HALF + columns, mask=mask, other=0.0).to(tl.float32)
    sin = tl.load(sine + columns, mask=mask, other=0.0).to(tl.float32)
    turned_low = (low * cos_low).to(DTYPE).to(tl.float32) - high * sin
    turned_high = (high * cos_high).to(DTYPE).to(tl.float32) + low * sin
    return turned_low.to(DTYPE), turned_high.to(DTYPE)


@triton.jit
def cached(values, scale, ROUND: tl.constexpr):
    """Round values as the cache holds them."""
    if ROUND:
        factor = tl.load(scale)
        rounded = nearest_e4m3(values.to(tl.float32) * (1.0 / factor)) * factor
        values = rounded.to(values.dtype)
    return values
