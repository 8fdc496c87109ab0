"""The parts of a checkpoint as the libraries run them: what tests and the benchmark compare with.

They compute in float32 on the CPU. They are whole models, with the parts that the policy leaves
out.
"""

from __future__ import annotations

import timm
import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812 - the field's name for it
import transformers

from trt_openvla_ros.checkpoints.llama import EMBEDDING_WEIGHT, HEAD_WEIGHT, PREFIX
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.vision import PROJECTOR, timm_name, TOWER_PREFIXES


def timm_towers(checkpoint: Checkpoint) -> list[nn.Module]:
    """Build the vision towers by timm, in channel order."""
    towers = []
    for prefix, tower in zip(TOWER_PREFIXES, checkpoint.towers, strict=False):
        vit = timm.create_model(tower.timm_id, **tower.arguments)
        weights = checkpoint.tensors(prefix)
        vit.load_state_dict({timm_name(key): value.float() for key, value in weights})
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
    projector = {key: value.float() for key, value in checkpoint.tensors(PROJECTOR)}
    for index in range(1, len(projector) // 2 + 1):
        hidden = F.gelu(hidden) if index > 1 else hidden
        hidden = F.linear(hidden, projector[f'fc{index}.weight'], projector[f'fc{index}.bias'])
    return hidden


def llama(checkpoint: Checkpoint) -> transformers.LlamaForCausalLM:
    """Build the language model by transformers."""
    text = {k: v for k, v in checkpoint.config['text_config'].items() if k != 'model_type'}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**text))
    weights = {k: v.float() for k, v in checkpoint.tensors(PREFIX)}
    if text.get('tie_word_embeddings'):
        weights[HEAD_WEIGHT] = weights[EMBEDDING_WEIGHT]
    model.load_state_dict(weights)
    return model.eval()


def with_image(
    model: transformers.LlamaForCausalLM, ids: list[int], embeddings: torch.Tensor
) -> torch.Tensor:
    """Put [N, D] image embeddings behind the first id's; [1, L, D]."""
    text = model.get_input_embeddings()(torch.tensor(ids, device=embeddings.device))
    return torch.cat([text[:1], embeddings, text[1:]])[None]
