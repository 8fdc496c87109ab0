"""A checkpoint in the released Hugging Face layout, or an artifact: configuration and tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
import json
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.layout import (
    LLM_BACKBONE,
    PROJECTOR,
    read_manifest,
    TRTLLM_CHECKPOINT,
    VISION,
)

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

_DINO = 'vit_large_patch14_reg4_dinov2.lvd142m'
_SIGLIP_224 = 'vit_so400m_patch14_siglip_224'
_SIGLIP_384 = 'vit_so400m_patch14_siglip_384'
_CLIP_336 = 'vit_large_patch14_clip_336.openai'

# vision_backbone_id -> (image size, ((timm id, activation override), ...)).
# Source: configuration_prismatic.py of openvla/openvla.
VISION_BACKBONES: dict[str, tuple[int, tuple[tuple[str, str | None], ...]]] = {
    'clip-vit-l': (224, (('vit_large_patch14_clip_224.openai', 'quick_gelu'),)),
    'clip-vit-l-336px': (336, ((_CLIP_336, 'quick_gelu'),)),
    'siglip-vit-so400m': (224, ((_SIGLIP_224, None),)),
    'siglip-vit-so400m-384px': (384, ((_SIGLIP_384, None),)),
    'dinov2-vit-l': (224, ((_DINO, None),)),
    'in1k-vit-l': (224, (('vit_large_patch16_224.augreg_in21k_ft_in1k', None),)),
    'dinoclip-vit-l-336px': (336, ((_DINO, None), (_CLIP_336, 'quick_gelu'))),
    'dinosiglip-vit-so-224px': (224, ((_DINO, None), (_SIGLIP_224, None))),
    'dinosiglip-vit-so-384px': (384, ((_DINO, None), (_SIGLIP_384, None))),
}

# The release leaves out what equals the defaults of transformers' config classes. These are
# those defaults, and not Llama-2's own values: rms_norm_eps is 1e-6 here.
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

# What a Llama may vary and none of the family's does.
_LLM_FIXED = {'hidden_act': 'silu', 'attention_bias': False, 'mlp_bias': False}

_HUB_FILES = ['*.json', '*.safetensors', 'tokenizer.model']


@dataclass(frozen=True)
class TowerConfig:
    """One vision tower: the timm id, image size in pixels, and arguments of create_model."""

    timm_id: str
    image_size: int
    act_layer: str | None
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class LlamaConfig:
    """The language model's shape; sizes in elements."""

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


