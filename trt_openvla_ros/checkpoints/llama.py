"""The language model on disk: its shape, and the names of its tensors in both formats.

D: width, I: inner width of the MLP, V: rows of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from trt_openvla_ros.checkpoints.json_files import checked, Count, Positive, Schema, Size
from trt_openvla_ros.errors import ConfigError

# The release leaves out values that equal the defaults of transformers' config classes. These are
# those defaults. They are not Llama-2's own values: rms_norm_eps is 1e-6 here.
_LLM_DEFAULTS: dict[str, dict[str, Any]] = {
    'llama': {
        'vocab_size': 32000,
        'hidden_size': 4096,
        'intermediate_size': 11008,
        'num_hidden_layers': 32,
        'num_attention_heads': 32,
        'max_position_embeddings': 2048,
        'rms_norm_eps': 1e-6,
    },
    'mistral': {
        'vocab_size': 32000,
        'hidden_size': 4096,
        'intermediate_size': 14336,
        'num_hidden_layers': 32,
        'num_attention_heads': 32,
        'num_key_value_heads': 8,
        'max_position_embeddings': 131072,
        'rms_norm_eps': 1e-6,
    },
}

# Values that a Llama may change, but no model of the OpenVLA family does.
_LLM_FIXED = {'hidden_act': 'silu', 'attention_bias': False, 'mlp_bias': False}

# model_type -> class in transformers; the class in TensorRT-LLM has the same name.
ARCHITECTURES = {'llama': 'LlamaForCausalLM', 'mistral': 'MistralForCausalLM'}


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a language model; sizes in elements."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool

    @property
    def query_width(self) -> int:
        """Width of all queries together."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all keys, or of all values, together."""
        return self.num_kv_heads * self.head_dim


class _Rope(Schema):
    rope_type: str | None = None
    type: str | None = None
    rope_theta: Positive | None = None


class _TextConfig(Schema):
    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    head_dim: Size | None = None
    max_position_embeddings: Size
    rms_norm_eps: Positive
    rope_theta: Positive | None = None
    rope_parameters: _Rope | None = None
    rope_scaling: _Rope | None = None
    tie_word_embeddings: bool | None = None


def read_text_config(text: Mapping[str, Any], max_length: int, source: object) -> LlamaConfig:
    """Read a language model's configuration; missing values get transformers' defaults.

    Args:
        text: text_config of config.json.
        max_length: Most positions that the policy uses.
        source: Path of config.json, for messages.

    Raises:
        ConfigError: The architecture is no Llama that we support.
    """
    way_out = 'take config.json of the checkpoint that this one was made from'
    kind = text.get('model_type', 'llama')
    if not isinstance(kind, str) or kind not in _LLM_DEFAULTS:
        raise ConfigError(
            f'{source}: the language model {kind!r} is not supported; '
            f'supported: {", ".join(_LLM_DEFAULTS)}'
        )
    value = {**_LLM_DEFAULTS[kind], **text}
    for key, supported in _LLM_FIXED.items():
        if value.get(key, supported) != supported:
            raise ConfigError(
                f'{source}: {key} {value[key]!r} is not supported; only {supported!r} is'
            )
    llm = checked(_TextConfig, value, f'{source}: text_config', way_out)
    # transformers 5 writes rope_parameters; 4 wrote rope_theta and rope_scaling.
    rope = llm.rope_parameters or llm.rope_scaling or _Rope()
    if (rope.rope_type or rope.type or 'default') != 'default':
        raise ConfigError(
            f'{source}: RoPE scaling {rope.rope_type or rope.type!r} is not supported'
        )
    heads = llm.num_attention_heads
    shape = LlamaConfig(
        vocab_size=llm.vocab_size,
        hidden_size=llm.hidden_size,
        intermediate_size=llm.intermediate_size,
        num_layers=llm.num_hidden_layers,
        num_heads=heads,
        num_kv_heads=llm.num_key_value_heads or heads,
        head_dim=llm.head_dim or llm.hidden_size // heads,
        max_positions=min(llm.max_position_embeddings, max_length),
        rms_norm_eps=llm.rms_norm_eps,
        rope_theta=float(rope.rope_theta or llm.rope_theta or 10000.0),
        tie_word_embeddings=bool(llm.tie_word_embeddings),
    )
    check_heads(shape, source)
    return shape


def check_heads(llm: LlamaConfig, source: object) -> None:
    """Refuse numbers of heads that no attention can have.

    Args:
        llm: The shape of the model.
        source: Path of the file that says so, for the message.

    Raises:
        ConfigError: The heads do not fit each other, or the width of a head is 0 or odd.
    """
    if llm.num_heads % llm.num_kv_heads or llm.head_dim % 2 or not llm.head_dim:
        raise ConfigError(
            f'{source}: {llm.num_heads} heads, {llm.num_kv_heads} key-value heads and '
            f'{llm.head_dim} elements per head do not fit; the second must divide the first, and '
            'the third must be even'
        )


