"""The attention of a step: rotary embedding, cache and softmax.

T: tokens of the step, H: heads, K: key-value heads, C: length of the cache, E: width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.kernels import operators
from trt_openvla_ros.engines.torch.linears import through_e4m3

# From more tokens on, arithmetic is the limit and not the cache, and torch's operators do it well.
MAX_KERNEL_TOKENS = 64


def attend(
    qkv: torch.Tensor,
    rotation: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    position: torch.Tensor,
    *,
    num_heads: int,
    window: int | None,
    cache_scale: torch.Tensor | None,
) -> torch.Tensor:
    """Cache the keys and values of some tokens, and attend to all up to each of them.

    On a GPU a kernel does it for up to MAX_KERNEL_TOKENS tokens. It reads the filled part of the
    cache, and nothing waits for the position to come from there.

    Args:
        qkv: [T, (H + 2 K) E] queries, keys and values of the tokens.
        rotation: [2, at least C, E] cosines and sines of the positions.
        keys: [K, C, E] part of the cache; row p is position p.
        values: [K, C, E], likewise.
        position: [1] int64 position of the first token, on the device.
        num_heads: H.
        window: Positions of the cache that are read, from the first on; None reads all.
            The kernel needs no window.
        cache_scale: [1] float32 scale of an FP8 cache; None if there is none.

    Returns:
        [T, H E] outputs of the heads.
    """
    if len(qkv) <= MAX_KERNEL_TOKENS and operators.usable(qkv):
        return operators.attend(
            qkv.contiguous(), rotation, keys, values, position, num_heads, cache_scale
        )
    kv_heads, length, width = keys.shape
    positions = position + torch.arange(len(qkv), device=qkv.device)
    parts = qkv.view(len(qkv), -1, width).transpose(0, 1)
    turned, value = parts.split([num_heads + kv_heads, kv_heads])
    query, key = rotate(turned, rotation[:, positions]).split([num_heads, kv_heads])
    if cache_scale is not None:
        # The cache holds values already rounded to FP8, so its readers need no scale.
        key, value = (through_e4m3(part, cache_scale) for part in (key, value))
    keys.index_copy_(1, positions, key)
    values.index_copy_(1, positions, value)
    keys, values = (part[:, :window] for part in (keys, values))
    mask = torch.arange(window or length, device=qkv.device) <= positions[:, None]
    return attention(query, keys, values, mask)


def attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attend with grouped heads.

    Args:
        query: [H, T, E].
        keys: [K, C, E].
        values: [K, C, E].
        mask: [T, C] bool, True for attended positions; None attends causally.

    Returns:
        [T, H E] outputs of the heads.
    """
    groups = len(query) // len(keys)
    if groups > 1:
        keys, values = (part.repeat_interleave(groups, dim=0) for part in (keys, values))
    attended = F.scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=mask, is_causal=mask is None
    )[0]
    return attended.transpose(0, 1).flatten(1)


def rotate(states: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Rotate [heads, L, E] by rotation [2, L, E]."""
    half = states.shape[-1] // 2
    sine = rotation[1, :, :half]
    turned = states * rotation[0]
    # In place: concatenating the exchanged halves takes three times as long.
    turned[..., :half].addcmul_(states[..., half:], sine, value=-1)
    turned[..., half:].addcmul_(states[..., :half], sine)
    return turned
