"""Write a checkpoint with random weights in the released layout, of any backbone and size.

Tests and benchmarks use it; what it writes means nothing and has the right shapes everywhere.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
import shutil
from typing import Any

from safetensors.torch import save_file
import timm
import torch

from trt_openvla_ros.checkpoint import VISION_BACKBONES

TOKENIZER = Path(__file__).parents[1] / 'test' / 'data' / 'golden' / 'fused'
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
        backbone: A vision_backbone_id; decides how many towers, and of which kind.
        tower: Arguments of timm.create_model for each tower; tiny by default.
        llm: Keys of text_config; tiny by default. The vocabulary is the tokenizer's.
        shards: Files that the weights are spread over.
    """
    size, models = VISION_BACKBONES[backbone]
    tower = tower or TINY_TOWER
    text = {'model_type': 'llama', 'vocab_size': 32064, **(llm or TINY_LLM)}
    torch.manual_seed(0)
    tensors, data = {}, []
    for name, (timm_id, act_layer) in zip(
        ('featurizer', 'fused_featurizer'), models, strict=False
    ):
        act = {'act_layer': act_layer} if act_layer else {}
        vit = timm.create_model(timm_id, num_classes=0, img_size=size, **act, **tower)
        data.append(timm.data.resolve_model_data_config(vit))
        for key, value in vit.state_dict().items():
            released = key.replace('gamma', 'scale_factor')
            # timm starts LayerScale at 1e-5, which would hide every error inside a block.
            tensors[f'vision_backbone.{name}.{released}'] = _like(
                value, mean=0.3 if 'gamma' in key else 0.0
            )
    width = tower['embed_dim'] * len(models)
    hidden = text['hidden_size']
    widths = [width, 4 * width, hidden, hidden] if len(models) > 1 else [width, hidden, hidden]
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
        tensors[f'projector.fc{index}.weight'] = _normal(outputs, inputs)
        tensors[f'projector.fc{index}.bias'] = _normal(1, outputs)[0]
    tensors.update({f'language_model.{key}': value for key, value in _llama(text).items()})
    directory.mkdir(parents=True, exist_ok=True)
    _save(directory, {key: value.bfloat16() for key, value in tensors.items()}, shards)
    for file in TOKENIZER.glob('*token*.json'):
        shutil.copy(file, directory)
    config = {
        'model_type': 'openvla',
        'vision_backbone_id': backbone,
        'timm_model_kwargs': [tower] * len(models),
        'llm_backbone_id': 'llama2-7b-pure',
        'llm_max_length': 2048,
        'pad_to_multiple_of': 64,
        'n_action_bins': 256,
        'text_config': text,
        'norm_stats': {'unit': {'action': {'q01': [-1.0] * 7, 'q99': [1.0] * 7}}},
    }
    preprocessor = {
        'image_resize_strategy': 'resize-naive',
        'input_sizes': [[3, size, size]] * len(models),
        'interpolations': ['bicubic'] * len(models),
        'means': [list(entry['mean']) for entry in data],
        'stds': [list(entry['std']) for entry in data],
    }
    (directory / 'config.json').write_text(json.dumps(config, indent=1))
    (directory / 'preprocessor_config.json').write_text(json.dumps(preprocessor, indent=1))
    return directory


def _normal(outputs: int, inputs: int) -> torch.Tensor:
    return torch.randn(outputs, inputs) * inputs**-0.5


def _like(tensor: torch.Tensor, mean: float) -> torch.Tensor:
    fan_in = tensor[0].numel() if tensor.ndim > 1 else 4
    return mean + torch.randn(tensor.shape) * max(fan_in, 4) ** -0.5


def _llama(text: dict[str, Any]) -> dict[str, torch.Tensor]:
    hidden, inner = text['hidden_size'], text['intermediate_size']
    heads = text['num_attention_heads']
    head_dim = text.get('head_dim') or hidden // heads
    kv = head_dim * (text.get('num_key_value_heads') or heads)
    tensors = {
        'model.embed_tokens.weight': torch.randn(text['vocab_size'], hidden),
        'model.norm.weight': 1 + 0.1 * torch.randn(hidden),
    }
    if not text.get('tie_word_embeddings'):
        tensors['lm_head.weight'] = _normal(text['vocab_size'], hidden)
        # Action tokens come out nearly always, as they do of a trained model.
        for text_or_padding in (slice(_VOCABULARY - 256), slice(_VOCABULARY, None)):
            tensors['lm_head.weight'][text_or_padding] *= 0.1
    for index in range(text['num_hidden_layers']):
        at = f'model.layers.{index}'
        for name, shape in {
            'self_attn.q_proj': (head_dim * heads, hidden),
            'self_attn.k_proj': (kv, hidden),
            'self_attn.v_proj': (kv, hidden),
            'self_attn.o_proj': (hidden, head_dim * heads),
            'mlp.gate_proj': (inner, hidden),
            'mlp.up_proj': (inner, hidden),
            'mlp.down_proj': (hidden, inner),
        }.items():
            tensors[f'{at}.{name}.weight'] = _normal(*shape)
        for name in ('input_layernorm', 'post_attention_layernorm'):
            tensors[f'{at}.{name}.weight'] = 1 + 0.1 * torch.randn(hidden)
    return tensors


def _save(directory: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, directory / 'model.safetensors', metadata={'format': 'pt'})
        return
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f'model-{shard + 1:05d}-of-{shards:05d}.safetensors'
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, directory / file, metadata={'format': 'pt'})
        weight_map.update(dict.fromkeys(part, file))
    index = {'metadata': {}, 'weight_map': weight_map}
    (directory / 'model.safetensors.index.json').write_text(json.dumps(index))
