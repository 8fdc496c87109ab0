"""A Llama in PyTorch, for one sequence: static key-value cache, greedy decoding.

L: tokens now, T: cache length, H: heads, K: key-value heads, E: head width, D: width.
"""

from __future__ import annotations

from collections.abc import Sequence
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.base import Decoding, Generation
from trt_openvla_ros.errors import ConfigError, InputError, OutputError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoint import Checkpoint, LlamaConfig


class TorchLanguage:
    """Language engine in PyTorch. Not safe for calls from two threads at once."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Load the language model.

        Raises:
            ConfigError: Weights are missing or of another shape than config.json says.
        """
        self.config = checkpoint.llm
        weights = {
            name: tensor.to(device, dtype)
            for name, tensor in checkpoint.tensors('language_model.')
        }
        self._assemble(weights, device, dtype)

    @torch.inference_mode()
    def _assemble(
        self, weights: dict[str, torch.Tensor], device: torch.device, dtype: torch.dtype
    ) -> None:
        c = self.config
        heads, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim

        def take(name: str, *shape: int) -> torch.Tensor:
            tensor = weights.pop(name, None)
            if tensor is None or tuple(tensor.shape) != shape:
                found = 'missing' if tensor is None else f'of shape {tuple(tensor.shape)}'
                raise ConfigError(f'language_model.{name} is {found}; config.json says {shape}')
            return tensor

        self.embedding = take('model.embed_tokens.weight', c.vocab_size, c.hidden_size)
        self.layers = []
        for index in range(c.num_layers):
            at = f'model.layers.{index}.'
            qkv = [
                take(f'{at}self_attn.q_proj.weight', heads, c.hidden_size),
                take(f'{at}self_attn.k_proj.weight', kv, c.hidden_size),
                take(f'{at}self_attn.v_proj.weight', kv, c.hidden_size),
            ]
            gate_up = [
                take(f'{at}mlp.{name}_proj.weight', c.intermediate_size, c.hidden_size)
                for name in ('gate', 'up')
            ]
            self.layers.append(
                _Layer(
                    c,
                    input_norm=take(f'{at}input_layernorm.weight', c.hidden_size),
                    # One matrix instead of three: fewer kernels, and the same numbers.
                    qkv=torch.cat(qkv),
                    out=take(f'{at}self_attn.o_proj.weight', c.hidden_size, heads),
                    mlp_norm=take(f'{at}post_attention_layernorm.weight', c.hidden_size),
                    gate_up=torch.cat(gate_up),
                    down=take(f'{at}mlp.down_proj.weight', c.hidden_size, c.intermediate_size),
                )
            )
        self.norm = take('model.norm.weight', c.hidden_size)
        self.head = (
            self.embedding
            if c.tie_word_embeddings
            else take('lm_head.weight', c.vocab_size, c.hidden_size)
        )
        shape = (c.num_layers, 2, c.num_kv_heads, c.max_positions, c.head_dim)
        self.cache = torch.zeros(shape, device=device, dtype=dtype)
        self.rotation = _rotary_table(c, device, dtype)

    def generate(
        self, ids: Sequence[int], embeddings: torch.Tensor, decoding: Decoding
    ) -> Generation:
        """Continue <s>, the [N, D] image embeddings, and the rest of ids, greedily.

        Raises:
            InputError: The prompt leaves no room in the context.
            OutputError: Logits are not finite.
        """
        start = time.perf_counter()
        logits = self.prefill(ids, embeddings)[-1]
        position = len(ids) + len(embeddings)
        limit = min(decoding.max_new_tokens, self.config.max_positions - position)
        if limit < 1:
            raise InputError(
                f'the prompt has {position} positions and the model {self.config.max_positions}; '
                'shorten the instruction'
            )
        picker = _Picker(decoding)
        chosen = picker.pick(logits)
        prefilled = time.perf_counter()
        while not picker.finished and len(picker.ids) < limit:
            logits = self.step(chosen, position)
            position += 1
            chosen = picker.pick(logits)
        end = time.perf_counter()
        return Generation(picker.ids, picker.out_of_range, prefilled - start, end - prefilled)

    def first_logits(self, ids: Sequence[int], embeddings: torch.Tensor) -> np.ndarray:
        """Give the [V] float32 logits of the first generated token."""
        return self.prefill(ids, embeddings)[-1].float().cpu().numpy()

    @torch.inference_mode()
    def prefill(
        self, ids: Sequence[int], embeddings: torch.Tensor, every: bool = False
    ) -> torch.Tensor:
        """Run the prompt and fill the cache.

        Args:
            ids: Token ids, <s> first.
            embeddings: [N, D], placed behind <s>.
            every: Logits at every position, not only the last.

        Returns:
            [1 or L, V] logits in the engine's dtype.
        """
        length = len(ids) + len(embeddings)
        if length > self.config.max_positions:
            raise InputError(
                f'the prompt has {length} positions and the model {self.config.max_positions}; '
                'shorten the instruction'
            )
        text = F.embedding(torch.tensor(ids, device=self.embedding.device), self.embedding)
        hidden = torch.cat([text[:1], embeddings.to(text), text[1:]])
        return self._forward(hidden, 0, every)

    @torch.inference_mode()
    def step(self, token: int, position: int) -> torch.Tensor:
        """Run one token at a position behind the cached ones; [V] logits."""
        return self._forward(self.embedding[token][None], position, False)[0]

    def _forward(self, hidden: torch.Tensor, start: int, every: bool) -> torch.Tensor:
        rotation = self.rotation[:, start : start + len(hidden)]
        for layer, cache in zip(self.layers, self.cache, strict=True):
            hidden = layer(hidden, rotation, cache, start)
        if not every:
            hidden = hidden[-1:]
        return F.linear(_rms_norm(hidden, self.norm, self.config.rms_norm_eps), self.head)


