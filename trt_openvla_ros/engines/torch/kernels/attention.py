"""Triton kernels of attention: rotation, cache write and attention of a few new rows.

The position is a value on the device, so one captured launch serves every length. The filled part
of the cache is divided among a fixed number of programs for each key-value head. One more program
takes the new rows from the product instead of from the cache, and writes them there, so no program
waits for another. A second kernel puts the parts together.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from trt_openvla_ros.engines.torch.kernels.blocks import attention_blocks
from trt_openvla_ros.engines.torch.kernels.rotation import cached, rotated
from trt_openvla_ros.engines.torch.kernels.rounding import interpreted

# ruff: noqa: N803, N806 - constants of a kernel are in capitals


@triton.jit
def _attended(
    best,
    total,
    sums,
    q_low,
    q_high,
    k_low,
    k_high,
    values,
    visible,
    width,
    WIDE: tl.constexpr,
):
    """Add keys and values to running [queries] maxima and totals and [queries, columns] sums."""
    DTYPE: tl.constexpr = tl.float32 if WIDE else values.dtype
    scores = tl.dot(q_low.to(DTYPE), tl.trans(k_low).to(DTYPE), input_precision='ieee')
    scores = tl.dot(q_high.to(DTYPE), tl.trans(k_high).to(DTYPE), scores, input_precision='ieee')
    scores = tl.where(visible, scores * width, -float('inf'))
    new_best = tl.maximum(best, tl.max(scores, axis=1))
    # A row that sees nothing yet keeps -inf, from which nothing may be taken.
    level = tl.where(new_best == -float('inf'), 0.0, new_best)
    weights = tl.exp(scores - level[:, None])
    old = tl.exp(best - level)
    total = total * old + tl.sum(weights, axis=1)
    sums = sums * old[:, None]
    sums = tl.dot(
        weights.to(values.dtype).to(DTYPE), values.to(DTYPE), sums, input_precision='ieee'
    )
    return new_best, total, sums


# Lengths are values, so that one kernel serves a cache that grows.
@triton.jit(do_not_specialize=['length', 'positions', 'table'])
def attend_kernel(
    parts,
    bests,
    totals,
    qkv,
    rotation,
    keys,
    values,
    position,
    cache_scale,
    length,
    positions,
    table,
    width,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SPLITS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    ROUND: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Attend one part of the positions, for some rows of one key-value head.

    Args:
        parts: [SPLITS + 1, length, HEADS, HEAD] float32 sums of values.
        bests: [SPLITS + 1, length, HEADS] float32 largest scores.
        totals: The same of sums of weights.
        qkv: [length, (HEADS + 2 KV_HEADS) HEAD] queries, keys and values.
        rotation: [2, table, HEAD] cosines and sines.
        keys: [KV_HEADS, positions, HEAD] cache.
        values: The same.
        position: [1] int64 position of the first row.
        cache_scale: [1] float32, if ROUND.
        length: New rows.
        positions: Length of the cache.
        table: Positions of the table.
        width: Factor of the scores.
        HEADS: Query heads.
        KV_HEADS: Key-value heads.
        HEAD: Width of a head.
        SPLITS: Parts of the cache.
        QUERIES: Rows of a program.
        KEYS: Positions of a step.
        HALF_BLOCK: A power of two that is at least half of HEAD.
        BLOCK: A power of two that is at least HEAD.
        ROUND: Whether the cache holds FP8 values.
        WIDE: Whether to multiply in float32 whatever the dtype.
    """
    GROUP: tl.constexpr = HEADS // KV_HEADS
    HALF: tl.constexpr = HEAD // 2
    kv = tl.program_id(0)
    split = tl.program_id(1)
    query = tl.program_id(2) * QUERIES + tl.arange(0, QUERIES)
    row = query // GROUP
    head = kv * GROUP + query % GROUP
    start = tl.load(position).to(tl.int32)
    stride = (HEADS + 2 * KV_HEADS) * HEAD
    half = tl.arange(0, HALF_BLOCK)[None, :]
    full = tl.arange(0, BLOCK)[None, :]
    sine = rotation + table * HEAD
    q_low, q_high = rotated(
        qkv + (row * stride + head * HEAD)[:, None],
        row[:, None] < length,
        half < HALF,
        half,
        rotation + ((start + row) * HEAD)[:, None],
        sine + ((start + row) * HEAD)[:, None],
        HALF,
    )
    best = tl.full([QUERIES], -float('inf'), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    sums = tl.zeros([QUERIES, BLOCK], tl.float32)
    keys += kv.to(tl.int64) * positions * HEAD
    values += kv.to(tl.int64) * positions * HEAD
    if split < SPLITS:
        # Whole steps, as evenly as they go.
        each = tl.cdiv(tl.cdiv(start, KEYS), SPLITS) * KEYS
        end = tl.minimum(split * each + each, start)
        for at in range(split * each, end, KEYS):
            place = at + tl.arange(0, KEYS)[:, None]
            there = place < end
            k_low = tl.load(keys + place * HEAD + half, mask=there & (half < HALF), other=0.0)
            k_high = tl.load(
                keys + place * HEAD + HALF + half, mask=there & (half < HALF), other=0.0
            )
            v = tl.load(values + place * HEAD + full, mask=there & (full < HEAD), other=0.0)
            visible = (at + tl.arange(0, KEYS) < end)[None, :] & (query >= 0)[:, None]
            best, total, sums = _attended(
                best, total, sums, q_low, q_high, k_low, k_high, v, visible, width, WIDE
            )
    else:
        for at in range(0, length, KEYS):
            new = at + tl.arange(0, KEYS)[:, None]
            there = new < length
            k_low, k_high = rotated(
                qkv + new * stride + (HEADS + kv) * HEAD,
                there,
                half < HALF,
                half,
                rotation + (start + new) * HEAD,
                sine + (start + new) * HEAD,
                HALF,
            )
            v = tl.load(
                qkv + new * stride + (HEADS + KV_HEADS + kv) * HEAD + full,
                mask=there & (full < HEAD),
                other=0.0,
            )
            k_low = cached(k_low, cache_scale, ROUND)
            k_high = cached(k_high, cache_scale, ROUND)
            v = cached(v, cache_scale, ROUND)
            if tl.program_id(2) == 0:
                place = (start + new) * HEAD
                tl.store(keys + place + half, k_low, mask=there & (half < HALF))
                tl.store(keys + place + HALF + half, k_high, mask=there & (half < HALF))
                tl.store(values + place + full, v, mask=there & (full < HEAD))
            visible = (at + tl.arange(0, KEYS))[None, :] <= row[:, None]
            best, total, sums = _attended(
                best, total, sums, q_low, q_high, k_low, k_high, v, visible, width, WIDE
            )
    place = (split * length + row) * HEADS + head
    tl.store(bests + place, best, mask=row < length)
    tl.store(totals + place, total, mask=row < length)
    mask = (row[:, None] < length) & (full < HEAD)
    tl.store(parts + place[:, None] * HEAD + full, sums, mask=mask)


@triton.jit(do_not_specialize=['count'])
def combine_kernel(
    out,
    parts,
    bests,
    totals,
    count,
    PARTS: tl.constexpr,
    PARTS_BLOCK: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Put the parts of one row and head together.

    Args:
        out: [count, HEAD] result.
        parts: [PARTS, count, HEAD] sums of values.
        bests: [PARTS, count] largest scores.
        totals: [PARTS, count] sums of weights.
        count: Rows times heads.
        PARTS: Parts.
        PARTS_BLOCK: A power of two that is at least PARTS.
        HEAD: Width of a head.
        BLOCK: A power of two that is at least HEAD.
    """
    index = tl.program_id(0)
    part = tl.arange(0, PARTS_BLOCK)
    column = tl.arange(0, BLOCK)
    at = part * count + index
    best = tl.load(bests + at, mask=part < PARTS, other=-float('inf'))
    total = tl.load(totals + at, mask=part < PARTS, other=0.0)
    # Every row sees itself, so one of the largest scores is a number, or all is NaN.
    shares = tl.exp(best - tl.max(best, axis=0))
    mask = (part < PARTS)[:, None] & (column < HEAD)[None, :]
    sums = tl.load(parts + at[:, None] * HEAD + column[None, :], mask=mask, other=0.0)
    result = tl.sum(sums * shares[:, None], axis=0) / tl.sum(total * shares, axis=0)
    tl.store(out + index * HEAD + column, result.to(out.dtype.element_ty), mask=column < HEAD)


def constants(
    length: int, num_heads: int, keys: torch.Tensor, rounded: bool
) -> tuple[dict[str, object], dict[str, object], dict[str, int]]:
    """Give the constants of both kernels for these tensors, and options of the first launch."""
    kv_heads, _, head = keys.shape
    blocks = attention_blocks(length * (num_heads // kv_heads), kv_heads, keys.dtype.itemsize)
    full = max(16, triton.next_power_of_2(head))
    attend = {
        'HEADS': num_heads,
        'KV_HEADS': kv_heads,
        'HEAD': head,
        'SPLITS': blocks.splits,
        'QUERIES': blocks.queries,
        'KEYS': blocks.keys,
        'HALF_BLOCK': max(16, triton.next_power_of_2(head // 2)),
        'BLOCK': full,
        'ROUND': rounded,
        'WIDE': interpreted(),
    }
    parts = blocks.splits + 1
    combine = {
        'PARTS': parts,
        'PARTS_BLOCK': triton.next_power_of_2(parts),
        'HEAD': head,
        'BLOCK': full,
    }
    return attend, combine, {'num_warps': 4, 'num_stages': blocks.stages}


def launch_attend(
    qkv: torch.Tensor,
    rotation: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    position: torch.Tensor,
    num_heads: int,
    cache_scale: torch.Tensor | None,
) -> torch.Tensor:
    """Run the kernels; operators.attend says what the arguments are."""
    length, kv_heads, head = len(qkv), *keys.shape[::2]
    attend, combine, options = constants(length, num_heads, keys, cache_scale is not None)
    count, parts = length * num_heads, combine['PARTS']
    sums = torch.empty(parts, count, head, dtype=torch.float32, device=qkv.device)
    bests = torch.empty(parts, count, dtype=torch.float32, device=qkv.device)
    totals = torch.empty_like(bests)
    queries = length * (num_heads // kv_heads)
    grid = (kv_heads, parts, triton.cdiv(queries, attend['QUERIES']))
    attend_kernel[grid](
        sums,
        bests,
        totals,
        qkv,
        rotation,
        keys,
        values,
        position,
        cache_scale,
        length,
        keys.shape[1],
        rotation.shape[1],
        head**-0.5,
        **attend,
        **options,
    )
    out = qkv.new_empty(length, num_heads * head)
    combine_kernel[(count,)](out, sums, bests, totals, count, **combine, num_warps=4)
    return out
