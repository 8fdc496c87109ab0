"""Write a checkpoint with random weights in the released layout, of any backbone and size.

Tests and benchmarks use it. What it writes means nothing, and has the right shapes everywhere.
"""

from __future__ import annotations

from itertools import pairwise
import json
from math import prod
from pathlib import Path
import shutil
from typing import Any

from safetensors.torch import save_file
import timm
import torch

from trt_openvla_ros.checkpoints.llama import (
    EMBEDDING_WEIGHT,
    HEAD_WEIGHT,
    hugging_face_shapes,
    PREFIX,
)
from trt_openvla_ros.checkpoints.llama_config import read_text_config
from trt_openvla_ros.checkpoints.released import CONFIG, PREPROCESSOR
from trt_openvla_ros.checkpoints.tensor_files import INDEX, WEIGHTS
from trt_openvla_ros.checkpoints.vision import (
    PROJECTOR,
    projector_widths,
    read_towers,
    released_name,
    TOWER_PREFIXES,
    TOWERS,
    VISION_BACKBONES,
)

TOKENIZER = Path(__file__).parents[1] / 'data' / 'golden' / 'fused'
_VOCABULARY = 32000  # of the tokenizer
TINY_TOWER = {'embed_dim': 32, 'depth': 3, 'num_heads': 2}
TINY_LLM = {
    'hidden_size': 32,
    'intermediate_size': 88,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
}


def write_random_checkpoint(
    directory: Path,
    backbone: str = 'dinosiglip-vit-so-224px',
    tower: dict[str, Any] | None = None,
    llm: dict[str, Any] | None = None,
    shards: int = 1,
) -> Path:
    """Write config, preprocessor, tokenizer and weights (bfloat16) to directory.

    Args:
        directory: Made if it is not there.
        backbone: A vision_backbone_id; it decides how many towers there are, and of which kind.
        tower: Arguments of timm.create_model for each tower; tiny by default.
        llm: Keys of text_config; tiny by default. The vocabulary is the tokenizer's.
        shards: Files that the weights are spread over.
    """
    shapes = write_configuration(directory, backbone, tower or TINY_TOWER, llm or TINY_LLM)
    torch.manual_seed(0)
    tensors = {name: _random(name, shape).bfloat16() for name, shape in shapes.items()}
    _save(directory, tensors, shards)
    return directory


def write_configuration(
    directory: Path, backbone: str, tower: dict[str, Any], llm: dict[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Write all but the weights, and give their shapes by name.

    The preprocessor's file has none of the tvf_* keys, whose defaults are read this way.
    """
    size, models = VISION_BACKBONES[backbone]
    text = {'model_type': 'llama', 'vocab_size': 32064, **llm}
    config = {
        'model_type': 'openvla',
        'vision_backbone_id': backbone,
        'timm_model_kwargs': [tower] * len(models),
        'llm_backbone_id': 'llama2-7b-pure',
        'llm_max_length': 2048,
        'pad_to_multiple_of': 64,
        'n_action_bins': 256,
        'text_config': text,
        'norm_stats': {'unit': {'action': {'q01': [-1.0] * 6 + [0.0], 'q99': [1.0] * 7}}},
    }
    shapes: dict[str, tuple[int, ...]] = {}
    data, features = [], 0
    for prefix, one in zip(TOWER_PREFIXES, read_towers(config, directory), strict=False):
        with torch.device('meta'):
            vit = timm.create_model(one.timm_id, **one.arguments)
        data.append(timm.data.resolve_model_data_config(vit))
        features += vit.embed_dim
        for key, value in vit.state_dict().items():
            shapes[prefix + released_name(key)] = tuple(value.shape)
    language = read_text_config(text, config['llm_max_length'], directory)
    widths = projector_widths(features, language.hidden_size, len(models))
    for index, (inputs, outputs) in enumerate(pairwise(widths), 1):
        shapes[f'{PROJECTOR}fc{index}.weight'] = (outputs, inputs)
        shapes[f'{PROJECTOR}fc{index}.bias'] = (outputs,)
    for key, shape in hugging_face_shapes(language).items():
        shapes[PREFIX + key] = shape
    preprocessor = {
        'image_resize_strategy': 'resize-naive',
        'input_sizes': [[3, size, size]] * len(models),
        'interpolations': ['bicubic'] * len(models),
        'means': [list(entry['mean']) for entry in data],
        'stds': [list(entry['std']) for entry in data],
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps(config, indent=1))
    (directory / PREPROCESSOR).write_text(json.dumps(preprocessor, indent=1))
    for file in TOKENIZER.glob('*token*.json'):
        shutil.copy(file, directory)
    return shapes


def _random(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    values = torch.randn(shape)
    if name.startswith(TOWERS):
        # timm starts LayerScale at 1e-5, which would hide every error inside a block.
        mean = 0.3 if name.endswith('.scale_factor') else 0.0
        fan_in = prod(shape[1:]) if len(shape) > 1 else 0
        return mean + values * max(fan_in, 4) ** -0.5
    if name.startswith(PREFIX) and len(shape) == 1:  # RMSNorm
        return 1 + 0.1 * values
    if name == PREFIX + EMBEDDING_WEIGHT:
        return values
    values *= shape[-1] ** -0.5
    if name == PREFIX + HEAD_WEIGHT:
        # Action tokens come out nearly always, as they do of a trained model.
        for text_or_padding in (slice(_VOCABULARY - 256), slice(_VOCABULARY, None)):
            values[text_or_padding] *= 0.1
    return values


def _save(directory: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, directory / WEIGHTS, metadata={'format': 'pt'})
        return
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f'model-{shard + 1:05d}-of-{shards:05d}.safetensors'
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, directory / file, metadata={'format': 'pt'})
        weight_map.update(dict.fromkeys(part, file))
    (directory / INDEX).write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
