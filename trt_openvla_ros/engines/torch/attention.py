"""Attention of new rows of one sequence over a static cache, with their rotation and cache write.

T: new rows, K: key-value heads, H: query heads, E: width of a head, P: length of the cache,
W: attended part of the cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.kernels import operators
from trt_openvla_ros.engines.torch.linears import through_e4m3

# Rows from which on attention is bound by arithmetic, and left to the operators of torch.
MAX_KERNEL_ROWS = 64


def attend(
    qkv: torch.Tensor,
    rotation: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    position: torch.Tensor,
    num_heads: int,
    window: int | None = None,
    cache_scale: torch.Tensor | None = None,
    keep: int | None = None,
) -> torch.Tensor:
    """Rotate queries and keys, write keys and values to the cache, and attend.

    Row r attends to all cached positions before the first row, and to the rows up to itself.
    Nothing waits for the position to come from the device.

    Args:
        qkv: [T, (H + 2 K) E] queries, keys and values of new rows.
        rotation: [2, P, E] cosines and sines of all positions.
        keys: [K, P, E] cached keys; those of the new rows are written.
        values: The same of values.
        position: [1] int64 position of the first row; the last one is less than P.
        num_heads: H.
        window: W, which is more than the last position. If it is T, the position is 0: the rows
            are the whole sequence. None attends to the whole cache, of which most is masked.
            Unused on a GPU with up to MAX_KERNEL_ROWS rows: a kernel reads what is filled.
        cache_scale: [1] float32 scale of an FP8 cache; None for a cache without.
        keep: Rows of the result, counted from the end; None for all.

    Returns:
        [T or keep, H E] in the dtype of qkv.
    """
    length, (kv_heads, _, width) = len(qkv), keys.shape
    keep = length if keep is None else keep
    if length <= MAX_KERNEL_ROWS and operators.usable(qkv):
        attended = operators.attend(
            qkv.contiguous(), rotation, keys, values, position, num_heads, cache_scale
        )
        return attended[-keep:]
    window = keys.shape[1] if window is None else window
    positions = position
    if length > 1:
        positions = position + torch.arange(length, device=qkv.device)
    heads = qkv.view(1, length, -1, width).transpose(1, 2)
    turned, value = heads.split([num_heads + kv_heads, kv_heads], dim=1)
    turned = _rotate(turned, rotation.index_select(1, positions))
    query, key = turned.split([num_heads, kv_heads], dim=1)
    if cache_scale is not None:
        # The cache holds values already rounded to FP8, so its readers need no scale.
        key, value = (through_e4m3(part, cache_scale) for part in (key, value))
    keys.index_copy_(1, positions, key[0])
    values.index_copy_(1, positions, value[0])
    attended_keys, attended_values = keys[None, :, :window], values[None, :, :window]
    if kv_heads != num_heads:
        groups = num_heads // kv_heads
        attended_keys = attended_keys.repeat_interleave(groups, dim=1)
        attended_values = attended_values.repeat_interleave(groups, dim=1)
    mask = None
    if window != length:
        mask = torch.arange(window, device=qkv.device) <= positions[-keep:, None]
    attended = F.scaled_dot_product_attention(
        query[:, :, -keep:],
        attended_keys,
        attended_values,
        attn_mask=mask,
        is_causal=mask is None and keep == length > 1,
    )
    return attended.transpose(1, 2).reshape(keep, -1)


def _rotate(states: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Rotate [1, heads, T, E] by rotation [2, T, E]."""
    half = states.shape[-1] // 2
    sine = rotation[1, :, :half]
    turned = states * rotation[0]
    # In place: concatenating the exchanged halves takes three times as long.
    turned[..., :half].addcmul_(states[..., half:], sine, value=-1)
    turned[..., half:].addcmul_(states[..., :half], sine)
    return turned
