"""The weights of a Llama for the torch engine, read from a TensorRT-LLM checkpoint.

O: outputs, I: inputs, G: inputs that share one scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from trt_openvla_ros.checkpoints.llama import (
    ATTENTION,
    EMBEDDING,
    HEAD,
    LAYER,
    layer_prefix,
    layer_rows,
    NORM,
)
from trt_openvla_ros.checkpoints.trtllm import (
    CACHE_SCALE,
    CACHE_SCALE_INVERSE,
    INPUT_SCALE,
    KEY_SCALE,
    SMOOTHING,
    TrtllmCheckpoint,
    VALUE_SCALE,
    WEIGHT,
    WEIGHT_SCALE,
)
from trt_openvla_ros.engines.torch.linears import Dense, Fp8, Int8
from trt_openvla_ros.engines.torch.llama_weights import LayerWeights, LlamaWeights, Tensors
from trt_openvla_ros.engines.torch.product import Linear
from trt_openvla_ros.engines.torch.weight_only import from_awq
from trt_openvla_ros.errors import ConfigError

_FLOATS = (torch.bfloat16, torch.float16, torch.float32)


@torch.inference_mode()
def read_trtllm(
    checkpoint: TrtllmCheckpoint, device: torch.device, dtype: torch.dtype
) -> LlamaWeights:
    """Read rank0.safetensors.

    Args:
        checkpoint: The checkpoint.
        device: Device for the weights.
        dtype: Precision of all that is not quantised.

    Raises:
        ConfigError: The file cannot be read, or holds other tensors than config.json says.
    """
    c = checkpoint.llm
    tensors = Tensors(_tensors(checkpoint), f'{checkpoint.weights_path}: ', device)
    shapes = layer_rows(c)

    def plain(name: str, *shape: int) -> torch.Tensor:
        return tensors.take(f'{name}.{WEIGHT}', *shape, dtypes=_FLOATS).to(dtype)

    def linear(at: str, key: str) -> Linear:
        outputs = sum(rows for rows, _ in shapes[key])
        inputs = shapes[key][0][1]
        return _linear(tensors, checkpoint, dtype, at + LAYER[key].trtllm, outputs, inputs)

    # Cut off the rows of padding behind the vocabulary, whose logits must not win.
    embedding = plain(EMBEDDING.trtllm, checkpoint.rows, c.hidden_size)
    embedding = embedding[: c.vocab_size]
    layers = []
    for index in range(c.num_layers):
        at = layer_prefix(index).trtllm
        layers.append(
            LayerWeights(
                input_norm=plain(at + LAYER['input_norm'].trtllm, c.hidden_size),
                qkv=linear(at, 'qkv'),
                out=linear(at, 'out'),
                mlp_norm=plain(at + LAYER['mlp_norm'].trtllm, c.hidden_size),
                gate_up=linear(at, 'gate').joined(linear(at, 'up'), dtype),
                down=linear(at, 'down'),
                cache_scale=_cache_scale(tensors, checkpoint, at + ATTENTION),
            )
        )
    norm = plain(NORM.trtllm, c.hidden_size)
    stored = f'{HEAD.trtllm}.{WEIGHT}' in tensors
    head = _head(tensors, checkpoint, plain) if stored else None
    if head is None and not c.tie_word_embeddings:
        plain(HEAD.trtllm, checkpoint.rows, c.hidden_size)  # raises: the tensor is missing
    tensors.close(c.num_layers)
    return LlamaWeights(embedding, layers, norm, embedding if head is None else head)


def _tensors(checkpoint: TrtllmCheckpoint) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open, SafetensorError

    file = checkpoint.weights_path
    if not file.is_file():
        raise ConfigError(f'{file} is missing; quantise again')
    try:
        with safe_open(file, framework='pt') as opened:
            for name in opened.keys():  # noqa: SIM118 - not iterable before safetensors 0.6
                yield name, opened.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f'{file} cannot be read: {error}; it is cut off or no safetensors file, quantise again'
        ) from error


def _head(tensors: Tensors, checkpoint: TrtllmCheckpoint, plain: Any) -> torch.Tensor:
    for name in (WEIGHT_SCALE, SMOOTHING):
        if f'{HEAD.trtllm}.{name}' in tensors:
            raise ConfigError(
                f'{checkpoint.weights_path}: lm_head is quantised, which is not supported (and '
                'costs accuracy); quantise again with lm_head excluded'
            )
    c = checkpoint.llm
    return plain(HEAD.trtllm, checkpoint.rows, c.hidden_size)[: c.vocab_size]


def _linear(
    tensors: Tensors,
    checkpoint: TrtllmCheckpoint,
    dtype: torch.dtype,
    module: str,
    outputs: int,
    inputs: int,
) -> Linear:
    take = partial(_take, tensors, module)
    if not checkpoint.is_quantised(module):
        return Dense(take(WEIGHT, outputs, inputs, dtypes=_FLOATS).to(dtype))
    if checkpoint.format == 'fp8':
        # Some converters store the bytes as int8, which TensorRT-LLM reads too.
        stored = (torch.float8_e4m3fn, torch.int8, torch.uint8)
        return Fp8(
            take(WEIGHT, outputs, inputs, dtypes=stored).view(torch.float8_e4m3fn),
            weight_scale=_scale(take, WEIGHT_SCALE, module),
            input_scale=_scale(take, INPUT_SCALE, module),
            dtype=dtype,
        )
    smoothing = take(SMOOTHING, inputs, dtypes=_FLOATS).to(dtype)
    if checkpoint.format == 'int8_sq':
        return Int8(
            take(WEIGHT, outputs, inputs, dtypes=(torch.int8,)),
            weight_scale=take(WEIGHT_SCALE, outputs, dtypes=(torch.float32,)),
            input_scale=_scale(take, INPUT_SCALE, module),
            smoothing=smoothing,
        )
    groups, rest = divmod(inputs, checkpoint.group_size)
    if rest:
        raise ConfigError(
            f'{module} has {inputs} inputs, no multiple of group_size {checkpoint.group_size} in '
            f'{checkpoint.path}/config.json'
        )
    packed = take(WEIGHT, outputs // 2, inputs, dtypes=(torch.int8, torch.uint8))
    scale = take(WEIGHT_SCALE, outputs, groups, dtypes=_FLOATS)
    return from_awq(packed.view(torch.int8), scale, smoothing, dtype)


def _take(tensors: Tensors, module: str, name: str, *shape: int, **kwargs: Any) -> torch.Tensor:
    return tensors.take(f'{module}.{name}', *shape, **kwargs)


def _scale(take: Any, name: str, module: str) -> torch.Tensor:
    """Take a [1] scale, as float32."""
    scale = take(name, 1, dtypes=_FLOATS).float()
    if not (torch.isfinite(scale).all() and (scale > 0).all()):
        raise ConfigError(
            f'{module}.{name} is {scale.item()}; a scale is positive and finite, calibrate again'
        )
    return scale


def _cache_scale(
    tensors: Tensors, checkpoint: TrtllmCheckpoint, attention: str
) -> torch.Tensor | None:
    if not checkpoint.fp8_cache:
        return None  # a stored scale stays untaken, and is refused
    take = partial(_take, tensors, attention)
    if f'{attention}.{KEY_SCALE}' in tensors:
        # Like TensorRT-LLM's loader: the larger of the two scales wins over the common scale.
        scale = torch.maximum(
            _scale(take, KEY_SCALE, attention), _scale(take, VALUE_SCALE, attention)
        )
        tensors.drop(f'{attention}.{CACHE_SCALE}')
    else:
        scale = _scale(take, CACHE_SCALE, attention)
    tensors.drop(f'{attention}.{CACHE_SCALE_INVERSE}')
    return scale
