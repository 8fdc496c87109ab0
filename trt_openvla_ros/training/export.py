"""Write trained parts as a checkpoint in the released layout, and read them back to go on.

Nothing of the layout is bent. `timm_model_kwargs` in config.json is added: it shrinks the towers
that the timm ids name.
"""

from __future__ import annotations

from dataclasses import dataclass
import json
from pathlib import Path
import shutil
from typing import Any

from safetensors.torch import save_file
import timm
import torch

from trt_openvla_ros.checkpoint import Checkpoint
from trt_openvla_ros.engines.torch_vision import load_weights, TorchVision, Tower
from trt_openvla_ros.training.language import Student
from trt_openvla_ros.training.recipes import IMAGE_SIZE, Recipe, TEXT, TOWERS, UNNORM_KEY

_TOKENIZER_FILES = (
    'added_tokens.json',
    'special_tokens_map.json',
    'tokenizer.json',
    'tokenizer.model',
    'tokenizer_config.json',
)


def text_config(pieces: int) -> dict[str, Any]:
    """Give the language model's configuration for a vocabulary of that many pieces."""
    # As released: <PAD> is the first row behind the vocabulary, and rows are padded by 64.
    return {**TEXT, 'pad_token_id': pieces, 'vocab_size': pieces + 64}


@dataclass(frozen=True)
class Parts:
    """What a checkpoint is made of.

    Attributes:
        vocabulary: Directory with the tokenizer's files.
        statistics: One entry of norm_stats.
        towers: In the order of the recipe.
        student: Projector and language model.
    """

    vocabulary: Path
    statistics: dict[str, object]
    towers: list[Tower]
    student: Student


def read_parts(directory: Path, device: torch.device) -> Parts:
    """Read a checkpoint that `write_checkpoint` wrote; heads for training only begin anew.

    Raises:
        ConfigError: It is no such checkpoint.
    """
    checkpoint = Checkpoint.open(directory)
    vision = TorchVision(checkpoint, torch.device('cpu'), torch.float32)
    width = sum(tower.vit.embed_dim for tower in vision.towers)
    text = checkpoint.config['text_config']
    student = Student(text, width, len(vision.towers) > 1)
    student.projector.load_state_dict(vision.projector.state_dict())
    weights = {k: v.float() for k, v in checkpoint.tensors('language_model.')}
    load_weights(student.llama, weights, 'language_model.')
    towers = [tower.to(device) for tower in vision.towers]
    return Parts(directory, checkpoint.norm_stats[UNNORM_KEY], towers, student.to(device))


def write_checkpoint(directory: Path, recipe: Recipe, parts: Parts) -> None:
    """Write config, preprocessor, tokenizer and weights (bfloat16).

    Args:
        directory: Made if it is not there; files in it are replaced.
        recipe: Of this checkpoint.
        parts: Trained.
    """
    student = parts.student
    pieces = student.llama.config.pad_token_id
    tensors = {f'language_model.{k}': v for k, v in student.llama.state_dict().items()}
    tensors |= {f'projector.{k}': v for k, v in student.projector.state_dict().items()}
    names = ('featurizer', 'fused_featurizer')
    for name, kind, tower in zip(names, recipe.towers, parts.towers, strict=False):
        for key, value in _whole(tower, kind).items():
            # As released, because transformers would rewrite a name with gamma in it.
            released = key.replace('gamma', 'scale_factor')
            tensors[f'vision_backbone.{name}.{released}'] = value
    directory.mkdir(parents=True, exist_ok=True)
    stored = {k: v.detach().bfloat16().contiguous().cpu() for k, v in tensors.items()}
    save_file(stored, directory / 'model.safetensors', metadata={'format': 'pt'})
    if not parts.vocabulary.samefile(directory):  # else its own files are there already
        for file in _TOKENIZER_FILES:
            shutil.copy(parts.vocabulary / file, directory)
    files = {
        'config.json': _config(recipe, pieces, parts.statistics),
        'preprocessor_config.json': _preprocessor(recipe),
        'generation_config.json': {
            '_from_model_config': True,
            'bos_token_id': 1,
            'eos_token_id': 2,
            'pad_token_id': pieces,
        },
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=2, sort_keys=True) + '\n')


def _whole(tower: Tower, kind: str) -> dict[str, torch.Tensor]:
    """Add the parts behind the block whose output is used: stored by the family, never run."""
    config = TOWERS[kind].config
    whole = timm.create_model(
        config.timm_id, num_classes=0, img_size=config.image_size, **config.kwargs
    )
    return {**whole.state_dict(), **tower.vit.state_dict()}


def _config(recipe: Recipe, pieces: int, statistics: dict[str, object]) -> dict[str, Any]:
    towers = [TOWERS[name].config for name in recipe.towers]
    return {
        **recipe.config,
        'architectures': ['OpenVLAForActionPrediction'],
        'image_sizes': [IMAGE_SIZE] * len(towers),
        'llm_max_length': 2048,
        'model_type': 'openvla',
        'n_action_bins': 256,
        'norm_stats': {UNNORM_KEY: statistics},
        'output_projector_states': False,
        'pad_to_multiple_of': 64,
        'pad_token_id': pieces,
        'text_config': text_config(pieces),
        'timm_model_ids': [tower.timm_id for tower in towers],
        'timm_model_kwargs': [tower.kwargs for tower in towers],
        'timm_override_act_layers': [None] * len(towers),
        'torch_dtype': 'bfloat16',
        'transformers_version': '4.40.1',
        'use_fused_vision_backbone': len(towers) > 1,
    }


def _preprocessor(recipe: Recipe) -> dict[str, Any]:
    norms = [TOWERS[name].norm for name in recipe.towers]
    letterbox = recipe.config['image_resize_strategy'] == 'letterbox'
    size = [IMAGE_SIZE, IMAGE_SIZE]
    # A square behind a letterbox needs only the length of one side.
    target = IMAGE_SIZE if letterbox else size
    resize = {'antialias': True, 'interpolation': 3, 'max_size': None, 'size': target}
    grey = [int(255 * value) for value in norms[0][0]]
    return {
        'image_processor_type': 'PrismaticImageProcessor',
        'image_resize_strategy': recipe.config['image_resize_strategy'],
        'input_sizes': [[3, *size] for _ in norms],
        'interpolations': ['bicubic'] * len(norms),
        'means': [mean for mean, _ in norms],
        'stds': [std for _, std in norms],
        'tvf_crop_params': [{'output_size': size} for _ in norms],
        'tvf_do_letterbox': letterbox,
        'tvf_letterbox_fill': grey if letterbox else None,
        'tvf_normalize_params': [
            {'inplace': False, 'mean': mean, 'std': std} for mean, std in norms
        ],
        'tvf_resize_params': [resize for _ in norms],
        'use_fused_vision_backbone': len(norms) > 1,
    }
