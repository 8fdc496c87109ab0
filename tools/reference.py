"""The parts of a checkpoint as the libraries run them: what tests and the benchmark compare with.

In float32 on the CPU; whole models, with the parts that the policy leaves out.
"""

from __future__ import annotations

import timm
import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812 - the field's name for it
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


@torch.inference_mode()
def image_embeddings(checkpoint: Checkpoint, pixel_values: torch.Tensor) -> torch.Tensor:
    """Map [C, S, S] float32 through towers and projector to [N, D]."""
    towers = timm_towers(checkpoint)
    parts = zip(towers, pixel_values[None].split(3, dim=1), strict=True)
    # The second-to-last block, not normalised, as the family has it.
    features = [
        vit.get_intermediate_layers(part, n={len(vit.blocks) - 2})[0] for vit, part in parts
    ]
    hidden = torch.cat(features, dim=2)[0]
    projector = {key: value.float() for key, value in checkpoint.tensors('projector.')}
    for index in range(1, len(projector) // 2 + 1):
        hidden = F.gelu(hidden) if index > 1 else hidden
        hidden = F.linear(hidden, projector[f'fc{index}.weight'], projector[f'fc{index}.bias'])
    return hidden


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
