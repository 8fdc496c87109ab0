"""How kernels divide their work: constants by shape, because to search at run time takes long.

A GPU hides the time until memory answers if some 20 kB are under way for each of its multi-
processors (bandwidth times latency). Each thread loads 16 bytes at once, and each program asks for
16 kB before it needs the first of them. Registers let several programs run at once.
"""

from __future__ import annotations

from typing import NamedTuple

# Bytes that a thread loads at once, and that a program of 128 threads asks for.
_LOAD, _ASKED = 16, 16384
_THREADS, _LANES = 128, 32
# Bytes of a row that one step of a loop reads. Rows up to twice as long need no loop.
_STEP = 4096


class ProductBlocks(NamedTuple):
    """Division of a product with one row.

    Attributes:
        rows: Outputs of a program.
        block: Elements of a row in one step.
        vector: Elements that a thread loads at once.
        warps: Groups of 32 threads of a program.
    """

    rows: int
    block: int
    vector: int
    warps: int


def product_blocks(width: int, itemsize: int, gated: bool) -> ProductBlocks:
    """Divide a product.

    Args:
        width: Elements of a row of the weight: for INT4 int32 words.
        itemsize: Bytes of an element.
        gated: Whether each output needs two rows.
    """
    vector = _LOAD // itemsize
    block = _power_of_two(width)
    if block * itemsize > 2 * _STEP or block - width > width // 8:
        block = min(block, _STEP // itemsize)
        # Lanes behind the end of the row do nothing; let them be at most an eighth.
        while block > _LANES * vector and -width % block > width // 8:
            block //= 2
    block = max(block, _LANES * vector)
    rows = _ASKED // (block * itemsize) // (2 if gated else 1)
    rows = max(1, min(rows, 8))
    return ProductBlocks(rows, block, vector, _THREADS // _LANES)


def _power_of_two(number: int) -> int:
    """Give the smallest power of two that is not smaller."""
    return 1 << (number - 1).bit_length()


class RowsBlocks(NamedTuple):
    """Division of a product with several rows.

    Attributes:
        outs: Outputs of a program.
        rows: Rows of a program.
        block: Inputs of a step.
        warps: Groups of 32 threads of a program.
        stages: Steps that are loaded at the same time.
    """

    outs: int
    rows: int
    block: int
    warps: int
    stages: int


def rows_blocks(length: int, outputs: int, int4: bool, itemsize: int) -> RowsBlocks:
    """Divide a product with that many rows.

    Few rows are bound by reading the weight, so many programs read it. From 65 rows on the tensor
    cores are the limit, and large tiles use what they read more often.

    Args:
        length: Rows.
        outputs: Outputs of each.
        int4: Whether the weight is INT4.
        itemsize: Bytes of an input. Steps of float32 take so much shared memory that fewer fit.
    """
    if length <= 64:
        return RowsBlocks(32, max(16, _power_of_two(length)), 128, 4, 4 if itemsize <= 2 else 2)
    # Rows behind the end are computed in vain; let them be at most an eighth.
    rows = 128 if -length % 128 <= length // 8 else 64
    # A step of INT4 has 128 inputs, twice as many.
    stages = 2 if int4 or itemsize > 2 else 3
    if outputs < 8192:
        return RowsBlocks(64, rows, 64, 4, stages)  # or else there are too few programs
    return RowsBlocks(128, rows, 64, 8, stages)


def pick_rows(count: int, rows: int) -> int:
    """Give the rows of the head for one program.

    Args:
        count: Rows that count. A short range is divided finely, to keep more processors busy.
        rows: Rows of a program of a product of that width.
    """
    return 2 * rows if count > 4096 else 1


class AttentionBlocks(NamedTuple):
    """Division of attention.

    Attributes:
        splits: Parts of the filled cache that are attended at the same time.
        queries: Rows of a program, all of one key-value head; at least 16 for the tensor cores.
        keys: Positions of a step.
        stages: Steps that are loaded at the same time.
    """

    splits: int
    queries: int
    keys: int
    stages: int


def attention_blocks(queries: int, heads: int, itemsize: int) -> AttentionBlocks:
    """Divide attention.

    Args:
        queries: New rows times query heads of one key-value head.
        heads: Key-value heads. With the splits they should keep some 256 programs busy.
        itemsize: Bytes of an element of the cache. Of float32, one step fits into the 99 KiB of
            shared memory that the smaller GPUs have.
    """
    splits = max(1, min(32, 256 // heads))
    rows = min(64, max(16, _power_of_two(queries)))
    return AttentionBlocks(splits, rows, 32, 3 if itemsize <= 2 else 1)
