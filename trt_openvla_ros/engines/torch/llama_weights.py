"""The weights of a Llama for the torch engine, read from a Hugging Face checkpoint.

D: width, V: rows of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trt_openvla_ros.checkpoints.llama import (
    EMBEDDING_WEIGHT,
    HEAD_WEIGHT,
    is_buffer,
    LAYER,
    layer_prefix,
    layer_rows,
    NORM_WEIGHT,
    PREFIX,
)
from trt_openvla_ros.engines.torch.linears import Dense, Linear
from trt_openvla_ros.engines.torch.weight_only import FORMATS, quantise
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.released import Checkpoint


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one decoder layer.

    Attributes:
        input_norm, mlp_norm: [D] weights of the norms.
        qkv: Product from D to queries, keys and values together: one kernel, not three.
        out: Product from the heads to D.
        gate_up: Product from D to the gate and the gated values together.
        down: Product from the gated values to D.
        cache_scale: [1] float32 scale of an FP8 cache; None if keys and values are not quantised.
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
    """Tensors by name; one that is missing, has another form or is never taken is an error."""

    def __init__(
        self, pairs: Iterable[tuple[str, torch.Tensor]], source: str, device: torch.device
    ) -> None:
        """Hold all tensors where they are.

        Args:
            pairs: Names and tensors, best those that a mapped file backs.
            source: Text before names in messages, e.g. 'language_model.', or a file and ': '.
            device: Device that a tensor is moved to when it is taken, so that a device never
                holds tensors that are still to be quantised.
        """
        self._tensors = dict(pairs)
        self._source, self._device = source, device

    def __contains__(self, name: str) -> bool:
        """Tell whether there is such a tensor, not yet taken."""
        return name in self._tensors

    def take(self, name: str, *shape: int, dtypes: tuple[torch.dtype, ...] = ()) -> torch.Tensor:
        """Take a tensor of that shape, and of one of those dtypes if any are given.

        Raises:
            ConfigError: The tensor is missing, or has another shape or dtype.
        """
        tensor = self._tensors.pop(name, None)
        if tensor is None or tuple(tensor.shape) != shape:
            found = 'missing' if tensor is None else f'of shape {tuple(tensor.shape)}'
            raise ConfigError(f'{self._source}{name} is {found}; config.json says {shape}')
        if dtypes and tensor.dtype not in dtypes:
            wanted = ' or '.join(map(str, dtypes))
            raise ConfigError(
                f'{self._source}{name} is {tensor.dtype}; config.json means {wanted}'
            )
        return tensor.to(self._device)

    def drop(self, *names: str) -> None:
        """Drop those of these tensors that exist; nobody needs them."""
        for name in names:
            self._tensors.pop(name, None)

    def close(self, num_layers: int) -> None:
        """Refuse tensors that nobody took.

        Raises:
            ConfigError: A tensor is left.
        """
        for name in self._tensors:
            raise ConfigError(
                f'{self._source}{name} (and {len(self._tensors) - 1} more) has no place in the '
                f'Llama of {num_layers} layers that config.json describes'
            )


@torch.inference_mode()
def read_hugging_face(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, weights: str = ''
) -> LlamaWeights:
    """Read the language model of a checkpoint.

    Args:
        checkpoint: The checkpoint.
        device: Device for the weights.
        dtype: Precision of all that is not quantised.
        weights: One of WEIGHTS, in which the layers' weights are held; '' means dtype.

    Raises:
        ConfigError: Weights are missing or of another shape than config.json says, or the device
            cannot compute with this format.
    """
    c = checkpoint.llm
    stored = (pair for pair in checkpoint.tensors(PREFIX) if not is_buffer(pair[0]))
    tensors = Tensors(stored, PREFIX, device)
    shapes = layer_rows(c)

    def take(name: str, *shape: int) -> torch.Tensor:
        return tensors.take(name, *shape).to(dtype)

    def norm(at: str, key: str) -> torch.Tensor:
        return take(f'{at}{LAYER[key].hugging_face[0]}.weight', *shapes[key][0])

    def linear(at: str, *keys: str) -> Linear:
        """Take the weights of these keys of LAYER, and join their rows."""
        parts = [
            take(f'{at}{name}.weight', *shape)
            for key in keys
            for name, shape in zip(LAYER[key].hugging_face, shapes[key], strict=True)
        ]
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
        if weights == 'bfloat16':
            joined = joined.bfloat16().to(dtype)
        return quantise(joined, weights) if weights in FORMATS else Dense(joined)

    embedding = take(EMBEDDING_WEIGHT, c.vocab_size, c.hidden_size)
    layers = []
    for index in range(c.num_layers):
        at = layer_prefix(index).hugging_face[0]
        layers.append(
            LayerWeights(
                qkv=linear(at, 'qkv'),
                input_norm=norm(at, 'input_norm'),
                out=linear(at, 'out'),
                mlp_norm=norm(at, 'mlp_norm'),
                gate_up=linear(at, 'gate', 'up'),
                down=linear(at, 'down'),
            )
        )
    final = take(NORM_WEIGHT, c.hidden_size)
    if c.tie_word_embeddings:
        tensors.drop(HEAD_WEIGHT)  # the embedding again
        head = embedding
    else:
        head = take(HEAD_WEIGHT, c.vocab_size, c.hidden_size)
    tensors.close(c.num_layers)
    return LlamaWeights(embedding, layers, final, head)
