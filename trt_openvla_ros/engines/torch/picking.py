"""The greedy choice of a token: the row of the head with the largest logit."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.kernels import operators
from trt_openvla_ros.engines.torch.linears import Norm


def pick(
    hidden: torch.Tensor,
    head: torch.Tensor,
    norm: Norm | None = None,
    first: int = 0,
    count: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the row of the head with the largest logit, for each hidden state.

    On a GPU nothing waits for the result, and one row is one pass over the head.

    Args:
        hidden: [M, D] hidden states.
        head: [V, D] head, in the same dtype.
        norm: Norm of the hidden states; None if they are normalised.
        first: First row of the head that counts.
        count: Number of rows that count; None for all from first on.

    Returns:
        [M] largest logits in that dtype, and their rows in the head, [M] int64. NaN counts as the
        largest, so these few values tell whether all logits are numbers. Of equal logits the
        first is taken.
    """
    count = len(head) - first if count is None else count
    if len(hidden) == 1 and operators.usable(hidden):
        weight, eps = (None, 0.0) if norm is None else norm
        return operators.pick(hidden.contiguous(), head, weight, eps, first, count)
    hidden = hidden if norm is None else norm(hidden)
    best, rows = F.linear(hidden, head[first : first + count]).max(dim=-1)
    return best, rows + first
