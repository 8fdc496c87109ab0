"""config.json of a TensorRT-LLM checkpoint: what each key may hold, and what we support of it.

Format: docs/source/legacy/architecture/checkpoint.md of NVIDIA/TensorRT-LLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from trt_openvla_ros.checkpoints.json_files import (
    checked,
    Positive,
    read_object,
    Schema,
    Size,
)
from trt_openvla_ros.checkpoints.llama_config import (
    ARCHITECTURES,
    check_heads,
    LlamaConfig,
    LlamaSizes,
)
from trt_openvla_ros.errors import ConfigError

# Values that this format may change, but none of our models does. An absent key has this value.
_FIXED: dict[str, Any] = {
    'hidden_act': 'silu',
    'position_embedding_type': 'rope_gpt_neox',
    'rotary_scaling': None,
    'rotary_pct': 1.0,
    'attn_bias': False,
    'mlp_bias': False,
    'bias': False,
    'lm_head_bias': False,
    'qk_layernorm': False,
    'residual_mlp': False,
}


class Quantization(Schema):
    """How the weights are quantised."""

    quant_algo: str | None = None
    kv_cache_quant_algo: str | None = None
    has_zero_point: bool | None = None
    group_size: Size | None = None
    exclude_modules: list[str] | None = None


class _Mapping(Schema):
    world_size: Size = 1


class _Moe(Schema):
    num_experts: int | None = None


class Tables(Schema):
    """The tables of config.json, which a built engine repeats as pretrained_config."""

    quantization: Quantization | None = None
    mapping: _Mapping | None = None
    moe: _Moe | None = None

    @property
    def ranks(self) -> int:
        """Number of GPUs that a checkpoint is split over, or that an engine runs on."""
        return self.mapping.world_size if self.mapping else 1


class TrtllmConfig(Tables, LlamaSizes):
    """config.json of a checkpoint."""

    dtype: Literal['bfloat16', 'float16', 'float32'] = 'float16'
    head_size: Size | None = None
    norm_epsilon: Positive
    rotary_base: Positive = 10000.0
    share_embedding_table: bool = False

    @property
    def llm(self) -> LlamaConfig:
        """The language model's shape, with the rows that are stored."""
        return self.shape(
            self.head_size, self.norm_epsilon, self.rotary_base, self.share_embedding_table
        )


def read_trtllm_config(file: Path) -> TrtllmConfig:
    """Read config.json of a checkpoint for one GPU.

    Raises:
        ConfigError: The file is missing, unreadable, or describes no Llama that we support.
    """
    content = read_object(
        file,
        'the directory is no TensorRT-LLM checkpoint, which the stage quantize of the pipeline '
        'writes',
        'quantise again',
    )
    _check_kind(content, file)
    config = checked(TrtllmConfig, content, file, 'another release wrote it: quantise again')
    _check_one_gpu(config, file)
    check_heads(config.llm, file)
    return config


def _check_kind(config: Mapping[str, Any], file: Path) -> None:
    if 'pretrained_config' in config:
        raise ConfigError(
            f'{file} describes a built engine (version {config.get("version")!r:.80}), not a '
            'checkpoint; give the directory that the engine was built from'
        )
    architecture = config.get('architecture')
    supported = tuple(ARCHITECTURES.values())
    if architecture not in supported:
        raise ConfigError(
            f'{file} has architecture {architecture!r:.80}; supported: {", ".join(supported)}'
        )
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise ConfigError(
                f'{file}: {key} {config[key]!r:.80} is not supported; only {value!r} is'
            )


def _check_one_gpu(config: Tables, file: Path) -> None:
    if config.ranks != 1:
        raise ConfigError(
            f'{file} is split over {config.ranks} GPUs; quantise again with tensor and pipeline '
            'parallelism 1'
        )
    if config.moe and config.moe.num_experts:
        raise ConfigError(f'{file} describes a mixture of experts, which is not supported')
