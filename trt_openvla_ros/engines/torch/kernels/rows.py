"""A Triton kernel that multiplies a quantised weight with several rows, for drafts and prompts.

The weight becomes the engine's dtype in registers, exactly: FP8 has 4 significant bits, INT8 and
INT4 are whole numbers up to 128. Tensor cores multiply, sums are in float32, scales come last.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from trt_openvla_ros.engines.torch.kernels.blocks import rows_blocks
from trt_openvla_ros.engines.torch.kernels.int4 import nibbles_of, SIXTEEN
from trt_openvla_ros.engines.torch.kernels.rounding import interpreted

# ruff: noqa: N803, N806 - constants of a kernel are in capitals


@triton.jit(do_not_specialize=['outputs', 'length', 'sixteen'])
def rows_kernel(
    out,
    x,
    weight,
    scale,
    outputs,
    length,
    sixteen,
    INPUTS: tl.constexpr,
    GROUP: tl.constexpr,
    OUTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    SCALE: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Compute OUTS outputs of ROWS rows.

    Args:
        out: [length, outputs] result, in the dtype of x.
        x: [length, INPUTS] input.
        weight: [outputs, INPUTS] values, or [outputs, words] as int4.py describes.
        scale: One float32, or one for each output, or for each output and GROUP of inputs.
        outputs: Width of the result.
        length: Rows of the input.
        sixteen: SIXTEEN, as in product_kernel.
        INPUTS: Width of the input.
        GROUP: Inputs that share a scale; 0 if the weight is not INT4.
        OUTS: Outputs of a program.
        ROWS: Rows of a program.
        BLOCK: Inputs of a step; INT4 always takes 128.
        SCALE: Which scale there is besides those of groups: '', 'one' or 'row'.
        WIDE: Whether to multiply in float32 whatever the dtype.
    """
    DTYPE: tl.constexpr = tl.float32 if WIDE else x.dtype.element_ty
    outs = tl.program_id(0) * OUTS + tl.arange(0, OUTS)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    # Rows behind the last one compute the last one again, and are not stored.
    weight_rows = tl.minimum(outs, outputs - 1).to(tl.int64)[:, None]
    x += tl.minimum(rows, length - 1)[None, :] * INPUTS
    sums = tl.zeros([OUTS, ROWS], tl.float32)
    if GROUP:
        SPAN: tl.constexpr = (GROUP if GROUP < 128 else 128) // 16
        GROUPS: tl.constexpr = INPUTS // GROUP
        BLOCKS: tl.constexpr = (INPUTS + 127) // 128
        words_at = weight + weight_rows * (BLOCKS * 16) + tl.arange(0, 16)[None, :]
        for block in range(BLOCKS):
            words = tl.load(words_at + block * 16)
            for span in tl.static_range(8 // SPAN):
                group_sums = tl.zeros([OUTS, ROWS], tl.float32)
                for index in tl.static_range(SPAN):
                    cols = block * 128 + (span * SPAN + index) * 16 + tl.arange(0, 16)
                    values = tl.load(x + cols[:, None], mask=cols[:, None] < INPUTS, other=0.0)
                    numbers = nibbles_of(words, sixteen, span * SPAN + index) - 24.0
                    group_sums = tl.dot(
                        numbers.to(DTYPE), values.to(DTYPE), group_sums, input_precision='ieee'
                    )
                group = (block * 128 + span * SPAN * 16) // GROUP
                # Behind the last group all inputs are 0.
                group = tl.minimum(group, GROUPS - 1)
                sums += group_sums * tl.load(scale + weight_rows * GROUPS + group).to(tl.float32)
    else:
        for start in range(0, INPUTS, BLOCK):
            cols = start + tl.arange(0, BLOCK)
            if INPUTS % BLOCK == 0:
                w = tl.load(weight + weight_rows * INPUTS + cols[None, :])
                values = tl.load(x + cols[:, None])
            else:
                mask = (weight_rows >= 0) & (cols[None, :] < INPUTS)
                w = tl.load(weight + weight_rows * INPUTS + cols[None, :], mask=mask, other=0.0)
                values = tl.load(x + cols[:, None], mask=cols[:, None] < INPUTS, other=0.0)
            sums = tl.dot(w.to(DTYPE), values.to(DTYPE), sums, input_precision='ieee')
        if SCALE == 'one':
            sums *= tl.load(scale)
        if SCALE == 'row':
            sums *= tl.load(scale + weight_rows)
    at = out + rows[None, :].to(tl.int64) * outputs + outs[:, None]
    tl.store(
        at,
        sums.to(out.dtype.element_ty),
        mask=(rows[None, :] < length) & (outs[:, None] < outputs),
    )


def constants(
    length: int, inputs: int, weight: torch.Tensor, scale: torch.Tensor | None, itemsize: int
) -> tuple[dict[str, object], dict[str, int]]:
    """Give the constants of rows_kernel and the options of its launch for these tensors.

    Inputs are of `itemsize` bytes.
    """
    int4 = weight.dtype is torch.int32
    blocks = rows_blocks(length, len(weight), int4, itemsize)
    values = {
        'INPUTS': inputs,
        'GROUP': inputs // scale.shape[1] if int4 else 0,
        'OUTS': blocks.outs,
        'ROWS': blocks.rows,
        'BLOCK': blocks.block,
        'SCALE': '' if scale is None or int4 else 'one' if scale.numel() == 1 else 'row',
        'WIDE': interpreted(),
    }
    return values, {'num_warps': blocks.warps, 'num_stages': blocks.stages}


def launch_rows(
    hidden: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor | None
) -> torch.Tensor:
    """Run the kernel; operators.rows says what the arguments are."""
    length, inputs = hidden.shape
    outputs = len(weight)
    out = hidden.new_empty(length, outputs)
    values, options = constants(length, inputs, weight, scale, hidden.dtype.itemsize)
    grid = (triton.cdiv(outputs, values['OUTS']), triton.cdiv(length, values['ROWS']))
    rows_kernel[grid](out, hidden, weight, scale, outputs, length, SIXTEEN, **values, **options)
    return out
