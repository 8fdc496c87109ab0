"""A Llama for one sequence, with a static key-value cache.

L: positions of a prompt, N: image embeddings, R: rows that are wanted, T: tokens of a step,
C: length of the cache, K: key-value heads, E: width of a head, D: width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.attention import attend, attention, rotate
from trt_openvla_ros.engines.torch.linears import Norm, through_e4m3

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.llama_config import LlamaConfig
    from trt_openvla_ros.engines.torch.llama_weights import LayerWeights, LlamaWeights

# Positions by which the cache grows, and by which what a CPU reads of it does: a step of sixteen
# tokens reads for a fifth of its time.
_GROWTH, _WINDOW = 256, 32


class DecoderLayer:
    """One decoder layer.

    Attributes:
        keys, values: [K, C, E] parts of the cache.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, config: LlamaConfig, weights: LayerWeights) -> None:
        """Hold the weights."""
        self.config, self.weights = config, weights
        self._input_norm = Norm(weights.input_norm, config.rms_norm_eps)
        self._mlp_norm = Norm(weights.mlp_norm, config.rms_norm_eps)

    def prompt(
        self, hidden: torch.Tensor, rotation: torch.Tensor, rows: torch.Tensor | None
    ) -> torch.Tensor:
        """Run the layer over a whole sequence from its start, and cache its keys and values.

        Args:
            hidden: [L, D] hidden states.
            rotation: [2, C, E] cosines and sines of the positions.
            rows: [R] int64 rows that are wanted; None for all.

        Returns:
            [R or L, D] hidden states.
        """
        c, w, length = self.config, self.weights, len(hidden)
        qkv = w.qkv(hidden, self._input_norm).view(length, -1, c.head_dim).transpose(0, 1)
        turned, value = qkv.split([c.num_heads + c.num_kv_heads, c.num_kv_heads])
        query, key = rotate(turned, rotation[:, :length]).split([c.num_heads, c.num_kv_heads])
        if w.cache_scale is not None:
            # The cache holds values already rounded to FP8, so its readers need no scale.
            key, value = (through_e4m3(part, w.cache_scale) for part in (key, value))
        self.keys[:, :length].copy_(key)
        self.values[:, :length].copy_(value)
        mask = None
        if rows is not None:
            hidden, query = hidden[rows], query[:, rows]
            mask = torch.arange(length, device=rows.device) <= rows[:, None]
        return self._finish(hidden, attention(query, key, value, mask))

    def step(
        self,
        hidden: torch.Tensor,
        rotation: torch.Tensor,
        position: torch.Tensor,
        window: int | None,
    ) -> torch.Tensor:
        """Run the layer over the tokens behind the cached ones, and cache them too.

        Args:
            hidden: [T, D] hidden states.
            rotation: [2, C, E] cosines and sines of the positions.
            position: [1] int64 position of the first of them, on the device.
            window: Positions of the cache that are read, from the first on, where the host knows
                how many; None reads as many as position says.

        Returns:
            [T, D] hidden states.
        """
        attended = attend(
            self.weights.qkv(hidden, self._input_norm),
            rotation,
            self.keys,
            self.values,
            position,
            num_heads=self.config.num_heads,
            window=window,
            cache_scale=self.weights.cache_scale,
        )
        return self._finish(hidden, attended)

    def _finish(self, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        w = self.weights
        hidden = w.out(attended, residual=hidden)
        return w.down(w.gate_up.gated(hidden, self._mlp_norm), residual=hidden)


class Llama:
    """The decoder layers between embedding and head, and their cache.

    Attributes:
        config: Shape of the model.
        weights: Weights of the model.
        norm: Norm between the last layer and the head.
        layers: The layers.
        cache: [layers, 2, K, C, E] keys and values.
    """

    def __init__(
        self, config: LlamaConfig, weights: LlamaWeights, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Hold the weights; the cache is empty until `reserve`."""
        self.config, self.weights = config, weights
        self.norm = Norm(weights.norm, config.rms_norm_eps)
        self.layers = [DecoderLayer(config, layer) for layer in weights.layers]
        self._rotation = torch.zeros(2, 0, config.head_dim, dtype=dtype, device=device)
        shape = config.num_layers, 2, config.num_kv_heads, 0, config.head_dim
        self.cache = torch.zeros(shape, dtype=dtype, device=device)

    def reserve(self, positions: int) -> bool:
        """Make room for a sequence, and tell whether the cache moved; what is cached stays."""
        old, stored = self.cache, self.cache.shape[3]
        length = round_up(positions, _GROWTH)
        if length <= stored:
            return False
        self._rotation = _rotary_table(self.config, length, old.device, old.dtype)
        self.cache = old.new_zeros(*old.shape[:3], length, old.shape[4])
        self.cache[:, :, :, :stored] = old
        for layer, (keys, values) in zip(self.layers, self.cache, strict=True):
            layer.keys, layer.values = keys, values
        return True

    def window(self, positions: int) -> int:
        """Give the positions of the cache that a CPU reads for so many."""
        return min(round_up(positions, _WINDOW), self.cache.shape[3])

    def prompt(
        self, text: torch.Tensor, image: torch.Tensor, rows: torch.Tensor | None
    ) -> torch.Tensor:
        """Run a prompt.

        Args:
            text: [L - N] int64 token ids, <s> first.
            image: [N, D] image embeddings, placed behind <s>.
            rows: [R] int64 positions that are wanted; None for all.

        Returns:
            [R or L, D] final hidden states, which the head's norm has not seen yet.
        """
        words = F.embedding(text, self.weights.embedding)
        hidden = torch.cat([words[:1], image, words[1:]])
        for layer in self.layers[:-1]:
            hidden = layer.prompt(hidden, self._rotation, None)
        # Only these rows of the last layer are read, which costs less.
        return self.layers[-1].prompt(hidden, self._rotation, rows)

    def step(
        self, tokens: torch.Tensor, position: torch.Tensor, window: int | None
    ) -> torch.Tensor:
        """Run the tokens behind the cached ones; the arguments are those of `DecoderLayer.step`.

        Returns:
            [T, D] final hidden states, which the head's norm has not seen yet.
        """
        hidden = F.embedding(tokens, self.weights.embedding)
        for layer in self.layers:
            hidden = layer.step(hidden, self._rotation, position, window)
        return hidden


def round_up(number: int, step: int) -> int:
    """Give the next multiple of `step`."""
    return -(-number // step) * step


def _rotary_table(
    config: LlamaConfig, positions: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Compute the [2, positions, E] cosines and sines of the first positions."""
    exponent = torch.arange(0, config.head_dim, 2, device=device).float() / config.head_dim
    frequency = 1.0 / (config.rope_theta**exponent)
    angle = torch.outer(torch.arange(positions, device=device).float(), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return torch.stack([angle.cos(), angle.sin()]).to(dtype)
