"""Products whose weights alone are quantised, at load, without calibration.

Decoding is bound by reading weights, so it takes about as long as they have bytes. Inputs and sums
keep their precision. What a CPU computes with is the dequantised weight, so both compute with the
same numbers: FP8 and INT4 scales have so few bits that a weight is exact in bfloat16, too. An INT8
weight in bfloat16 is rounded once more on a CPU.

M: rows of the input, I: its width, O: width of the output, G: inputs that share one scale.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.kernels import operators
from trt_openvla_ros.engines.torch.linears import (
    capability,
    concatenated,
    Dense,
    E4M3_MAX,
    FP8_CAPABILITY,
    int4_integers,
    to_e4m3,
    unpack_int4,
)
from trt_openvla_ros.engines.torch.product import fused_product, Linear, Norm
from trt_openvla_ros.errors import ConfigError

FORMATS = ('fp8', 'int8', 'int4')
_MAX_GROUP, _MIN_GROUP = 128, 16
# Inputs of a block of words; kernels/int4.py says why.
_BLOCK = 128
# Shares of the largest weight of a group that INT4 still reaches; larger weights are clipped.
_CLIPS = (1.0, 0.94, 0.88, 0.82, 0.76)
# Weights that are quantised at the same time: the intermediate values take some 20 bytes each.
_CHUNK = 1 << 24


class WeightOnly(Linear):
    """Product with a weight in FP8 (E4M3), INT8 or INT4.

    Attributes:
        stored: [O, I] float8_e4m3fn or int8, or the [O, words] int32 words of pack_int4.
        scale: [O] float32 weight that a stored 1 stands for; of INT4 [O, I / G].
        smoothing: [I] factors of the input (AWQ's pre-quantisation scale); None for no factors.
    """

    def __init__(
        self,
        stored: torch.Tensor,
        scale: torch.Tensor,
        inputs: int,
        dtype: torch.dtype,
        smoothing: torch.Tensor | None = None,
    ) -> None:
        """Prepare.

        Args:
            stored: Quantised weight.
            scale: Its scales.
            inputs: I.
            dtype: Type of input and output.
            smoothing: Factors of the input.
        """
        self.stored, self.scale, self.smoothing = stored, scale, smoothing
        self._inputs, self._dtype = inputs, dtype
        self._weight = None if operators.usable(stored) else self.dequantised()

    def dequantised(self) -> torch.Tensor:
        """Give the [O, I] weight in the engine's dtype."""
        if self.stored.dtype is not torch.int32:
            return (self.stored.float() * self.scale[:, None]).to(self._dtype)
        integers = unpack_words(self.stored, self._inputs)
        grouped = integers.unflatten(1, (self.scale.shape[1], -1)).float()
        return (grouped * self.scale.float()[..., None]).flatten(1).to(self._dtype)

    def joined(self, other: Linear, dtype: torch.dtype) -> Linear:
        """Join with a product of the same input: one matrix if it is quantised the same way."""
        if (
            type(other) is not WeightOnly
            or self.stored.dtype is not other.stored.dtype
            or self.scale.shape[1:] != other.scale.shape[1:]
            or not _equal(self.smoothing, other.smoothing)
        ):
            return super().joined(other, dtype)
        return WeightOnly(
            concatenated([self.stored, other.stored]),
            torch.cat([self.scale, other.scale]),
            self._inputs,
            dtype,
            self.smoothing,
        )

    def _fused(
        self, hidden: torch.Tensor, norm: Norm | None, residual: torch.Tensor | None, gated: bool
    ) -> torch.Tensor:
        return fused_product(
            hidden,
            self.stored,
            norm,
            residual,
            gated,
            scale=self.scale,
            smoothing=self.smoothing,
        )

    def _product(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden if self.smoothing is None else hidden * self.smoothing
        if self._weight is None:
            return operators.rows(hidden.contiguous(), self.stored, self.scale)
        return F.linear(hidden, self._weight)


def quantise(weight: torch.Tensor, weights: str) -> Linear:
    """Quantise a weight, where it is.

    Args:
        weight: [O, I] weight in the engine's dtype.
        weights: 'fp8' and 'int8' with a scale for each output, or 'int4' with a scale for each
            128 inputs of an output, or for fewer if 128 does not divide I.

    Raises:
        ConfigError: The GPU lacks the format, or I cannot be divided into groups.
    """
    check_format(weights, weight)
    if weights == 'fp8':
        return _by_row(weight, _fp8)
    if weights == 'int8':
        return _by_row(weight, _int8)
    inputs = weight.shape[1]
    group = min(inputs & -inputs, _MAX_GROUP)
    if group < _MIN_GROUP:
        raise ConfigError(
            f'a weight has {inputs} inputs, which {_MIN_GROUP} does not divide: int4 needs groups '
            f'of at least {_MIN_GROUP} inputs with one scale; use weights int8'
        )
    rows = max(1, _CHUNK // inputs)
    parts = [_int4(part, group) for part in weight.split(rows)]
    stored, scale = (torch.cat(part) for part in zip(*parts, strict=True))
    return WeightOnly(stored, scale, inputs, weight.dtype)


def check_format(weights: str, weight: torch.Tensor) -> None:
    """Refuse a format that the device of a weight cannot compute with.

    Raises:
        ConfigError: It lacks FP8 or Triton, or there is no such format.
    """
    if weights not in FORMATS:
        raise ConfigError(f'weights is {weights!r}; it may be {", ".join(FORMATS)}')
    if not weight.is_cuda:
        return
    if not operators.usable(weight):
        raise ConfigError(
            f'weights is {weights}, which needs Triton on a GPU, and Triton is not installed; '
            'install triton, or use weights bfloat16'
        )
    found = capability(weight)
    if weights == 'fp8' and found < FP8_CAPABILITY:
        needed = '.'.join(map(str, FP8_CAPABILITY))
        raise ConfigError(
            f'weights is fp8, which needs a GPU of compute capability {needed} (Ada, Hopper or '
            f'newer), and this one has {found[0]}.{found[1]}; use weights int8, which is as small'
        )


def from_awq(
    packed: torch.Tensor, scale: torch.Tensor, smoothing: torch.Tensor, dtype: torch.dtype
) -> Linear:
    """Give the product with an AWQ weight of a TensorRT-LLM checkpoint.

    On a CPU every weight is rounded to the dtype, as TensorRT-LLM does it. The kernels for GPUs
    sum a group in float32 and multiply the sum by the scale, which leaves this rounding out.

    Args:
        packed: [O / 2, I] int8, as linears.unpack_int4 describes it.
        scale: [O, I / G] scales.
        smoothing: [I] factors of the input, in the engine's dtype.
        dtype: Type of input and output.
    """
    inputs = packed.shape[1]
    group = inputs // scale.shape[1]
    fits = group % _BLOCK == 0 or (_BLOCK % group == 0 and group >= _MIN_GROUP)
    if not (operators.usable(packed) and fits):
        return Dense(unpack_int4(packed, scale, dtype), smoothing)
    words = pack_int4(int4_integers(packed))
    return WeightOnly(words, scale.to(dtype), inputs, dtype, smoothing)


def pack_int4(integers: torch.Tensor) -> torch.Tensor:
    """Pack integers from -8 to 7 into words as kernels/int4.py describes them.

    Args:
        integers: [O, I] int8.

    Returns:
        [O, 16 ceil(I / 128)] int32. Integers behind the last are 0.
    """
    integers = F.pad(integers, (0, -integers.shape[1] % _BLOCK))
    planes = (integers + 8).unflatten(1, (-1, 8, 16))
    words = torch.zeros_like(planes[:, :, 0], dtype=torch.int32)
    for plane in range(8):
        words |= planes[:, :, plane].int() << (4 * plane)
    return words.flatten(1)


def unpack_words(words: torch.Tensor, inputs: int) -> torch.Tensor:
    """Give the [O, inputs] int8 integers of pack_int4."""
    blocks = words.unflatten(1, (-1, 16))
    planes = [((blocks >> (4 * plane)) & 15) - 8 for plane in range(8)]
    return torch.stack(planes, dim=2).flatten(1)[:, :inputs].to(torch.int8)


def _by_row(weight: torch.Tensor, quantised) -> WeightOnly:
    rows = max(1, _CHUNK // weight.shape[1])
    parts = [quantised(part.float()) for part in weight.split(rows)]
    stored = concatenated([part for part, _ in parts])
    scale = torch.cat([scale for _, scale in parts])
    return WeightOnly(stored, scale, weight.shape[1], weight.dtype)


def _fp8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # The scale has 4 significant bits, and so has E4M3: their product has the 8 of bfloat16.
    mantissa, exponent = torch.frexp(_largest(weight, 1) / E4M3_MAX)
    scale = torch.ldexp((mantissa * 16).ceil() / 16, exponent)
    return to_e4m3(weight, scale[:, None].reciprocal()), scale


def _int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = _largest(weight, 1) / 127
    return (weight / scale[:, None]).round_().clamp_(-127, 127).to(torch.int8), scale


def _int4(weight: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise [rows, I] to words and [rows, I / G] bfloat16 scales with the least squared error.

    The weight of largest absolute value becomes -8 or, if it is clipped, less than that: integers
    go down to -8 and up to 7, so the scale has the opposite sign of that weight.
    """
    groups = weight.float().unflatten(1, (-1, group))
    largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    largest = torch.where(largest == 0, 1.0, largest)
    best_error = torch.full_like(largest, torch.inf)
    # A weight that is no number makes its group NaN.
    best_scale = torch.full_like(largest, torch.nan)
    best = torch.zeros_like(groups, dtype=torch.int8)
    for clip in _CLIPS:
        # 5 significant bits; with at most 3 of the integer that is exact in bfloat16.
        mantissa, exponent = torch.frexp(largest * (clip / -8))
        scale = torch.ldexp((mantissa * 32).round() / 32, exponent)
        integers = (groups / scale).round_().clamp_(-8, 7)
        error = (integers * scale).sub_(groups).square_().sum(dim=-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
        best = torch.where(better, integers.to(torch.int8), best)
    return pack_int4(best.flatten(1)), best_scale[..., 0].to(torch.bfloat16)


def _largest(weight: torch.Tensor, dim: int) -> torch.Tensor:
    """Give the largest absolute value; 1 where all are zero, so that nothing divides by zero."""
    largest = weight.abs().amax(dim=dim)
    return torch.where(largest == 0, 1.0, largest)


def _equal(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return torch.equal(first, second)
