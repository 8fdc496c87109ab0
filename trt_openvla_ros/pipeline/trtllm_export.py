"""A TensorRT-LLM checkpoint without quantisation: the same numbers under other names.

Format: docs/source/legacy/architecture/checkpoint.md of NVIDIA/TensorRT-LLM.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from trt_openvla_ros.checkpoint import LlamaConfig
from trt_openvla_ros.pipeline.tensor_files import joined, Piece, progress, write_tensors

_DTYPES = {
    'F32': torch.float32,
    'F16': torch.float16,
    'BF16': torch.bfloat16,
}
# TensorRT-LLM calls the gate's projection fc, and what it multiplies gate.
_LAYER = {
    'input_layernorm': ('input_layernorm',),
    'attention.qkv': ('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'),
    'attention.dense': ('self_attn.o_proj',),
    'post_layernorm': ('post_attention_layernorm',),
    'mlp.fc': ('mlp.gate_proj',),
    'mlp.gate': ('mlp.up_proj',),
    'mlp.proj': ('mlp.down_proj',),
}


def trtllm_names(layers: int) -> dict[str, list[str]]:
    """Names of a TensorRT-LLM checkpoint to those in transformers' layout that make it up."""
    names = {
        'transformer.vocab_embedding.weight': ['model.embed_tokens.weight'],
        'transformer.ln_f.weight': ['model.norm.weight'],
        'lm_head.weight': ['lm_head.weight'],
    }
    for index in range(layers):
        for ours, theirs in _LAYER.items():
            names[f'transformer.layers.{index}.{ours}.weight'] = [
                f'model.layers.{index}.{name}.weight' for name in theirs
            ]
    return names


def write_plain(path: Path, stored: dict[str, Piece], llm: LlamaConfig, dtype: str) -> None:
    """Write rank0.safetensors, piece by piece.

    Args:
        path: Of the file.
        stored: The language model's tensors, names in transformers' layout.
        llm: Its shape.
        dtype: What is stored in another one is converted to: 'bfloat16' or 'float16'.
    """
    if 'lm_head.weight' not in stored:  # tied to the embedding, which is written twice
        stored = {**stored, 'lm_head.weight': stored['model.embed_tokens.weight']}
    pieces = {
        name: joined([_converted(stored[part], dtype) for part in parts])
        for name, parts in trtllm_names(llm.num_layers).items()
    }
    with progress(pieces, 'quantize') as bar:
        write_tensors(path, pieces, bar)


def trtllm_config(
    llm: LlamaConfig,
    architecture: str,
    dtype: str,
    quantization: dict[str, Any],
    producer: dict[str, str],
) -> dict[str, Any]:
    """config.json for one GPU.

    Args:
        llm: The model's shape.
        architecture: As in transformers, e.g. 'LlamaForCausalLM'.
        dtype: Of what is not quantised.
        quantization: What TensorRT-LLM's QuantConfig takes.
        producer: Name and version of what wrote the weights.
    """
    return {
        'producer': producer,
        'architecture': architecture,
        'dtype': dtype,
        # modelopt writes float16, in which near-equal logits of a bfloat16 model tie.
        'logits_dtype': 'float32',
        'vocab_size': llm.vocab_size,
        'hidden_size': llm.hidden_size,
        'intermediate_size': llm.intermediate_size,
        'num_hidden_layers': llm.num_layers,
        'num_attention_heads': llm.num_heads,
        'num_key_value_heads': llm.num_kv_heads,
        'head_size': llm.head_dim,
        'max_position_embeddings': llm.max_positions,
        'norm_epsilon': llm.rms_norm_eps,
        'hidden_act': 'silu',
        'position_embedding_type': 'rope_gpt_neox',
        'rotary_base': llm.rope_theta,
        'rotary_scaling': None,
        'rotary_embedding_dim': llm.head_dim,
        'attn_bias': False,
        'mlp_bias': False,
        'qk_layernorm': False,
        'residual_mlp': False,
        'disable_weight_only_quant_plugin': False,
        'share_embedding_table': False,
        'use_parallel_embedding': False,
        'embedding_sharding_dim': 0,
        'mapping': {'world_size': 1, 'tp_size': 1, 'pp_size': 1},
        'quantization': quantization,
    }


def _converted(piece: Piece, dtype: str) -> Piece:
    source, target = _DTYPES[piece.dtype], getattr(torch, dtype)
    if source == target:
        return piece

    def read() -> Iterator[bytes]:
        # Parts are whole elements: their length is a power of two.
        for part in piece.read():
            values = torch.frombuffer(bytearray(part), dtype=source).to(target)
            yield values.view(torch.uint8).numpy().tobytes()

    name = next(name for name, value in _DTYPES.items() if value == target)
    return Piece(name, piece.shape, read)
