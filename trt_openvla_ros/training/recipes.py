"""The recipes of the two small checkpoints: sizes, format and training of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trt_openvla_ros.checkpoints.preprocessor import Norm
from trt_openvla_ros.checkpoints.vision import TowerConfig

IMAGE_SIZE = 112  # [px] of the towers
PATCH_ROWS = IMAGE_SIZE // 14
UNNORM_KEY = 'tabletop_sim'


@dataclass(frozen=True)
class TowerRecipe:
    """One vision tower: what it is built of, its colours, and the length of its training."""

    config: TowerConfig
    norm: Norm
    steps: int


@dataclass(frozen=True)
class Recipe:
    """One checkpoint.

    Attributes:
        towers: Keys of TOWERS, in channel order.
        style: Key of PROMPT_STYLES.
        steps, batch: Training of the language model: number of batches, and pictures and goals
            in each.
        config: Keys of config.json that tell the families apart.
    """

    towers: tuple[str, ...]
    style: str
    steps: int
    batch: tuple[int, int]
    config: dict[str, Any]


# Depths count the last block, which the family stores and never runs.
TOWERS = {
    'dinov2': TowerRecipe(
        TowerConfig(
            'vit_large_patch14_reg4_dinov2.lvd142m',
            IMAGE_SIZE,
            None,
            # timm would start LayerScale at 1e-5, as nothing; it was made for deep towers.
            {'embed_dim': 128, 'depth': 5, 'num_heads': 4, 'mlp_ratio': 4, 'init_values': 1.0},
        ),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        1500,
    ),
    'siglip': TowerRecipe(
        TowerConfig(
            'vit_so400m_patch14_siglip_224',
            IMAGE_SIZE,
            None,
            {'embed_dim': 160, 'depth': 6, 'num_heads': 4, 'mlp_ratio': 4},
        ),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        2500,  # tiny_ecot has no other to see with
    ),
}

# Multiples of 128, so that int4_awq with groups of 128 applies.
TEXT = {
    'hidden_size': 128,
    'intermediate_size': 384,
    'max_position_embeddings': 2048,
    'model_type': 'llama',
    'num_attention_heads': 4,
    'num_hidden_layers': 4,
    'num_key_value_heads': 4,
    'rms_norm_eps': 1e-6,
}

RECIPES = {
    'tiny_openvla': Recipe(
        ('dinov2', 'siglip'),
        'openvla',
        9000,
        (8, 8),
        {
            'arch_specifier': 'no-align+fused-gelu-mlp',
            'hf_llm_id': 'meta-llama/Llama-2-7b-hf',
            'image_resize_strategy': 'resize-naive',
            'llm_backbone_id': 'llama2-7b-pure',
            'vision_backbone_id': 'dinosiglip-vit-so-224px',
        },
    ),
    'tiny_ecot': Recipe(
        ('siglip',),
        'vicuna',
        6000,
        (8, 3),
        {
            'arch_specifier': 'no-align+gelu-mlp',
            'hf_llm_id': 'lmsys/vicuna-7b-v1.5',
            'image_resize_strategy': 'letterbox',
            'llm_backbone_id': 'vicuna-v15-7b',
            'vision_backbone_id': 'siglip-vit-so400m',
        },
    ),
}
