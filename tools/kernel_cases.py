"""The Triton kernels with the constants of openvla-7b: what compile_kernels.py compiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton

from trt_openvla_ros.engines.torch.kernels import attention, pick, product, rows

# Of openvla-7b and ecot-7b, which have the same language model.
HIDDEN, INNER, VOCABULARY, HEADS, HEAD_DIM = 4096, 11008, 32064, 32, 128
# Positions of the cache in the rows of attention: prompt and action; prompt and 350 tokens.
FILLED = {1: 292, 16: 640, 64: 640}
GROUP = 128
_TYPES = {
    torch.bfloat16: '*bf16',
    torch.float8_e4m3fn: '*fp8e4nv',
    torch.int8: '*i8',
    torch.int32: '*i32',
}
_FORMATS = {
    'bfloat16': torch.bfloat16,
    'fp8': torch.float8_e4m3fn,
    'int8': torch.int8,
    'int4': torch.int32,
}
# Products of a layer: outputs (rows of the weight), inputs, and what goes with them.
_PRODUCTS = {
    'qkv': (3 * HIDDEN, HIDDEN, {'norm': True}),
    'out': (HIDDEN, HIDDEN, {'residual': True}),
    'gate_up': (2 * INNER, HIDDEN, {'norm': True, 'gated': True}),
    'down': (HIDDEN, INNER, {'residual': True}),
}


@dataclass(frozen=True)
class Case:
    """A kernel with the constants of one use.

    Attributes:
        kernel: Function.
        use: What it computes.
        types: Triton's types of the arguments that are no constants, by name.
        constants: Values of the others.
        options: Options of the compiler.
        programs: Programs of a launch.
        read: Bytes that a launch must read.
    """

    kernel: Any
    use: str
    types: dict[str, str]
    constants: dict[str, Any]
    options: dict[str, int]
    programs: int
    read: int


def cases() -> Iterator[Case]:
    """Give all kernels with all constants that a decoding step or a draft uses."""
    for weights, dtype in _FORMATS.items():
        for use in _PRODUCTS:
            yield _product(use, weights, dtype)
    # The formats of TensorRT-LLM, which round or multiply the input, too.
    yield _product('qkv', 'fp8 of TensorRT-LLM', torch.float8_e4m3fn, rounded=True)
    for weights, dtype in (('int8_sq', torch.int8), ('int4_awq', torch.int32)):
        rounded = dtype is torch.int8
        yield _product('down', weights, dtype, rounded=rounded, smooth=True)
    for weights, dtype in list(_FORMATS.items())[1:]:
        for length in (16, 64, 320, 512):
            yield _rows('qkv', weights, dtype, length)
        yield _rows('out', weights, dtype, 512)
    for length, filled in FILLED.items():
        yield _attend(length, filled, rounded=False)
    yield _attend(1, FILLED[1], rounded=True)
    yield _combine(1)
    yield from _pick(VOCABULARY)
    yield from _pick(256)


def _weight(dtype: torch.dtype, outputs: int, inputs: int) -> tuple[torch.Tensor, Any]:
    """Give a weight and its scales, without memory."""
    if dtype is torch.int32:
        weight = torch.empty(outputs, inputs // 8, dtype=dtype, device='meta')
        scale = torch.empty(outputs, inputs // GROUP, dtype=torch.bfloat16, device='meta')
        return weight, scale
    weight = torch.empty(outputs, inputs, dtype=dtype, device='meta')
    return weight, None if dtype is torch.bfloat16 else torch.empty(outputs, device='meta')


def _stored(*tensors: torch.Tensor | None) -> int:
    return sum(t.numel() * t.dtype.itemsize for t in tensors if t is not None)


def _absent(types: dict[str, str], **used: bool) -> dict[str, None]:
    """Give the pointers that are not used, which are constants, and take them out of types."""
    absent = [name for name, use in used.items() if not use]
    for name in absent:
        del types[name]
    return dict.fromkeys(absent)


def _product(
    use: str, weights: str, dtype: torch.dtype, rounded: bool = False, smooth: bool = False
) -> Case:
    outputs, inputs, also = _PRODUCTS[use]
    weight, scale = _weight(dtype, outputs, inputs)
    if rounded and dtype is torch.float8_e4m3fn:
        scale = torch.empty(1, device='meta')
    with_norm, residual, gated = (also.get(key, False) for key in ('norm', 'residual', 'gated'))
    constants, warps = product.constants(
        weight,
        inputs,
        scale,
        gated,
        norm=with_norm,
        smooth=smooth,
        rounded=rounded,
        residual=residual,
    )
    types = dict.fromkeys(('out', 'x', 'norm', 'smoothing', 'residual'), '*bf16')
    types |= {'weight': _TYPES[dtype], 'inverse': '*fp32', 'outputs': 'i32', 'eps': 'fp32'}
    types |= {'scale': '*bf16' if dtype is torch.int32 else '*fp32', 'sixteen': 'i32'}
    constants |= _absent(
        types,
        scale=scale is not None,
        norm=with_norm,
        smoothing=smooth,
        inverse=rounded,
        residual=residual,
    )
    results = outputs // (2 if gated else 1)
    read = _stored(weight, scale) + 2 * inputs * (1 + with_norm + smooth) + 2 * results * residual
    programs = -(-results // constants['ROWS'])
    name = f'{use}, {weights}'
    return Case(
        product.product_kernel, name, types, constants, {'num_warps': warps}, programs, read
    )


def _rows(use: str, weights: str, dtype: torch.dtype, length: int) -> Case:
    outputs, inputs, _ = _PRODUCTS[use]
    weight, scale = _weight(dtype, outputs, inputs)
    constants, options = rows.constants(length, inputs, weight, scale, 2)
    types = {'out': '*bf16', 'x': '*bf16', 'weight': _TYPES[dtype], 'outputs': 'i32'}
    types |= {'scale': '*bf16' if dtype is torch.int32 else '*fp32', 'length': 'i32'}
    types['sixteen'] = 'i32'
    programs = -(-outputs // constants['OUTS']) * -(-length // constants['ROWS'])
    read = _stored(weight, scale) + 2 * length * inputs
    name = f'{use}, {weights}, {length} rows'
    return Case(rows.rows_kernel, name, types, constants, options, programs, read)


def _attend(length: int, filled: int, rounded: bool) -> Case:
    keys = torch.empty(HEADS, filled, HEAD_DIM, dtype=torch.bfloat16, device='meta')
    constants, _, options = attention.constants(length, HEADS, keys, rounded)
    types = dict.fromkeys(('qkv', 'rotation', 'keys', 'values'), '*bf16')
    types |= dict.fromkeys(('parts', 'bests', 'totals', 'cache_scale'), '*fp32')
    types |= {'position': '*i64', 'width': 'fp32'}
    types |= dict.fromkeys(('length', 'positions', 'table'), 'i32')
    constants |= _absent(types, cache_scale=rounded)
    programs = HEADS * (constants['SPLITS'] + 1) * -(-length // constants['QUERIES'])
    read = 2 * _stored(keys) + length * 2 * (3 * HIDDEN + 2 * HEAD_DIM)
    name = f'{length} new of {filled} positions' + ', FP8 cache' * rounded
    return Case(attention.attend_kernel, name, types, constants, options, programs, read)


def _combine(length: int) -> Case:
    keys = torch.empty(HEADS, 1, HEAD_DIM, dtype=torch.bfloat16, device='meta')
    _, constants, _ = attention.constants(length, HEADS, keys, False)
    types = {'out': '*bf16', 'count': 'i32'} | dict.fromkeys(('parts', 'bests', 'totals'), '*fp32')
    read = constants['PARTS'] * length * HEADS * (HEAD_DIM + 2) * 4
    name = f'{length} new'
    return Case(
        attention.combine_kernel, name, types, constants, {'num_warps': 4}, length * HEADS, read
    )


def _pick(count: int) -> Iterator[Case]:
    head = torch.empty(count, HIDDEN, dtype=torch.bfloat16, device='meta')
    constants = pick.constants(HIDDEN, head, count, norm=True)
    types = dict.fromkeys(('x', 'weight', 'norm'), '*bf16')
    types |= {'best': '*fp32', 'best_index': '*i32', 'first': 'i32', 'count': 'i32', 'eps': 'fp32'}
    programs = -(-count // constants['ROWS'])
    read = _stored(head) + 4 * HIDDEN
    name = f'{count} rows of the head'
    yield Case(pick.logits_kernel, name, types, constants, {'num_warps': 4}, programs, read)
    types = {
        'value': '*bf16',
        'token': '*i64',
        'best': '*fp32',
        'best_index': '*i32',
        'count': 'i32',
    }
    constants = {'BLOCK': triton.next_power_of_2(programs)}
    name = f'{programs} programs'
    yield Case(pick.pick_kernel, name, types, constants, {'num_warps': 8}, 1, 8 * programs)
