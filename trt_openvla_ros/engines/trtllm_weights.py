"""The weights of a TensorRT-LLM checkpoint as the torch engine computes with them.

Names: attention.qkv is q, k and v, one behind the other; mlp.fc is what Hugging Face calls
gate_proj, and mlp.gate is its up_proj.

O: outputs, I: inputs, G: inputs that share one scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from trt_openvla_ros.engines.linears import Dense, Fp8, Int8, Linear, stack, unpack_int4
from trt_openvla_ros.engines.llama_weights import LayerWeights, LlamaWeights, Tensors
from trt_openvla_ros.engines.trtllm_checkpoint import TrtllmCheckpoint
from trt_openvla_ros.errors import ConfigError

_FLOATS = (torch.bfloat16, torch.float16, torch.float32)


@torch.inference_mode()
def read_trtllm(
    checkpoint: TrtllmCheckpoint, device: torch.device, dtype: torch.dtype
) -> LlamaWeights:
    """Read rank0.safetensors.

    Args:
        checkpoint: Its configuration.
        device: Where the weights go.
        dtype: Of what is not quantised.

    Raises:
        ConfigError: The file cannot be read, or holds other tensors than config.json says.
    """
    c = checkpoint.llm
    tensors = Tensors(_tensors(checkpoint, device), f'{checkpoint.weights_path}: ')
    linear = partial(_linear, tensors, checkpoint, dtype)

    def plain(name: str, *shape: int) -> torch.Tensor:
        return tensors.take(name, *shape, dtypes=_FLOATS).to(dtype)

    heads, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    # Behind the vocabulary are rows of padding, whose logits must not win.
    embedding = plain('transformer.vocab_embedding.weight', checkpoint.rows, c.hidden_size)
    embedding = embedding[: c.vocab_size]
    layers = []
    for index in range(c.num_layers):
        at = f'transformer.layers.{index}.'
        layers.append(
            LayerWeights(
                input_norm=plain(f'{at}input_layernorm.weight', c.hidden_size),
                qkv=linear(f'{at}attention.qkv', heads + 2 * kv, c.hidden_size),
                out=linear(f'{at}attention.dense', c.hidden_size, heads),
                mlp_norm=plain(f'{at}post_layernorm.weight', c.hidden_size),
                gate_up=stack(
                    linear(f'{at}mlp.fc', c.intermediate_size, c.hidden_size),
                    linear(f'{at}mlp.gate', c.intermediate_size, c.hidden_size),
                    dtype,
                ),
                down=linear(f'{at}mlp.proj', c.hidden_size, c.intermediate_size),
                cache_scale=_cache_scale(tensors, checkpoint, f'{at}attention.'),
            )
        )
    norm = plain('transformer.ln_f.weight', c.hidden_size)
    head = _head(tensors, checkpoint, plain) if 'lm_head.weight' in tensors else None
    if head is None and not c.tie_word_embeddings:
        tensors.take('lm_head.weight', checkpoint.rows, c.hidden_size)  # says that it is missing
    tensors.close(c.num_layers)
    return LlamaWeights(embedding, layers, norm, embedding if head is None else head)


def _tensors(
    checkpoint: TrtllmCheckpoint, device: torch.device
) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open, SafetensorError

    file = checkpoint.weights_path
    if not file.is_file():
        raise ConfigError(f'{file} is missing; quantise again')
    try:
        with safe_open(file, framework='pt') as opened:
            for name in opened.keys():  # noqa: SIM118 - not iterable before safetensors 0.6
                yield name, opened.get_tensor(name).to(device)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f'{file} cannot be read: {error}; it is cut off or no safetensors file, quantise again'
        ) from error


def _head(tensors: Tensors, checkpoint: TrtllmCheckpoint, plain: Any) -> torch.Tensor:
    for name in ('lm_head.weights_scaling_factor', 'lm_head.prequant_scaling_factor'):
        if name in tensors:
            raise ConfigError(
                f'{checkpoint.weights_path}: lm_head is quantised, which is not supported (and '
                'costs accuracy); quantise again with lm_head excluded'
            )
    c = checkpoint.llm
    return plain('lm_head.weight', checkpoint.rows, c.hidden_size)[: c.vocab_size]


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
        return Dense(take('weight', outputs, inputs, dtypes=_FLOATS).to(dtype))
    if checkpoint.format == 'fp8':
        # Some converters store the bytes as int8, and TensorRT-LLM reads that, too.
        stored = (torch.float8_e4m3fn, torch.int8, torch.uint8)
        return Fp8(
            take('weight', outputs, inputs, dtypes=stored).view(torch.float8_e4m3fn),
            weight_scale=_scale(take, 'weights_scaling_factor', module),
            input_scale=_scale(take, 'activation_scaling_factor', module),
            dtype=dtype,
        )
    smoothing = take('prequant_scaling_factor', inputs, dtypes=_FLOATS).to(dtype)
    if checkpoint.format == 'int8_sq':
        return Int8(
            take('weight', outputs, inputs, dtypes=(torch.int8,)),
            weight_scale=take('weights_scaling_factor', outputs, dtypes=(torch.float32,)),
            input_scale=_scale(take, 'activation_scaling_factor', module),
            smoothing=smoothing,
        )
    groups, rest = divmod(inputs, checkpoint.group_size)
    if rest:
        raise ConfigError(
            f'{module} has {inputs} inputs, no multiple of group_size {checkpoint.group_size} in '
            f'{checkpoint.path}/config.json'
        )
    packed = take('weight', outputs // 2, inputs, dtypes=(torch.int8, torch.uint8))
    scale = take('weights_scaling_factor', outputs, groups, dtypes=_FLOATS)
    return Dense(unpack_int4(packed.view(torch.int8), scale, dtype), smoothing)


def _take(tensors: Tensors, module: str, name: str, *shape: int, **kwargs: Any) -> torch.Tensor:
    return tensors.take(f'{module}.{name}', *shape, **kwargs)


def _scale(take: Any, name: str, module: str) -> torch.Tensor:
    """Take a scale [1]."""
    scale = take(name, 1, dtypes=_FLOATS).float()
    if not (torch.isfinite(scale).all() and (scale > 0).all()):
        raise ConfigError(
            f'{module}.{name} is {scale.item()}; a scale is positive and finite, calibrate again'
        )
    return scale


def _cache_scale(tensors: Tensors, checkpoint: TrtllmCheckpoint, at: str) -> torch.Tensor | None:
    names = [f'{at}{kind}_cache_scaling_factor' for kind in ('kv', 'k', 'v')]
    if not checkpoint.fp8_cache:
        return None  # a scale that is there nevertheless is refused as having no place
    take = partial(_take, tensors, at.removesuffix('.'))
    if names[1] in tensors:
        # TensorRT-LLM's loader, too, prefers the larger of both to what is stored as kv.
        scale = torch.maximum(
            _scale(take, 'k_cache_scaling_factor', at), _scale(take, 'v_cache_scaling_factor', at)
        )
        tensors.drop(names[0])
    else:
        scale = _scale(take, 'kv_cache_scaling_factor', at)
    tensors.drop(f'{at}kv_cache_rcp_scaling_factor')  # its reciprocal
    return scale