def write_text_config(llm: LlamaConfig, kind: str, dtype: str) -> dict[str, Any]:
    """Make config.json of the language model alone.

    It holds every value, because readers differ in their defaults.

    Args:
        llm: Shape of the model.
        kind: 'llama' or 'mistral'.
        dtype: Type of the stored weights, e.g. 'bfloat16'.
    """
    config = {
        'architectures': [ARCHITECTURES[kind]],
        'model_type': kind,
        'vocab_size': llm.vocab_size,
        'hidden_size': llm.hidden_size,
        'intermediate_size': llm.intermediate_size,
        'num_hidden_layers': llm.num_layers,
        'num_attention_heads': llm.num_heads,
        'num_key_value_heads': llm.num_kv_heads,
        'head_dim': llm.head_dim,
        'max_position_embeddings': llm.max_positions,
        'rms_norm_eps': llm.rms_norm_eps,
        'rope_theta': llm.rope_theta,
        'rope_scaling': None,
        **_LLM_FIXED,
        'tie_word_embeddings': llm.tie_word_embeddings,
        'use_cache': True,
        'torch_dtype': dtype,
    }
    if kind == 'mistral':
        config['sliding_window'] = None
    return config


class Names(NamedTuple):
    """The names of one weight.

    Attributes:
        hugging_face: Names in transformers, without '.weight'. If there are several, TensorRT-LLM
            stores these weights as one, with their rows one below the other.
        trtllm: Name in a TensorRT-LLM checkpoint, without '.weight'.
    """

    hugging_face: tuple[str, ...]
    trtllm: str


# Prefix of the language model's tensors in a checkpoint.
PREFIX = 'language_model.'
EMBEDDING = Names(('model.embed_tokens',), 'transformer.vocab_embedding')
NORM = Names(('model.norm',), 'transformer.ln_f')
HEAD = Names(('lm_head',), 'lm_head')
# Full names in transformers.
EMBEDDING_WEIGHT, NORM_WEIGHT, HEAD_WEIGHT = (
    f'{one.hugging_face[0]}.weight' for one in (EMBEDDING, NORM, HEAD)
)
# TensorRT-LLM's name of a layer's attention; the names of its cache scales begin with it.
ATTENTION = 'attention'
# Weights of each layer; layer_prefix gives the beginning of their names. TensorRT-LLM calls the
# gate projection fc, and the up projection gate.
LAYER = {
    'input_norm': Names(('input_layernorm',), 'input_layernorm'),
    'qkv': Names(('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'), f'{ATTENTION}.qkv'),
    'out': Names(('self_attn.o_proj',), f'{ATTENTION}.dense'),
    'mlp_norm': Names(('post_attention_layernorm',), 'post_layernorm'),
    'gate': Names(('mlp.gate_proj',), 'mlp.fc'),
    'up': Names(('mlp.up_proj',), 'mlp.gate'),
    'down': Names(('mlp.down_proj',), 'mlp.proj'),
}
# Buffers of old releases; the configuration already determines their content.
_BUFFER = 'rotary_emb.inv_freq'


def layer_prefix(index: int) -> Names:
    """Give the beginning of the names of a layer's tensors."""
    return Names((f'model.layers.{index}.',), f'transformer.layers.{index}.')


def layer_of(name: str) -> int | None:
    """Give the number of the layer that a tensor of transformers belongs to; None if to none."""
    start, _, rest = name.partition('model.layers.')
    return int(rest.partition('.')[0]) if rest and not start else None


def is_buffer(name: str) -> bool:
    """Tell whether a tensor of transformers is a buffer that nobody needs."""
    return name.endswith(_BUFFER)


def layer_rows(llm: LlamaConfig) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Give the shapes of a layer's weights by key of LAYER: one shape for each name."""
    hidden, inner = llm.hidden_size, llm.intermediate_size
    return {
        'input_norm': ((hidden,),),
        'qkv': ((llm.query_width, hidden), (llm.kv_width, hidden), (llm.kv_width, hidden)),
        'out': ((hidden, llm.query_width),),
        'mlp_norm': ((hidden,),),
        'gate': ((inner, hidden),),
        'up': ((inner, hidden),),
        'down': ((hidden, inner),),
    }


def hugging_face_shapes(llm: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Give the shape of each tensor in transformers; tied embeddings have no head."""
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDING_WEIGHT: (llm.vocab_size, llm.hidden_size),
        NORM_WEIGHT: (llm.hidden_size,),
    }
    if not llm.tie_word_embeddings:
        shapes[HEAD_WEIGHT] = (llm.vocab_size, llm.hidden_size)
    for index in range(llm.num_layers):
        at = layer_prefix(index).hugging_face[0]
        for key, parts in layer_rows(llm).items():
            for name, shape in zip(LAYER[key].hugging_face, parts, strict=True):
                shapes[f'{at}{name}.weight'] = shape
    return shapes


def trtllm_names(layers: int) -> dict[str, list[str]]:
    """Map the tensors of an unquantised TensorRT-LLM checkpoint to those of transformers.

    Returns:
        Names in transformers by name in the TensorRT-LLM checkpoint, which joins their tensors.
    """
    names = {
        f'{one.trtllm}.weight': [f'{one.hugging_face[0]}.weight']
        for one in (EMBEDDING, NORM, HEAD)
    }
    for index in range(layers):
        at = layer_prefix(index)
        for one in LAYER.values():
            names[f'{at.trtllm}{one.trtllm}.weight'] = [
                f'{at.hugging_face[0]}{name}.weight' for name in one.hugging_face
            ]
    return names