@dataclass(frozen=True)
class Checkpoint:
    """Files of one checkpoint. Nothing is executed and nothing is unpickled.

    Attributes:
        path: The directory.
        config: config.json as it is.
        preprocessor: preprocessor_config.json as it is.
    """

    path: Path
    config: dict[str, Any]
    preprocessor: dict[str, Any]

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Open a directory, or download a Hub id such as 'openvla/openvla-7b'.

        Raises:
            ConfigError: There is no such checkpoint, or it is not of the OpenVLA family.
        """
        path = Path(source).expanduser()
        if not path.is_dir():
            path = _download(str(source))
        config = _read_json(path / 'config.json')
        if config.get('model_type') not in ('openvla', 'prismatic'):
            raise ConfigError(
                f'{path}/config.json has model_type {config.get("model_type")!r}; '
                "an OpenVLA checkpoint has 'openvla'; set checkpoint to one"
            )
        return cls(path, config, _read_json(path / 'preprocessor_config.json'))

    @property
    def llm_backbone_id(self) -> str:
        """For example 'llama2-7b-pure'. The default is the reference's: the v01 model."""
        return self.config.get('llm_backbone_id', 'vicuna-v15-7b')

    @property
    def towers(self) -> tuple[TowerConfig, ...]:
        """The vision towers in channel order; explicit lists in config.json win over the id."""
        backbone = self.config.get('vision_backbone_id', 'siglip-vit-so400m')
        if backbone not in VISION_BACKBONES:
            raise ConfigError(
                f'unknown vision_backbone_id {backbone!r}; known: {", ".join(VISION_BACKBONES)}'
            )
        size, models = VISION_BACKBONES[backbone]
        ids = self.config.get('timm_model_ids') or [name for name, _ in models]
        sizes = self.config.get('image_sizes') or [size] * len(ids)
        acts = self.config.get('timm_override_act_layers') or [act for _, act in models]
        kwargs = self.config.get('timm_model_kwargs') or [{}] * len(ids)
        fused = self.config.get(
            'use_fused_vision_backbone', backbone.startswith(('dinoclip', 'dinosiglip'))
        )
        count = 2 if fused else 1
        if not len(ids) == len(sizes) == len(acts) == len(kwargs) == count:
            raise ConfigError(
                f'{self.path}/config.json: {count} vision tower(s) expected, but timm_model_ids, '
                'image_sizes, timm_override_act_layers and timm_model_kwargs have '
                f'{len(ids)}, {len(sizes)}, {len(acts)} and {len(kwargs)} entries'
            )
        return tuple(map(TowerConfig, ids, sizes, acts, kwargs))

    @cached_property
    def llm(self) -> LlamaConfig:
        """The language model's shape; what config.json leaves out has transformers' default.

        Raises:
            ConfigError: The architecture is not one of Llama's.
        """
        text = self.config.get('text_config') or {}
        kind = text.get('model_type', 'llama')
        if kind not in _LLM_DEFAULTS:
            raise ConfigError(
                f'{self.path}/config.json: the language model {kind!r} is not supported; '
                f'supported: {", ".join(_LLM_DEFAULTS)}'
            )
        value = {**_LLM_DEFAULTS[kind], **text}
        for key, supported in _LLM_FIXED.items():
            if value.get(key, supported) != supported:
                raise ConfigError(
                    f'{self.path}/config.json: {key} {value[key]!r} is not supported; '
                    f'only {supported!r} is'
                )
        # transformers 5 writes rope_parameters where 4 wrote rope_theta and rope_scaling.
        rope = value.get('rope_parameters') or value.get('rope_scaling') or {}
        if rope.get('rope_type', rope.get('type', 'default')) != 'default':
            raise ConfigError(f'{self.path}/config.json: RoPE scaling {rope} is not supported')
        heads = value['num_attention_heads']
        return LlamaConfig(
            vocab_size=value['vocab_size'],
            hidden_size=value['hidden_size'],
            intermediate_size=value['intermediate_size'],
            num_layers=value['num_hidden_layers'],
            num_heads=heads,
            num_kv_heads=value.get('num_key_value_heads') or heads,
            head_dim=value.get('head_dim') or value['hidden_size'] // heads,
            max_positions=min(
                value['max_position_embeddings'], self.config.get('llm_max_length', 2048)
            ),
            rms_norm_eps=value['rms_norm_eps'],
            rope_theta=float(rope.get('rope_theta', value.get('rope_theta', 10000.0))),
            tie_word_embeddings=bool(value.get('tie_word_embeddings', False)),
        )

    @cached_property
    def norm_stats(self) -> dict[str, dict]:
        """Statistics by unnorm_key; dataset_statistics.json of a fine-tune wins."""
        own = self.path / 'dataset_statistics.json'
        stats = _read_json(own) if own.is_file() else self.config.get('norm_stats')
        if not stats:
            raise ConfigError(
                f'{self.path} has no norm_stats in config.json and no dataset_statistics.json; '
                'without them token ids cannot become metres and radians'
            )
        return stats

    def tensors(self, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name without prefix, tensor on the CPU) for each stored tensor under prefix.

        One shard is mapped at a time, so that no more than one tensor needs memory twice.

        Raises:
            ConfigError: There are no weights, only pickled ones, or a file cannot be read.
        """
        from safetensors import safe_open, SafetensorError

        shard = None
        try:
            for shard, lost in self.shards:
                with safe_open(shard, framework='pt') as file:
                    for key in file.keys():  # noqa: SIM118 - not iterable before safetensors 0.6
                        name = lost + key
                        if name.startswith(prefix):
                            yield name[len(prefix) :], file.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise ConfigError(
                f'{shard} cannot be read: {error}; after a clone, `git lfs pull` brings it'
            ) from error

    @cached_property
    def trtllm_path(self) -> Path | None:
        """The TensorRT-LLM checkpoint of an artifact; None where no stage quantize wrote one."""
        stages = (read_manifest(self.path) or {'stages': {}})['stages']
        return self.path / TRTLLM_CHECKPOINT if 'quantize' in stages else None

    @cached_property
    def shards(self) -> list[tuple[Path, str]]:
        """Files with tensors, and what the names in them lost from their beginning."""
        if read_manifest(self.path) is None:
            shards = [(shard, '') for shard in _list_shards(self.path)]
        else:
            shards = [(self.path / VISION, ''), (self.path / PROJECTOR, '')]
            backbone = self.path / LLM_BACKBONE
            shards += [(shard, 'language_model.') for shard in _list_shards(backbone)]
        missing = [str(s.relative_to(self.path)) for s, _ in shards if not s.is_file()]
        if missing:
            raise ConfigError(
                f'{self.path} lacks {", ".join(missing)}; weights are read from safetensors only '
                '(pickled .bin and .pt files are refused, because loading them runs code); '
                'convert those, or download it again'
            )
        return shards


def _list_shards(directory: Path) -> list[Path]:
    index = directory / 'model.safetensors.index.json'
    if not index.is_file():
        return [directory / 'model.safetensors']
    return [directory / name for name in sorted(set(_read_json(index)['weight_map'].values()))]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise ConfigError(
            f'{path} is missing; the directory is no Hugging Face checkpoint'
        ) from error
    except ValueError as error:
        raise ConfigError(f'{path} is not JSON: {error}; download it again') from error
    if not isinstance(value, dict):
        raise ConfigError(f'{path} holds a {type(value).__name__}; an object is needed')
    return value


def _download(source: str) -> Path:
    if source.count('/') != 1 or source.startswith(('.', '/', '~')):
        raise ConfigError(f'checkpoint {source!r} is neither a directory nor a Hub id (org/name)')
    try:
        from huggingface_hub import snapshot_download

        _log.info('downloading %s', source)
        return Path(snapshot_download(source, allow_patterns=_HUB_FILES))
    except Exception as error:
        raise ConfigError(
            f'checkpoint {source!r} is no directory here, and downloading it failed: {error} '
            '(or download it elsewhere, and set checkpoint to its directory)'
        ) from error
