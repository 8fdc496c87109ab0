"""The layers of a Llama, for one sequence, with a static key-value cache.

L: tokens of this pass, T: length of the cache, W: attended part of the cache, K: key-value heads,
E: width of a head, D: width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.linears import through_e4m3

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.llama_config import LlamaConfig
    from trt_openvla_ros.engines.torch.llama_weights import LayerWeights


class DecoderLayer:
    """One decoder layer.

    Attributes:
        keys, values: [1, K, T, E] parts of the cache.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, config: LlamaConfig, weights: LayerWeights) -> None:
        """Hold the weights."""
        self.config = config
        self.weights = weights

    def __call__(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        rotation: torch.Tensor,
        window: int,
        mask: torch.Tensor | None,
        keep: int,
    ) -> torch.Tensor:
        """Run the layer and cache its keys and values.

        Args:
            hidden: [L, D] hidden states.
            positions: [L] int64 positions in the sequence, and so in the cache.
            rotation: [2, L, E] cosines and sines of the positions.
            window: W, the number of positions of the cache, from the first on, that are attended.
            mask: [L, W] bool, True for attended positions; None attends causally.
            keep: Number of rows of the result, counted from the end.

        Returns:
            [keep, D] hidden states.
        """
        c, w = self.config, self.weights
        qkv = w.qkv(self._normalise(hidden, w.input_norm))
        qkv = qkv.view(1, len(hidden), -1, c.head_dim).transpose(1, 2)
        turned, value = qkv.split([c.num_heads + c.num_kv_heads, c.num_kv_heads], dim=1)
        query, key = _rotate(turned, rotation).split([c.num_heads, c.num_kv_heads], dim=1)
        if w.cache_scale is not None:
            # The cache holds values already rounded to FP8, so its readers need no scale.
            key, value = (through_e4m3(part, w.cache_scale) for part in (key, value))
        self.keys.index_copy_(2, positions, key)
        self.values.index_copy_(2, positions, value)
        keys, values = self.keys[:, :, :window], self.values[:, :, :window]
        if c.num_kv_heads != c.num_heads:
            groups = c.num_heads // c.num_kv_heads
            keys = keys.repeat_interleave(groups, dim=1)
            values = values.repeat_interleave(groups, dim=1)
        if keep != len(hidden):
            hidden, query = hidden[-keep:], query[:, :, -keep:]
        attended = F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=mask is None and keep > 1
        )
        attended = attended.transpose(1, 2).reshape(keep, -1)
        hidden = hidden + w.out(attended)
        gate, up = w.gate_up(self._normalise(hidden, w.mlp_norm)).chunk(2, dim=-1)
        return hidden + w.down(F.silu(gate).mul_(up))

    def _normalise(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, weight.shape, weight, self.config.rms_norm_eps)


def rotary_table(config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Compute the [2, T, E] cosines and sines of all positions."""
    exponent = torch.arange(0, config.head_dim, 2, device=device).float() / config.head_dim
    frequency = 1.0 / (config.rope_theta**exponent)
    angle = torch.outer(torch.arange(config.max_positions, device=device).float(), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return torch.stack([angle.cos(), angle.sin()]).to(dtype)


def _rotate(states: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Rotate [1, heads, L, E] by rotation [2, L, E]."""
    half = states.shape[-1] // 2
    sine = rotation[1, :, :half]
    turned = states * rotation[0]
    # In place: concatenating the exchanged halves takes three times as long.
    turned[..., :half].addcmul_(states[..., half:], sine, value=-1)
    turned[..., half:].addcmul_(states[..., :half], sine)
    return turned
