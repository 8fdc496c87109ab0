"""The kernels as operators of torch, which also tell what they give where nothing is computed.

Only a call imports Triton. Nothing here waits for the GPU. Triton launches on the current device,
so each call makes that of its tensors the current one.

M: rows, I: width of the input, O: outputs, D: width, V: rows of the head.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch


def usable(tensor: torch.Tensor) -> bool:
    """Tell whether the kernels can compute with this tensor: it is on a GPU that Triton knows."""
    return tensor.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec('triton') is not None


@torch.library.custom_op(
    'trt_openvla_ros::product',
    mutates_args=(),
    schema='(Tensor hidden, Tensor weight, Tensor? scale, Tensor? norm, float eps,'
    ' Tensor? smoothing, Tensor? inverse, Tensor? residual, bool gated) -> Tensor',
)
def product(
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
    """Multiply a weight with one row.

    Args:
        hidden: [1, I] input, contiguous.
        weight: [O, I] weight in a float dtype, FP8 (E4M3) or int8, or int32 words of INT4.
        scale: [1] or [O] float32 scale of FP8 or int8, or [O, groups] of INT4; None for 1.
        norm: [I] weight of a norm of the input; None for no norm.
        eps: What the norm adds to the mean square.
        smoothing: [I] factors of the input; None for none.
        inverse: [1] float32. The input is multiplied by it and rounded to FP8, if the weight is
            FP8, else to int8. None for no rounding.
        residual: [1, O] what is added to the rounded product; None for nothing.
        gated: Whether to give SiLU of the first half of the outputs, times the second half.

    Returns:
        [1, O], or [1, O / 2] if gated, in the dtype of hidden.
    """
    from trt_openvla_ros.engines.torch.kernels.product import launch_product

    with torch.cuda.device_of(hidden):
        return launch_product(
            hidden, weight, scale, norm, eps, smoothing, inverse, residual, gated
        )


@product.register_fake
def _(hidden, weight, scale, norm, eps, smoothing, inverse, residual, gated):
    return hidden.new_empty(1, len(weight) // (2 if gated else 1))


@torch.library.custom_op(
    'trt_openvla_ros::rows',
    mutates_args=(),
    schema='(Tensor hidden, Tensor weight, Tensor? scale) -> Tensor',
)
def rows(hidden: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """Multiply a quantised weight with several rows.

    Args:
        hidden: [M, I] input, contiguous.
        weight: [O, I] FP8 (E4M3) or int8 weight, or int32 words of INT4.
        scale: As for product.

    Returns:
        [M, O] in the dtype of hidden.
    """
    from trt_openvla_ros.engines.torch.kernels.rows import launch_rows

    with torch.cuda.device_of(hidden):
        return launch_rows(hidden, weight, scale)


@rows.register_fake
def _(hidden, weight, scale):
    return hidden.new_empty(len(hidden), len(weight))


@torch.library.custom_op(
    'trt_openvla_ros::attend',
    mutates_args=('keys', 'values'),
    schema='(Tensor qkv, Tensor rotation, Tensor(a!) keys, Tensor(b!) values, Tensor position,'
    ' int num_heads, Tensor? cache_scale) -> Tensor',
)
def attend(
    qkv: torch.Tensor,
    rotation: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    position: torch.Tensor,
    num_heads: int,
    cache_scale: torch.Tensor | None,
) -> torch.Tensor:
    """Rotate, write to the cache and attend; engines.torch.attention says what the arguments are.

    Everything is contiguous.
    """
    from trt_openvla_ros.engines.torch.kernels.attention import launch_attend

    with torch.cuda.device_of(qkv):
        return launch_attend(qkv, rotation, keys, values, position, num_heads, cache_scale)


@attend.register_fake
def _(qkv, rotation, keys, values, position, num_heads, cache_scale):
    return qkv.new_empty(len(qkv), num_heads * keys.shape[2])


@torch.library.custom_op(
    'trt_openvla_ros::pick',
    mutates_args=(),
    schema='(Tensor hidden, Tensor head, Tensor? norm, float eps, int first, int count)'
    ' -> (Tensor, Tensor)',
)
def pick(
    hidden: torch.Tensor,
    head: torch.Tensor,
    norm: torch.Tensor | None,
    eps: float,
    first: int,
    count: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the row of the head with the largest logit.

    Args:
        hidden: [1, D] hidden state, contiguous.
        head: [V, D] head.
        norm: [D] weight of a norm of the hidden state; None for no norm.
        eps: What the norm adds to the mean square.
        first: First row of the head that counts.
        count: Number of rows that count.

    Returns:
        [1] largest logit in the dtype of hidden, and its row, [1] int64. NaN is the largest, and
        the first of equal logits is taken.
    """
    from trt_openvla_ros.engines.torch.kernels.pick import launch_pick

    with torch.cuda.device_of(hidden):
        return launch_pick(hidden, head, norm, eps, first, count)


@pick.register_fake
def _(hidden, head, norm, eps, first, count):
    return hidden.new_empty(1), hidden.new_empty(1, dtype=torch.int64)
