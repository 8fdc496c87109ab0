"""A Triton kernel that multiplies a weight with one row, with what a Llama does before and after.

Each program computes a few outputs and reads their weights once. It asks for the first weights
before it normalises the input, so that the memory works meanwhile. All sums are in float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from trt_openvla_ros.engines.torch.kernels.blocks import product_blocks
from trt_openvla_ros.engines.torch.kernels.int4 import planes_of, scaled, SIXTEEN
from trt_openvla_ros.engines.torch.kernels.rounding import inputs_of, part

# ruff: noqa: N803, N806 - constants of a kernel are in capitals


@triton.jit
def tile_of(weight, rows, WIDTH: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """Load columns STEP * BLOCK on of a weight with WIDTH columns; zeros behind the last."""
    cols = STEP * BLOCK + tl.arange(0, BLOCK)
    at = weight + (rows[:, None] * WIDTH + cols[None, :])
    # Each weight is read once and must not push the input out of the cache.
    if (STEP + 1) * BLOCK > WIDTH:
        mask = (rows[:, None] >= 0) & (cols[None, :] < WIDTH)
        return tl.load(at, mask=mask, other=0.0, eviction_policy='evict_first')
    else:
        return tl.load(at, eviction_policy='evict_first')


@triton.jit
def root_of(x, eps, INPUTS: tl.constexpr, BLOCK: tl.constexpr):
    """Give the reciprocal of the root mean square of a row."""
    squares = tl.zeros([BLOCK], tl.float32)
    for step in tl.static_range((INPUTS + BLOCK - 1) // BLOCK):
        cols = step * BLOCK + tl.arange(0, BLOCK)
        values = part(x, cols, cols < INPUTS, (step + 1) * BLOCK > INPUTS).to(tl.float32)
        squares += values * values
    return tl.rsqrt(tl.sum(squares, axis=0) / INPUTS + eps)


@triton.jit
def sums_of(w, x, ROWS: tl.constexpr, BLOCK: tl.constexpr, VECTOR: tl.constexpr):
    """Multiply, and sum what one thread loads at once: [ROWS, BLOCK] to [ROWS, BLOCK / VECTOR]."""
    products = w.to(tl.float32) * x[None, :]
    return tl.sum(tl.reshape(products, [ROWS, BLOCK // VECTOR, VECTOR]), axis=2)


# Not specialised: an int that is 1 would become a constant of another type.
@triton.jit(do_not_specialize=['outputs', 'sixteen'])
def product_kernel(
    out,
    x,
    weight,
    scale,
    norm,
    smoothing,
    inverse,
    residual,
    outputs,
    eps,
    sixteen,
    INPUTS: tl.constexpr,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,
    NORM: tl.constexpr,
    SMOOTH: tl.constexpr,
    INPUT: tl.constexpr,
    SCALE: tl.constexpr,
    RESIDUAL: tl.constexpr,
    GATED: tl.constexpr,
):
    """Compute ROWS outputs.

    Args:
        out: [outputs] result, in the dtype of x.
        x: [INPUTS] input.
        weight: [outputs, WIDTH]; if GATED, twice as many rows. Int32 words hold INT4 as
            weight_only.pack_int4 writes them.
        scale: One float32, or one for each row, or for each row and GROUP of inputs.
        norm: [INPUTS] weight of the norm.
        smoothing: [INPUTS] factors of the input.
        inverse: One float32 by which the input is multiplied before it is rounded.
        residual: [outputs] what is added.
        outputs: Width of the result.
        eps: What the norm adds to the mean square.
        sixteen: SIXTEEN, which the compiler must not know: a value in a register goes into one
            instruction with the mask of nibbles_of.
        INPUTS: Width of the input.
        WIDTH: Elements of a row of the weight.
        GROUP: Inputs that share a scale; 0 if the weight is not INT4.
        ROWS: Outputs of a program.
        BLOCK: Elements of a row that are loaded in one step.
        VECTOR: Elements that a thread loads at once; a divisor of BLOCK.
        NORM: Whether to normalise.
        SMOOTH: Whether to multiply the input by factors.
        INPUT: What the input is rounded to: '', 'e4m3' or 'int8'.
        SCALE: Which scale there is besides those of groups: '', 'one' or 'row'.
        RESIDUAL: Whether to add.
        GATED: Whether to give SiLU of the first half of the outputs, times the second.
    """
    DTYPE: tl.constexpr = out.dtype.element_ty
    STEPS: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    SPAN: tl.constexpr = (GROUP if GROUP < 128 else 128) // 16
    LANES: tl.constexpr = BLOCK // 4 if GROUP else BLOCK // VECTOR
    first = tl.program_id(0) * ROWS
    # Rows behind the last one read the last one again, and are not stored.
    rows = tl.minimum(tl.arange(0, ROWS), outputs - 1 - first)
    weight += first.to(tl.int64) * WIDTH
    gated = weight + outputs.to(tl.int64) * WIDTH
    w = tile_of(weight, rows, WIDTH, BLOCK, 0)
    if GATED:
        v = tile_of(gated, rows, WIDTH, BLOCK, 0)
    root = 1.0
    if NORM:
        root = root_of(x, eps, INPUTS, BLOCK * 8 if GROUP else BLOCK)
    y = tl.zeros([ROWS, LANES], tl.float32)
    z = tl.zeros([ROWS, LANES], tl.float32)
    for step in tl.static_range(STEPS):
        if step + 1 < STEPS:
            next_w = tile_of(weight, rows, WIDTH, BLOCK, step + 1)
            if GATED:
                next_v = tile_of(gated, rows, WIDTH, BLOCK, step + 1)
        if GROUP:
            for span in tl.static_range(8 // SPAN):
                row = first + rows
                planes, total = planes_of(
                    w, sixteen, x, norm, root, smoothing, inverse, step, span * SPAN, SPAN,
                    INPUTS, ROWS, BLOCK, NORM, SMOOTH, INPUT, DTYPE,
                )  # fmt: skip
                y += scaled(
                    planes, total, scale, row, step, span * SPAN, INPUTS, GROUP, ROWS, BLOCK
                )
                if GATED:
                    planes, total = planes_of(
                        v, sixteen, x, norm, root, smoothing, inverse, step, span * SPAN, SPAN,
                        INPUTS, ROWS, BLOCK, NORM, SMOOTH, INPUT, DTYPE,
                    )  # fmt: skip
                    row += outputs
                    z += scaled(
                        planes, total, scale, row, step, span * SPAN, INPUTS, GROUP, ROWS, BLOCK
                    )
        else:
            cols = step * BLOCK + tl.arange(0, BLOCK)
            values = inputs_of(
                x, cols, norm, root, smoothing, inverse, (step + 1) * BLOCK > INPUTS,
                INPUTS, NORM, SMOOTH, INPUT, DTYPE,
            )  # fmt: skip
            y += sums_of(w, values, ROWS, BLOCK, VECTOR)
            if GATED:
                z += sums_of(v, values, ROWS, BLOCK, VECTOR)
        if step + 1 < STEPS:
            w = next_w
            if GATED:
                v = next_v
    outs = first + tl.arange(0, ROWS)
    inside = outs < outputs
    y = tl.sum(y, axis=1)
    z = tl.sum(z, axis=1)
    if SCALE == 'one':
        y *= tl.load(scale)
        z *= tl.load(scale)
    if SCALE == 'row':
        y *= tl.load(scale + outs, mask=inside, other=0.0)
        if GATED:
            z *= tl.load(scale + outputs + outs, mask=inside, other=0.0)
    # Rounded wherever a torch operator would have stored its result.
    y = y.to(DTYPE).to(tl.float32)
    if GATED:
        y = (y / (1.0 + tl.exp(-y))).to(DTYPE).to(tl.float32)
        y *= z.to(DTYPE).to(tl.float32)
    if RESIDUAL:
        y += tl.load(residual + outs, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + outs, y.to(DTYPE), mask=inside)


def constants(
    weight: torch.Tensor,
    inputs: int,
    scale: torch.Tensor | None,
    gated: bool,
    *,
    norm: bool,
    smooth: bool,
    rounded: bool,
    residual: bool,
) -> tuple[dict[str, object], int]:
    """Give the constants of product_kernel and the number of warps for these tensors."""
    blocks = product_blocks(weight.shape[1], weight.dtype.itemsize, gated)
    int4 = weight.dtype is torch.int32
    values = {
        'INPUTS': inputs,
        'WIDTH': weight.shape[1],
        'GROUP': inputs // scale.shape[1] if int4 else 0,
        'ROWS': blocks.rows,
        'BLOCK': blocks.block,
        'VECTOR': blocks.vector,
        'NORM': norm,
        'SMOOTH': smooth,
        'INPUT': ('int8' if weight.dtype is torch.int8 else 'e4m3') if rounded else '',
        'SCALE': '' if scale is None or int4 else 'one' if scale.numel() == 1 else 'row',
        'RESIDUAL': residual,
        'GATED': gated,
    }
    return values, blocks.warps


def launch_product(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor | None,
    norm: torch.Tensor | None,
    eps: float,
    smoothing: torch.Tensor | None,
    inverse: torch.Tensor | None,
    residual: torch.Tensor | None,
    gated: bool,
) -> torch.Tensor:
    """Run the kernel; operators.product says what the arguments are."""
    outputs = len(weight) // (2 if gated else 1)
    out = hidden.new_empty(1, outputs)
    values, warps = constants(
        weight,
        hidden.shape[1],
        scale,
        gated,
        norm=norm is not None,
        smooth=smoothing is not None,
        rounded=inverse is not None,
        residual=residual is not None,
    )
    grid = (triton.cdiv(outputs, values['ROWS']),)
    product_kernel[grid](
        out,
        hidden,
        weight,
        scale,
        norm,
        smoothing,
        inverse,
        residual,
        outputs,
        eps,
        SIXTEEN,
        **values,
        num_warps=warps,
    )
    return out