class _Layer:
    """One decoder layer."""

    def __init__(self, config: LlamaConfig, **weights: torch.Tensor) -> None:
        self.config = config
        self.weights = weights

    def __call__(
        self, hidden: torch.Tensor, rotation: torch.Tensor, cache: torch.Tensor, start: int
    ) -> torch.Tensor:
        """Map [L, D] to [L, D]; write keys and values to cache [2, K, T, E] from start on."""
        c, w = self.config, self.weights
        length, end = len(hidden), start + len(hidden)
        qkv = F.linear(_rms_norm(hidden, w['input_norm'], c.rms_norm_eps), w['qkv'])
        qkv = qkv.view(length, -1, c.head_dim).transpose(0, 1)
        query, key, value = qkv.split([c.num_heads, c.num_kv_heads, c.num_kv_heads])
        cache[0, :, start:end] = _rotate(key, rotation)
        cache[1, :, start:end] = value
        keys, values = cache[:, :, :end]
        if c.num_kv_heads != c.num_heads:
            groups = c.num_heads // c.num_kv_heads
            keys = keys.repeat_interleave(groups, dim=0)
            values = values.repeat_interleave(groups, dim=0)
        attended = F.scaled_dot_product_attention(
            _rotate(query, rotation)[None], keys[None], values[None], is_causal=length > 1
        )
        attended = attended[0].transpose(0, 1).reshape(length, -1)
        hidden = hidden + F.linear(attended, w['out'])
        gate, up = F.linear(_rms_norm(hidden, w['mlp_norm'], c.rms_norm_eps), w['gate_up']).chunk(
            2, dim=-1
        )
        return hidden + F.linear(F.silu(gate) * up, w['down'])


class _Picker:
    """Chooses token ids greedily and knows when the action begins and ends."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        self.ids: list[int] = []
        self.out_of_range = 0
        self.action_count = 0
        self.finished = False

    def pick(self, logits: torch.Tensor) -> int:
        """Choose from [V] logits."""
        d = self.decoding
        best, token = torch.max(logits, dim=-1)
        # max propagates NaN, so this one number tells for the whole vector.
        if not torch.isfinite(best):
            raise OutputError(
                f'the model gave {best.item()} logits after {len(self.ids)} tokens; '
                'its weights or the dtype are broken (try dtype float32)'
            )
        token = int(token)
        if d.actions is not None:
            token = self._follow_action(token, logits)
        self.ids.append(token)
        self.finished |= token == d.eos_id
        return token

    def _follow_action(self, token: int, logits: torch.Tensor) -> int:
        first, end = self.decoding.actions
        inside = first <= token < end
        begun = self.action_count or self.decoding.action_first
        if not begun and inside:
            begun = self.decoding.action_begins(self.ids)
        if begun:
            if not inside:
                self.out_of_range += 1
                if self.decoding.constrain:
                    token = first + int(torch.argmax(logits[first:end]))
            self.action_count += 1
            self.finished = self.action_count == self.decoding.action_dim
        return token


def _rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    # In float32, as transformers does it: bfloat16 sums of thousands of squares lose digits.
    wide = hidden.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(hidden.dtype)


def _rotary_table(config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Cosines and sines, [2, T, E]."""
    exponent = torch.arange(0, config.head_dim, 2, device=device).float() / config.head_dim
    frequency = 1.0 / (config.rope_theta**exponent)
    angle = torch.outer(torch.arange(config.max_positions, device=device).float(), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return torch.stack([angle.cos(), angle.sin()]).to(dtype)


def _rotate(states: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Rotate [heads, L, E] by rotation [2, L, E]."""
    half = states.shape[-1] // 2
    turned = torch.cat([-states[..., half:], states[..., :half]], dim=-1)
    return states * rotation[0] + turned * rotation[1]
