"""The vision towers and the projector on disk: their configuration and their tensors' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import re
from typing import Annotated, Any, Literal, TYPE_CHECKING

from pydantic import ConfigDict, Field, field_validator

from trt_openvla_ros.checkpoints.json_files import checked, OTHER_CONFIG, Schema
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.tensor_files import Piece

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

# The timm models that a checkpoint may name, without the tag of their weights, and activations.
_ARCHITECTURES = {
    name.partition('.')[0] for _, models in VISION_BACKBONES.values() for name, _ in models
}
_TIMM_ID = re.compile(r'[a-z0-9_]+(\.[a-z0-9_]+)?')
_ACTIVATIONS = ('quick_gelu', 'gelu', 'gelu_tanh', 'silu', 'relu')

# Beginnings of tensor names: of all towers, of each tower in channel order, of the projector.
TOWERS = 'vision_backbone.'
TOWER_PREFIXES = (f'{TOWERS}featurizer.', f'{TOWERS}fused_featurizer.')
PROJECTOR = 'projector.'
# Name of a tower's weight [D, 3, P, P]; P is the side of a patch in pixels.
PATCHES = 'patch_embed.proj.weight'
# Names of LayerScale in the release and in timm. The release renames it, because transformers
# rewrites names that contain gamma.
_RELEASED_SCALE, _TIMM_SCALE = 'scale_factor', 'gamma'


@dataclass(frozen=True)
class TowerConfig:
    """One vision tower.

    Attributes:
        timm_id: Name of the model in timm.
        image_size: Side of the square image [px].
        act_layer: Activation that replaces the model's own; None keeps it.
        kwargs: Further arguments of timm.create_model.
    """

    timm_id: str
    image_size: int
    act_layer: str | None
    kwargs: dict[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of timm.create_model behind the id: sizes, activation and kwargs."""
        act = {'act_layer': self.act_layer} if self.act_layer else {}
        return {'num_classes': 0, 'img_size': self.image_size, **self.kwargs, **act}


class _Arguments(Schema):
    """The arguments of timm.create_model that a checkpoint may set: those that give a shape.

    Others are refused. Some of them, e.g. checkpoint_path, make timm read another file, and old
    releases of torch unpickle it, which runs code.
    """

    model_config = ConfigDict(extra='forbid')

    depth: Annotated[int, Field(ge=2, le=128)] | None = None
    embed_dim: Annotated[int, Field(ge=1, le=8192)] | None = None
    num_heads: Annotated[int, Field(ge=1, le=128)] | None = None
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] | None = None
    patch_size: Annotated[int, Field(ge=1, le=64)] | None = None
    init_values: float | None = None
    reg_tokens: Annotated[int, Field(ge=0, le=64)] | None = None
    class_token: bool | None = None
    no_embed_class: bool | None = None
    pre_norm: bool | None = None
    qkv_bias: bool | None = None


class _Towers(Schema):
    vision_backbone_id: Literal[tuple(VISION_BACKBONES)] = 'siglip-vit-so400m'
    timm_model_ids: list[str] | None = None
    image_sizes: list[Annotated[int, Field(ge=1, le=4096)]] | None = None
    timm_override_act_layers: list[Literal[_ACTIVATIONS] | None] | None = None
    timm_model_kwargs: list[_Arguments | None] | None = None
    use_fused_vision_backbone: bool | None = None

    @field_validator('timm_model_ids')
    @classmethod
    def _check_ids(cls, ids: list[str] | None) -> list[str] | None:
        # timm also takes addresses and paths, such as hf-hub:who/what and local-dir:/somewhere.
        for name in ids or ():
            if name.partition('.')[0] not in _ARCHITECTURES or not _TIMM_ID.fullmatch(name):
                raise ValueError(f'{name[:100]!r} is none of {", ".join(sorted(_ARCHITECTURES))}')
        return ids


def read_towers(config: Mapping[str, Any], source: object) -> tuple[TowerConfig, ...]:
    """Read the towers of config.json in channel order; its explicit lists win over the id.

    Args:
        config: Content of config.json.
        source: Path of config.json, for messages.

    Raises:
        ConfigError: The backbone or a model is unknown, an argument may not be set, or the lists
            disagree.
    """
    found = checked(_Towers, config, source, OTHER_CONFIG)
    size, models = VISION_BACKBONES[found.vision_backbone_id]
    ids = found.timm_model_ids or [name for name, _ in models]
    sizes = found.image_sizes or [size] * len(ids)
    acts = found.timm_override_act_layers or [act for _, act in models]
    kwargs = found.timm_model_kwargs or [None] * len(ids)
    fused = found.use_fused_vision_backbone
    if fused is None:
        fused = found.vision_backbone_id.startswith(('dinoclip', 'dinosiglip'))
    count = 2 if fused else 1
    if not len(ids) == len(sizes) == len(acts) == len(kwargs) == count:
        raise ConfigError(
            f'{source}: {count} vision tower(s) expected, but timm_model_ids, image_sizes, '
            'timm_override_act_layers and timm_model_kwargs have '
            f'{len(ids)}, {len(sizes)}, {len(acts)} and {len(kwargs)} entries'
        )
    given = [one.model_dump(exclude_none=True) if one else {} for one in kwargs]
    return tuple(map(TowerConfig, ids, sizes, acts, given))


def check_towers(
    towers: Sequence[TowerConfig], pieces: Mapping[str, Piece], source: object
) -> None:
    """Refuse towers of another size than the stored ones, before timm builds them.

    Args:
        towers: Towers of config.json.
        pieces: Stored tensors by name.
        source: Path of config.json, for messages.

    Raises:
        ConfigError: Width or number of blocks differ.
    """
    for prefix, tower in zip(TOWER_PREFIXES, towers, strict=False):
        width = pieces[prefix + PATCHES].shape[0] if prefix + PATCHES in pieces else 0
        block = re.compile(rf'{re.escape(prefix)}blocks\.(\d+)\.')
        found = [int(match[1]) for name in pieces if (match := block.match(name))]
        blocks = 1 + max(found, default=-1)
        # The last block is not used, so a checkpoint may leave it out.
        depth = tower.kwargs.get('depth', blocks)
        if tower.kwargs.get('embed_dim', width) != width or depth not in (blocks, blocks + 1):
            raise ConfigError(
                f'{source}: timm_model_kwargs has {tower.kwargs}, and {blocks} blocks of width '
                f'{width} are stored as {prefix}*; {OTHER_CONFIG}'
            )


def write_towers(towers: Sequence[TowerConfig]) -> dict[str, Any]:
    """Write towers as the explicit lists of config.json."""
    return {
        'image_sizes': [tower.image_size for tower in towers],
        'timm_model_ids': [tower.timm_id for tower in towers],
        'timm_model_kwargs': [tower.kwargs for tower in towers],
        'timm_override_act_layers': [tower.act_layer for tower in towers],
        'use_fused_vision_backbone': len(towers) > 1,
    }


def projector_widths(features: int, hidden: int, towers: int) -> list[int]:
    """Give the widths between the projector's linear layers, from features to hidden."""
    return [features, *([4 * features] if towers > 1 else []), hidden, hidden]


def timm_name(name: str) -> str:
    """Give timm's name of a tower's tensor, from the released one."""
    return _renamed(name, _RELEASED_SCALE, _TIMM_SCALE)


def released_name(name: str) -> str:
    """Give the released name of a tower's tensor, from timm's."""
    return _renamed(name, _TIMM_SCALE, _RELEASED_SCALE)


def _renamed(name: str, old: str, new: str) -> str:
    return name.removesuffix(old) + new if name.endswith(f'.{old}') else name
