"""The shape of the language model, read from and written to its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trt_openvla_ros.checkpoints.json_files import (
    checked,
    Count,
    OTHER_CONFIG,
    Positive,
    Schema,
    Size,
)
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


class LlamaSizes(Schema):
    """The sizes that both formats name alike."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    max_position_embeddings: Size

    def shape(
        self, head_dim: int | None, rms_norm_eps: float, rope_theta: float, tied: bool
    ) -> LlamaConfig:
        """Make a shape of the sizes and of what each format names in its own way.

        Args:
            head_dim: Elements of a head; None shares the width among the heads.
            rms_norm_eps: Epsilon of the norms.
            rope_theta: Base of the rotation.
            tied: Whether the head is the embedding.
        """
        heads = self.num_attention_heads
        return LlamaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.num_hidden_layers,
            num_heads=heads,
            num_kv_heads=self.num_key_value_heads or heads,
            head_dim=head_dim or self.hidden_size // heads,
            max_positions=self.max_position_embeddings,
            rms_norm_eps=rms_norm_eps,
            rope_theta=rope_theta,
            tie_word_embeddings=tied,
        )


class _TextConfig(LlamaSizes):
    head_dim: Size | None = None
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
    llm = checked(_TextConfig, value, f'{source}: text_config', OTHER_CONFIG)
    # transformers 5 writes rope_parameters; 4 wrote rope_theta and rope_scaling.
    rope = llm.rope_parameters or llm.rope_scaling or _Rope()
    if (rope.rope_type or rope.type or 'default') != 'default':
        raise ConfigError(
            f'{source}: RoPE scaling {rope.rope_type or rope.type!r} is not supported'
        )
    theta = float(rope.rope_theta or llm.rope_theta or 10000.0)
    shape = llm.shape(llm.head_dim, llm.rms_norm_eps, theta, bool(llm.tie_word_embeddings))
    check_heads(shape, source)
    return replace(shape, max_positions=min(shape.max_positions, max_length))


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
