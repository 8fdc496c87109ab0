"""A TensorRT-LLM checkpoint on disk: config.json, and the endings of names in its weights.

The stage quantize writes such a checkpoint, trtllm-build compiles it, and the torch engine reads
it. Format: docs/source/legacy/architecture/checkpoint.md of NVIDIA/TensorRT-LLM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from trt_openvla_ros.checkpoints.llama_config import ARCHITECTURES, LlamaConfig
from trt_openvla_ros.checkpoints.trtllm_config import Quantization, read_trtllm_config
from trt_openvla_ros.errors import ConfigError

# quantization.quant_algo -> name of the format in the pipeline.
FORMATS = {None: 'bf16', 'FP8': 'fp8', 'W4A16_AWQ': 'int4_awq', 'W8A8_SQ_PER_CHANNEL': 'int8_sq'}
_ALGORITHMS = {name: algorithm for algorithm, name in FORMATS.items()}
FORMAT_NAMES = tuple(FORMATS.values())
_CACHES = (None, 'FP8')
# The key quantization of a checkpoint in bf16.
UNQUANTISED: dict[str, Any] = {'quant_algo': None, 'kv_cache_quant_algo': None}

CONFIG, WEIGHTS = 'config.json', 'rank0.safetensors'
ENGINE = 'rank0.engine'  # in a built engine's directory, beside its own config.json
# Tensors of a module, named behind it: the weight, the weight that a stored 1.0 stands for, the
# input that a 1.0 stands for, and factors of the input that divided the weight (AWQ, SmoothQuant).
WEIGHT = 'weight'
WEIGHT_SCALE, INPUT_SCALE = 'weights_scaling_factor', 'activation_scaling_factor'
SMOOTHING = 'prequant_scaling_factor'
# Scales of an attention's cache, named behind it: for keys and values together, for keys, for
# values, and the reciprocal of the first.
CACHE_SCALE, KEY_SCALE, VALUE_SCALE = (f'{kind}_cache_scaling_factor' for kind in ('kv', 'k', 'v'))
CACHE_SCALE_INVERSE = 'kv_cache_rcp_scaling_factor'

# Fields that may differ between two configurations of one model, by padding or the policy's limit.
_MAY_DIFFER = ('vocab_size', 'max_positions', 'tie_word_embeddings')


@dataclass(frozen=True)
class TrtllmCheckpoint:
    """A TensorRT-LLM checkpoint for one GPU.

    Attributes:
        path: The directory.
        llm: The language model's shape. Embedding and head may have more rows than the
            vocabulary, for padding.
        rows: Rows of the stored embedding.
        format: Format of the weights: 'bf16', 'fp8', 'int4_awq' or 'int8_sq'.
        dtype: Precision of all that is not quantised: 'bfloat16', 'float16' or 'float32'.
        fp8_cache: Whether keys and values are cached in FP8.
        group_size: Number of inputs that share one scale of int4_awq.
        excluded: Patterns of modules that are not quantised.
    """

    path: Path
    llm: LlamaConfig
    rows: int
    format: str
    dtype: str
    fp8_cache: bool
    group_size: int
    excluded: tuple[str, ...]

    @classmethod
    def open(cls, path: str | Path, expected: LlamaConfig | None = None) -> TrtllmCheckpoint:
        """Read config.json.

        Args:
            path: The directory.
            expected: Shape of the model that was quantised. Its vocabulary and context win. They
                may be smaller than those stored here, by padding and by the policy's limit.

        Raises:
            ConfigError: The file is missing, unreadable, or describes no such Llama.
        """
        path = Path(path)
        file = path / CONFIG
        config = read_trtllm_config(file)
        quantization = config.quantization or Quantization()
        algorithm = quantization.quant_algo
        if algorithm not in FORMATS:
            raise ConfigError(
                f'{file}: quant_algo {algorithm!r} is not supported; quantise again in one of '
                f'{", ".join(FORMATS.values())}'
            )
        cache = quantization.kv_cache_quant_algo
        if cache not in _CACHES:
            raise ConfigError(
                f"{file}: kv_cache_quant_algo {cache!r} is not supported; only 'FP8' and null are"
            )
        if algorithm == 'W4A16_AWQ' and quantization.has_zero_point:
            raise ConfigError(f'{file}: has_zero_point is not supported; AWQ of modelopt has none')
        return cls(
            path=path,
            llm=_agreed(config.llm, expected, file) if expected else config.llm,
            rows=config.vocab_size,
            format=FORMATS[algorithm],
            dtype=config.dtype,
            fp8_cache=cache == 'FP8',
            group_size=quantization.group_size or 128,
            excluded=tuple(quantization.exclude_modules or ()),
        )

    @property
    def weights_path(self) -> Path:
        """Path of the file with all tensors."""
        return self.path / WEIGHTS

    def is_quantised(self, module: str) -> bool:
        """Tell whether a module such as 'transformer.layers.0.mlp.fc' is quantised."""
        short = module.removeprefix('transformer.')
        return self.format != 'bf16' and not any(
            fnmatch(name, pattern) for pattern in self.excluded for name in (module, short)
        )


def config_differences(
    config: Mapping[str, Any], checkpoint: TrtllmCheckpoint
) -> Iterator[tuple[str, Any, Any]]:
    """Compare a config.json, which a built engine repeats as pretrained_config, with a checkpoint.

    Yields:
        Key, value in config, and value in the checkpoint, for each key that decides whether an
        engine is of the checkpoint, if the two values differ.
    """
    llm, quantization = checkpoint.llm, config.get('quantization') or {}
    heads = config.get('num_attention_heads')
    pairs = [
        ('hidden_size', config.get('hidden_size'), llm.hidden_size),
        ('num_hidden_layers', config.get('num_hidden_layers'), llm.num_layers),
        ('num_attention_heads', heads, llm.num_heads),
        ('num_key_value_heads', config.get('num_key_value_heads', heads), llm.num_kv_heads),
        # Rows, and not the policy's vocabulary: virtual ids are counted from them on.
        ('vocab_size', config.get('vocab_size'), checkpoint.rows),
        ('dtype', config.get('dtype'), checkpoint.dtype),
        ('quant_algo', quantization.get('quant_algo'), _ALGORITHMS[checkpoint.format]),
        (
            'kv_cache_quant_algo',
            quantization.get('kv_cache_quant_algo'),
            'FP8' if checkpoint.fp8_cache else None,
        ),
    ]
    yield from (pair for pair in pairs if pair[1] != pair[2])


def _agreed(stored: LlamaConfig, expected: LlamaConfig, file: Path) -> LlamaConfig:
    for entry in fields(LlamaConfig):
        here, there = getattr(stored, entry.name), getattr(expected, entry.name)
        if entry.name not in _MAY_DIFFER and here != there:
            raise ConfigError(
                f'{file} is of another model than the checkpoint beside it: {entry.name} is '
                f'{here} here and {there} there; run the pipeline again'
            )
    if stored.vocab_size < expected.vocab_size:
        raise ConfigError(
            f'{file} has a vocabulary of {stored.vocab_size} and the checkpoint beside it of '
            f'{expected.vocab_size}; run the pipeline again'
        )
    return replace(
        stored,
        vocab_size=expected.vocab_size,
        max_positions=min(stored.max_positions, expected.max_positions),
    )


def write_trtllm_config(
    llm: LlamaConfig,
    kind: str,
    dtype: str,
    quantization: dict[str, Any],
    producer: dict[str, str],
) -> dict[str, Any]:
    """Make config.json of a checkpoint for one GPU.

    Args:
        llm: The model's shape.
        kind: 'llama' or 'mistral'.
        dtype: Precision of all that is not quantised.
        quantization: Arguments of TensorRT-LLM's QuantConfig.
        producer: Name and version of the program that wrote the weights.
    """
    return {
        'producer': producer,
        'architecture': ARCHITECTURES[kind],
        'dtype': dtype,
        # modelopt writes float16, which makes nearly equal logits of a bfloat16 model equal.
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
