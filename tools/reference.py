"""The parts of a checkpoint as the libraries run them: what tests and the benchmark compare with.

In float32 on the CPU; whole models, with the parts that the policy leaves out.
"""

from __future__ import annotations

import timm
import torch
from torch import nn
import transformers

from trt_openvla_ros.checkpoint import Checkpoint


def timm_towers(checkpoint: Checkpoint) -> list[nn.Module]:
    """Build the vision towers by timm, in channel order."""
    towers = []
    names = ('featurizer', 'fused_featurizer')
    for name, config in zip(names, checkpoint.towers, strict=False):
        act = {'act_layer': config.act_layer} if config.act_layer else {}
        vit = timm.create_model(
            config.timm_id, num_classes=0, img_size=config.image_size, **act, **config.kwargs
        )
        weights = checkpoint.tensors(f'vision_backbone.{name}.')
        vit.load_state_dict({k.replace('scale_factor', 'gamma'): v.float() for k, v in weights})
        towers.append(vit.eval())
    return towers


def llama(checkpoint: Checkpoint) -> transformers.LlamaForCausalLM:
    """Build the language model by transformers."""
    text = {k: v for k, v in checkpoint.config['text_config'].items() if k != 'model_type'}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**text))
    weights = {k: v.float() for k, v in checkpoint.tensors('language_model.')}
    if text.get('tie_word_embeddings'):
        weights['lm_head.weight'] = weights['model.embed_tokens.weight']
    model.load_state_dict(weights)
    return model.eval()


def with_image(
    model: transformers.LlamaForCausalLM, ids: list[int], embeddings: torch.Tensor
) -> torch.Tensor:
    """Put [N, D] image embeddings behind the first id's; [1, L, D]."""
    text = model.get_input_embeddings()(torch.tensor(ids, device=embeddings.device))
    return torch.cat([text[:1], embeddings, text[1:]])[None]
