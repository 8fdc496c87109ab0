"""What every matrix product of a Llama has, whatever its weight is stored as.

What stands around a product belongs to its call: the norm before, the gate or the sum with the
residual stream after. On a GPU one kernel does all of it for one row.

M: rows of the input, I: its width, O: width of the output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.kernels import operators


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
        if len(hidden) == 1 and operators.usable(hidden):
            fused = self._fused(hidden.contiguous(), norm, residual, gated=False)
            if fused is not None:
                return fused
        product = self._product(hidden if norm is None else norm(hidden))
        return product if residual is None else residual + product

    def gated(self, hidden: torch.Tensor, norm: Norm | None = None) -> torch.Tensor:
        """Map [M, I] to [M, O / 2]: SiLU of the first half of the outputs, times the second."""
        if len(hidden) == 1 and operators.usable(hidden):
            fused = self._fused(hidden.contiguous(), norm, None, gated=True)
            if fused is not None:
                return fused
        gate, up = self(hidden, norm).chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    def joined(self, other: Linear, dtype: torch.dtype) -> Linear:
        """Join with a product of the same input: one matrix if the tensors allow it."""
        return SideBySide(self, other)

    def _fused(
        self, hidden: torch.Tensor, norm: Norm | None, residual: torch.Tensor | None, gated: bool
    ) -> torch.Tensor | None:
        """Compute it all on a GPU for [1, I]; None where no kernel can."""
        return None

    @abstractmethod
    def _product(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map [M, I] to [M, O], without what stands around it."""


class SideBySide(Linear):
    """Two products with the same input, whose outputs are joined."""

    def __init__(self, first: Linear, second: Linear) -> None:
        """Hold both."""
        self.parts = first, second

    def _product(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(hidden) for part in self.parts], dim=-1)

    def _fused(
        self, hidden: torch.Tensor, norm: Norm | None, residual: torch.Tensor | None, gated: bool
    ) -> torch.Tensor:
        first, second = (part(hidden, norm) for part in self.parts)
        if gated and first.shape == second.shape:
            return F.silu(first).mul_(second)
        product = torch.cat([first, second], dim=-1)
        if gated:
            first, second = product.chunk(2, dim=-1)
            return F.silu(first).mul_(second)
        return product if residual is None else residual + product


def fused_product(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    norm: Norm | None,
    residual: torch.Tensor | None,
    gated: bool,
    *,
    scale: torch.Tensor | None = None,
    smoothing: torch.Tensor | None = None,
    inverse: torch.Tensor | None = None,
) -> torch.Tensor:
    """Call operators.product, whose arguments these are."""
    weights, eps = (None, 0.0) if norm is None else norm
    return operators.product(
        hidden, weight, scale, weights, eps, smoothing, inverse, residual, gated
    )
