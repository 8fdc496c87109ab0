"""What the checks of the kernels share: random tensors with poison around them, and closeness."""

import torch

# The interpreter cuts bits off where a GPU rounds to bfloat16 (2^-8), several times in a row.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 2e-2}
DTYPES = tuple(TOLERANCE)


def random(*shape, seed, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def guarded(tensor):
    """Copy a tensor to where NaN, or the largest integers, stand before and behind it."""
    margin = 4096
    flat = tensor.contiguous().view(-1)
    if flat.dtype is torch.float8_e4m3fn:
        return guarded(tensor.view(torch.uint8)).view(tensor.dtype)
    poison = torch.nan if flat.is_floating_point() else torch.iinfo(flat.dtype).max
    buffer = torch.full((flat.numel() + 2 * margin,), poison, dtype=flat.dtype)
    buffer[margin:-margin] = flat
    return buffer[margin:-margin].view(tensor.shape)


def close(actual, expected, dtype, factor=1.0):
    """Compare with an exact result: no value, and the whole by far less, may differ by more."""
    assert actual.dtype is dtype
    assert actual.shape == expected.shape
    error = (actual.double() - expected.double()).abs()
    size = expected.double().square().mean().sqrt()
    assert error.isfinite().all()
    assert error.square().mean().sqrt() <= factor * TOLERANCE[dtype] * size
    assert error.max() <= 8 * factor * TOLERANCE[dtype] * size
