"""Matrix products with the weights that a checkpoint stores: plain, FP8, INT4 (AWQ) and INT8.

They compute the same as TensorRT-LLM's layers from the same tensors
(tensorrt_llm/quantization/layers.py), so quantised models can be tested without TensorRT-LLM. The
CPU holds the quantised values in float32 and multiplies those, which is exact but for the order of
the sum. GPUs that have FP8 products run them on the hardware.

What stands around a product in a Llama belongs to its call, because one kernel can do it all: the
norm before, the gate or the sum with the residual stream after.

M: rows of the input, I: its width, O: width of the output, G: inputs that share one scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

# Largest finite float8_e4m3fn.
E4M3_MAX = 448.0
# cuBLASLt needs FP8 matrices whose widths are multiples of this, and a GPU from Ada on.
_FP8_ALIGNMENT, _FP8_CAPABILITY = 16, (8, 9)


class Norm(NamedTuple):
    """A root-mean-square norm: [I] weight in the engine's dtype, and what is added to the mean."""

    weight: torch.Tensor
    eps: float

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalise [M, I]: in float32, rounded once."""
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.eps)


class Linear(ABC):
    """A product with a weight [O, I]; this class has what is the same for every weight."""

    def __call__(
        self,
        hidden: torch.Tensor,
        norm: Norm | None = None,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map [M, I] to [M, O].

        Args:
            hidden: [M, I] input in the engine's dtype.
            norm: Norm of the input; None for no norm.
            residual: [M, O] states that are added to the product; None for no sum.

        Returns:
            [M, O] in the dtype of the input. The product is rounded before the sum.
        """
        product = self._product(hidden if norm is None else norm(hidden))
        return product if residual is None else residual + product

    def gated(self, hidden: torch.Tensor, norm: Norm | None = None) -> torch.Tensor:
        """Map [M, I] to [M, O / 2]: SiLU of the first half of the outputs, times the second."""
        gate, up = self(hidden, norm).chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @abstractmethod
    def _product(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map [M, I] to [M, O], without what stands around it."""


class Dense(Linear):
    """Product with a weight in the engine's dtype.

    Attributes:
        weight: [O, I] weight in the engine's dtype.
        smoothing: [I] factors of the input (AWQ's pre-quantisation scale); None for no factors.
    """

    def __init__(self, weight: torch.Tensor, smoothing: torch.Tensor | None = None) -> None:
        """Hold the tensors."""
        self.weight, self.smoothing = weight, smoothing

    def _product(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden if self.smoothing is None else hidden * self.smoothing, self.weight)


class Fp8(Linear):
    """Product of FP8 (E4M3) inputs (one scale) and weights (one scale), summed in float32."""

    def __init__(
        self,
        weight: torch.Tensor,
        weight_scale: torch.Tensor,
        input_scale: torch.Tensor,
        dtype: torch.dtype,
    ) -> None:
        """Prepare.

        Args:
            weight: [O, I] float8_e4m3fn weight.
            weight_scale: [1] float32 weight that a stored 1.0 stands for.
            input_scale: [1] float32 input that a 1.0 stands for.
            dtype: Type of input and output. As in TensorRT-LLM, the input is divided by
                input_scale cast to this type, and the product is multiplied by the uncast scale.
        """
        self.stored = weight
        self.weight_scale, self.input_scale = weight_scale, input_scale
        self._inverse = input_scale.to(dtype).float().reciprocal()
        self._alpha = weight_scale * input_scale
        self.native = _has_fp8(weight)
        self._weight = weight.t() if self.native else _held(weight)

    def _product(self, hidden: torch.Tensor) -> torch.Tensor:
        values = to_e4m3(hidden, self._inverse)
        if self.native:
            return torch._scaled_mm(
                values,
                self._weight,
                scale_a=self.input_scale,
                scale_b=self.weight_scale,
                out_dtype=hidden.dtype,
            )
        # Products of two E4M3 values have 8 significant bits: exact in float32.
        return (F.linear(values.float(), self._weight.float()) * self._alpha).to(hidden.dtype)


class Int8(Linear):
    """Product of INT8 inputs (one scale) and weights (one scale per output): SmoothQuant."""

    def __init__(
        self,
        weight: torch.Tensor,
        weight_scale: torch.Tensor,
        input_scale: torch.Tensor,
        smoothing: torch.Tensor,
    ) -> None:
        """Prepare.

        Args:
            weight: [O, I] int8 weight.
            weight_scale: [O] float32 weights that a stored 1 stands for.
            input_scale: [1] float32 input that a 1 stands for.
            smoothing: [I] factors of the input, in the engine's dtype.
        """
        self._weight = _held(weight)
        self._alpha, self._inverse = weight_scale * input_scale, input_scale.reciprocal()
        self.smoothing = smoothing

    def _product(self, hidden: torch.Tensor) -> torch.Tensor:
        values = (hidden * self.smoothing).float() * self._inverse
        values = values.round_().clamp_(-128, 127)
        return (F.linear(values, self._weight.float()) * self._alpha).to(hidden.dtype)


class SideBySide(Linear):
    """Two products with the same input, whose outputs are joined."""

    def __init__(self, first: Linear, second: Linear) -> None:
        """Hold both."""
        self.parts = first, second

    def _product(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(hidden) for part in self.parts], dim=-1)


def unpack_int4(packed: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Dequantise AWQ weights as the kernel does: integer times scale, both cast to the dtype.

    Args:
        packed: [O / 2, I] int8; row r holds output 2r in the low four bits, 2r + 1 in the high.
        scale: [O, I / G] float32 scales; TensorRT-LLM casts them to the dtype of the checkpoint.
        dtype: Type of the result.

    Returns:
        [O, I] weight.
    """
    # The shift to the left gives the low half its sign; the shift to the right keeps the sign.
    low, high = (packed << 4) >> 4, packed >> 4
    values = torch.stack([low, high], dim=1).flatten(0, 1)
    grouped = values.unflatten(1, (scale.shape[1], -1)).to(dtype)
    return (grouped * scale.to(dtype)[..., None]).flatten(1)


def to_e4m3(values: torch.Tensor, inverse_scale: torch.Tensor) -> torch.Tensor:
    """Divide by the scale and round to E4M3, halves to even; too large values saturate."""
    scaled = values.float() * inverse_scale
    # Clamp, because some releases of torch turn too large values into NaN. NaN stays NaN.
    return scaled.clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def through_e4m3(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Round values as an FP8 cache with that [1] scale does; the dtype stays the same."""
    return (to_e4m3(values, scale.reciprocal()).float() * scale).to(values.dtype)


def stack(first: Linear, second: Linear, dtype: torch.dtype) -> Linear:
    """Join two products into one matrix if their tensors allow it, else side by side."""
    kinds = {type(first), type(second)}
    if kinds == {Dense} and first.smoothing is None and second.smoothing is None:
        return Dense(torch.cat([first.weight, second.weight]))
    if kinds == {Fp8} and all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ('weight_scale', 'input_scale')
    ):
        # Concatenate bytes, because some releases of torch cannot concatenate float8.
        both = torch.cat([part.stored.view(torch.uint8) for part in (first, second)])
        weight = both.view(torch.float8_e4m3fn)
        return Fp8(weight, first.weight_scale, first.input_scale, dtype)
    return SideBySide(first, second)


def _held(weight: torch.Tensor) -> torch.Tensor:
    # On a GPU, widening the weight at every token costs almost nothing. On a CPU it would take
    # longer than the product.
    return weight.float() if weight.device.type == 'cpu' else weight


def _has_fp8(weight: torch.Tensor) -> bool:
    return (
        weight.device.type == 'cuda'
        and torch.cuda.get_device_capability(weight.device) >= _FP8_CAPABILITY
        and all(width % _FP8_ALIGNMENT == 0 for width in weight.shape)
    )
