"""The vision towers and the projector on disk: their configuration and their tensors' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trt_openvla_ros.errors import ConfigError

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


def read_towers(config: Mapping[str, Any], source: object) -> tuple[TowerConfig, ...]:
    """Read the towers of config.json in channel order; its explicit lists win over the id.

    Args:
        config: Content of config.json.
        source: Path of config.json, for messages.

    Raises:
        ConfigError: The backbone is unknown, or the lists disagree.
    """
    backbone = config.get('vision_backbone_id', 'siglip-vit-so400m')
    if backbone not in VISION_BACKBONES:
        raise ConfigError(
            f'unknown vision_backbone_id {backbone!r}; known: {", ".join(VISION_BACKBONES)}'
        )
    size, models = VISION_BACKBONES[backbone]
    ids = config.get('timm_model_ids') or [name for name, _ in models]
    sizes = config.get('image_sizes') or [size] * len(ids)
    acts = config.get('timm_override_act_layers') or [act for _, act in models]
    kwargs = config.get('timm_model_kwargs') or [{}] * len(ids)
    fused = config.get(
        'use_fused_vision_backbone', backbone.startswith(('dinoclip', 'dinosiglip'))
    )
    count = 2 if fused else 1
    if not len(ids) == len(sizes) == len(acts) == len(kwargs) == count:
        raise ConfigError(
            f'{source}: {count} vision tower(s) expected, but timm_model_ids, image_sizes, '
            'timm_override_act_layers and timm_model_kwargs have '
            f'{len(ids)}, {len(sizes)}, {len(acts)} and {len(kwargs)} entries'
        )
    return tuple(map(TowerConfig, ids, sizes, acts, kwargs))


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
