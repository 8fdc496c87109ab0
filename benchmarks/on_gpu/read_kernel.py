"""A kernel that reads memory as fast as it can, for the denominator of the roofline."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK = 4096
_ROUNDS = 16  # blocks that one program reads


@triton.jit
def _read(source, sums, block: tl.constexpr, rounds: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * block * rounds
    total = tl.zeros([block], tl.float32)
    for index in range(rounds):
        total += tl.load(source + begin + index * block + tl.arange(0, block))
    # Without a result that depends on every value, the compiler would leave the reading out.
    tl.store(sums + tl.program_id(0), tl.sum(total))


def read_sums(source: torch.Tensor) -> torch.Tensor:
    """Add up [N] float32, of which whole programs read equal parts; the rest is left out."""
    programs = source.numel() // (_BLOCK * _ROUNDS)
    sums = torch.empty(programs, dtype=torch.float32, device=source.device)
    _read[(programs,)](source, sums, _BLOCK, _ROUNDS, num_warps=8)
    return sums
