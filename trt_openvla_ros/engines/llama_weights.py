"""The weights of a Llama as the torch engine wants them, from a Hugging Face checkpoint.

D: width, V: rows of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trt_openvla_ros.engines.linears import Dense, Linear
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoint import Checkpoint


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one decoder layer.

    Attributes:
        input_norm, mlp_norm: [D].
        qkv: To queries, keys and values, one behind the other: fewer kernels than with three.
        out: From the heads.
        gate_up: To the gate and what it gates, one behind the other.
        down: Back to D.
        cache_scale: [1] float32; keys and values are cached in FP8 of this scale. None: as is.
    """

    input_norm: torch.Tensor
    qkv: Linear
    out: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear
    cache_scale: torch.Tensor | None = None


@dataclass(frozen=True)
class LlamaWeights:
    """All weights: embedding [V, D], layers, final norm [D], and the head [V, D]."""

    embedding: torch.Tensor
    layers: list[LayerWeights]
    norm: torch.Tensor
    head: torch.Tensor


class Tensors:
    """Tensors by name, each to be taken once; what is missing, odd or left over is an error."""

    def __init__(self, pairs: Iterable[tuple[str, torch.Tensor]], where: str) -> None:
        """Read them all.

        Args:
            pairs: Names and tensors.
            where: What messages call the place, e.g. 'language_model.' or a file and a colon.
        """
        self._tensors = dict(pairs)
        self._where = where

    def __contains__(self, name: str) -> bool:
        """Tell whether it is there and not yet taken."""
        return name in self._tensors

    def take(self, name: str, *shape: int, dtypes: tuple[torch.dtype, ...] = ()) -> torch.Tensor:
        """Take one of that shape, and of one of those dtypes where any are given.

        Raises:
            ConfigError: It is missing, or another.
        """
        tensor = self._tensors.pop(name, None)
        if tensor is None or tuple(tensor.shape) != shape:
            found = 'missing' if tensor is None else f'of shape {tuple(tensor.shape)}'
            raise ConfigError(f'{self._where}{name} is {found}; config.json says {shape}')
        if dtypes and tensor.dtype not in dtypes:
            wanted = ' or '.join(map(str, dtypes))
            raise ConfigError(f'{self._where}{name} is {tensor.dtype}; config.json means {wanted}')
        return tensor

    def drop(self, *names: str) -> None:
        """Take what is there of these and need not be."""
        for name in names:
            self._tensors.pop(name, None)

    def close(self, num_layers: int) -> None:
        """Refuse what nobody took.

        Raises:
            ConfigError: Something is left.
        """
        for name in self._tensors:
            raise ConfigError(
                f'{self._where}{name} (and {len(self._tensors) - 1} more) has no place in the '
                f'Llama of {num_layers} layers that config.json describes'
            )


@torch.inference_mode()
def read_hugging_face(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> LlamaWeights:
    """Read language_model.* of a checkpoint.

    Raises:
        ConfigError: Weights are missing or of another shape than config.json says.
    """
    c = checkpoint.llm
    tensors = Tensors(
        (
            (name, tensor.to(device, dtype))
            for name, tensor in checkpoint.tensors('language_model.')
            if not name.endswith('rotary_emb.inv_freq')
        ),
        'language_model.',
    )
    take = tensors.take
    heads, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    embedding = take('model.embed_tokens.weight', c.vocab_size, c.hidden_size)
    layers = []
    for index in range(c.num_layers):
        at = f'model.layers.{index}.'
        qkv = [
            take(f'{at}self_attn.{name}_proj.weight', rows, c.hidden_size)
            for name, rows in (('q', heads), ('k', kv), ('v', kv))
        ]
        gate_up = [
            take(f'{at}mlp.{name}_proj.weight', c.intermediate_size, c.hidden_size)
            for name in ('gate', 'up')
        ]
        layers.append(
            LayerWeights(
                input_norm=take(f'{at}input_layernorm.weight', c.hidden_size),
                qkv=Dense(torch.cat(qkv)),
                out=Dense(take(f'{at}self_attn.o_proj.weight', c.hidden_size, heads)),
                mlp_norm=take(f'{at}post_attention_layernorm.weight', c.hidden_size),
                gate_up=Dense(torch.cat(gate_up)),
                down=Dense(take(f'{at}mlp.down_proj.weight', c.hidden_size, c.intermediate_size)),
            )
        )
    norm = take('model.norm.weight', c.hidden_size)
    if c.tie_word_embeddings:
        tensors.drop('lm_head.weight')  # stored twice
        head = embedding
    else:
        head = take('lm_head.weight', c.vocab_size, c.hidden_size)
    tensors.close(c.num_layers)
    return LlamaWeights(embedding, layers, norm, head)
