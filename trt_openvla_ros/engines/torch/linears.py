"""Matrix products with the weights that a checkpoint stores: plain, FP8, INT4 (AWQ) and INT8.

They compute the same as TensorRT-LLM's layers from the same tensors
(tensorrt_llm/quantization/layers.py), so quantised models can be tested without TensorRT-LLM. The
CPU holds the quantised values in float32 and multiplies those, which is exact but for the order of
the sum. GPUs that have FP8 products run them on the hardware.

M: rows of the input, I: its width, O: width of the output, G: inputs that share one scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.kernels import operators
from trt_openvla_ros.engines.torch.product import fused_product, Linear, Norm

# Largest finite float8_e4m3fn.
E4M3_MAX = 448.0
# The first GPUs with FP8: Ada.
FP8_CAPABILITY = (8, 9)
# cuBLASLt needs FP8 matrices whose widths are multiples of this.
_FP8_ALIGNMENT = 16


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

    def joined(self, other: Linear, dtype: torch.dtype) -> Linear:
        """Join with a product of the same input: one matrix if neither has factors."""
        if type(other) is Dense and self.smoothing is None and other.smoothing is None:
            return Dense(torch.cat([self.weight, other.weight]))
        return super().joined(other, dtype)

    def _fused(
        self, hidden: torch.Tensor, norm: Norm | None, residual: torch.Tensor | None, gated: bool
    ) -> torch.Tensor:
        return fused_product(hidden, self.weight, norm, residual, gated, smoothing=self.smoothing)


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

    def joined(self, other: Linear, dtype: torch.dtype) -> Linear:
        """Join with a product of the same input: one matrix if all scales are equal."""
        if type(other) is not Fp8 or not all(
            torch.equal(getattr(self, name), getattr(other, name))
            for name in ('weight_scale', 'input_scale')
        ):
            return super().joined(other, dtype)
        weight = concatenated([self.stored, other.stored])
        return Fp8(weight, self.weight_scale, self.input_scale, dtype)

    def _fused(
        self, hidden: torch.Tensor, norm: Norm | None, residual: torch.Tensor | None, gated: bool
    ) -> torch.Tensor | None:
        if capability(hidden) < FP8_CAPABILITY:
            return None
        return fused_product(
            hidden,
            self.stored,
            norm,
            residual,
            gated,
            scale=self._alpha,
            inverse=self._inverse,
        )


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
        if operators.usable(hidden):
            # Up to 128 they are exact in every dtype.
            return operators.rows(values.to(hidden.dtype), self._weight, self._alpha)
        return (F.linear(values, self._weight.float()) * self._alpha).to(hidden.dtype)

    def _fused(
        self, hidden: torch.Tensor, norm: Norm | None, residual: torch.Tensor | None, gated: bool
    ) -> torch.Tensor:
        return fused_product(
            hidden,
            self._weight,
            norm,
            residual,
            gated,
            scale=self._alpha,
            smoothing=self.smoothing,
            inverse=self._inverse,
        )


def concatenated(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the rows of weights of one dtype.

    It joins bytes, because some releases of torch cannot concatenate float8.
    """
    joined = torch.cat([weight.view(torch.uint8) for weight in weights])
    return joined.view(weights[0].dtype)


def unpack_int4(packed: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Dequantise AWQ weights as the kernel does: integer times scale, both cast to the dtype.

    Args:
        packed: [O / 2, I] int8; row r holds output 2r in the low four bits, 2r + 1 in the high.
        scale: [O, I / G] float32 scales; TensorRT-LLM casts them to the dtype of the checkpoint.
        dtype: Type of the result.

    Returns:
        [O, I] weight.
    """
    grouped = int4_integers(packed).unflatten(1, (scale.shape[1], -1)).to(dtype)
    return (grouped * scale.to(dtype)[..., None]).flatten(1)


def int4_integers(packed: torch.Tensor) -> torch.Tensor:
    """Take the [O, I] int8 integers, -8 to 7, out of [O / 2, I] packed ones of unpack_int4."""
    # The shift to the left gives the low half its sign; the shift to the right keeps the sign.
    return torch.stack([(packed << 4) >> 4, packed >> 4], dim=1).flatten(0, 1)


def to_e4m3(values: torch.Tensor, inverse_scale: torch.Tensor) -> torch.Tensor:
    """Divide by the scale and round to E4M3, halves to even; too large values saturate."""
    scaled = values.float() * inverse_scale
    # Clamp, because some releases of torch turn too large values into NaN. NaN stays NaN.
    return scaled.clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def through_e4m3(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Round values as an FP8 cache with that [1] scale does; the dtype stays the same."""
    return (to_e4m3(values, scale.reciprocal()).float() * scale).to(values.dtype)


def _held(weight: torch.Tensor) -> torch.Tensor:
    # On a GPU, widening the weight at every token costs almost nothing. On a CPU it would take
    # longer than the product.
    return weight.float() if weight.device.type == 'cpu' else weight


def capability(tensor: torch.Tensor) -> tuple[int, int]:
    """Give the compute capability of the GPU that holds a tensor."""
    if not torch.cuda.is_available():
        return FP8_CAPABILITY  # tensors without data, on which programs are only tried
    return torch.cuda.get_device_capability(tensor.device)


def _has_fp8(weight: torch.Tensor) -> bool:
    return (
        weight.device.type == 'cuda'
        and capability(weight) >= FP8_CAPABILITY
        and all(width % _FP8_ALIGNMENT == 0 for width in weight.shape)
    )
