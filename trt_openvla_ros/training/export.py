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

from trt_openvla_ros.checkpoints.llama import PREFIX
from trt_openvla_ros.checkpoints.preprocessor import write_preprocessor
from trt_openvla_ros.checkpoints.released import Checkpoint, CONFIG, GENERATION, PREPROCESSOR
from trt_openvla_ros.checkpoints.tensor_files import WEIGHTS
from trt_openvla_ros.checkpoints.tokenizer import TOKENIZER_FILES
from trt_openvla_ros.checkpoints.vision import (
    PROJECTOR,
    released_name,
    TOWER_PREFIXES,
    write_towers,
)
from trt_openvla_ros.engines.torch.vision import load_weights, TorchVision, Tower
from trt_openvla_ros.training.language import Student
from trt_openvla_ros.training.recipes import IMAGE_SIZE, Recipe, TEXT, TOWERS, UNNORM_KEY


def text_config(pieces: int) -> dict[str, Any]:
    """Give the language model's configuration for a vocabulary of that many pieces."""
    # As released: <PAD> is the first row behind the vocabulary, and rows are padded by 64.
    return {**TEXT, 'pad_token_id': pieces, 'vocab_size': pieces + 64}


@dataclass(frozen=True)
class Parts:
    """The parts of a checkpoint.

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
    student = Student(text, width, len(vision.towers))
    student.projector.load_state_dict(vision.projector.state_dict())
    weights = {k: v.float() for k, v in checkpoint.tensors(PREFIX)}
    load_weights(student.llama, weights, PREFIX)
    towers = [tower.to(device) for tower in vision.towers]
    return Parts(directory, checkpoint.norm_stats[UNNORM_KEY], towers, student.to(device))


def write_checkpoint(directory: Path, recipe: Recipe, parts: Parts) -> None:
    """Write config, preprocessor, tokenizer and weights (bfloat16).

    Args:
        directory: Made if it is not there; files in it are replaced.
        recipe: Recipe of this checkpoint.
        parts: Trained.
    """
    student = parts.student
    pieces = student.llama.config.pad_token_id
    tensors = {PREFIX + k: v for k, v in student.llama.state_dict().items()}
    tensors |= {PROJECTOR + k: v for k, v in student.projector.state_dict().items()}
    for prefix, kind, tower in zip(TOWER_PREFIXES, recipe.towers, parts.towers, strict=False):
        for key, value in _whole(tower, kind).items():
            tensors[prefix + released_name(key)] = value
    directory.mkdir(parents=True, exist_ok=True)
    stored = {k: v.detach().bfloat16().contiguous().cpu() for k, v in tensors.items()}
    save_file(stored, directory / WEIGHTS, metadata={'format': 'pt'})
    if not parts.vocabulary.samefile(directory):  # else its own files are there already
        for file in TOKENIZER_FILES:
            shutil.copy(parts.vocabulary / file, directory)
    files = {
        CONFIG: _config(recipe, pieces, parts.statistics),
        PREPROCESSOR: write_preprocessor(
            IMAGE_SIZE,
            [TOWERS[name].norm for name in recipe.towers],
            recipe.config['image_resize_strategy'] == 'letterbox',
        ),
        GENERATION: {
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
    whole = timm.create_model(config.timm_id, **config.arguments)
    return {**whole.state_dict(), **tower.vit.state_dict()}


def _config(recipe: Recipe, pieces: int, statistics: dict[str, object]) -> dict[str, Any]:
    towers = [TOWERS[name].config for name in recipe.towers]
    return {
        **recipe.config,
        'architectures': ['OpenVLAForActionPrediction'],
        'llm_max_length': 2048,
        'model_type': 'openvla',
        'n_action_bins': 256,
        'norm_stats': {UNNORM_KEY: statistics},
        'output_projector_states': False,
        'pad_to_multiple_of': 64,
        'pad_token_id': pieces,
        'text_config': text_config(pieces),
        'torch_dtype': 'bfloat16',
        'transformers_version': '4.40.1',
        **write_towers(towers),
    }
