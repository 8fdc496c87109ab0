"""What users run today: towers of timm, and LlamaForCausalLM.generate of transformers.

It works with transformers 4.57 and 5. The weights are those of our engine, made anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
import timm
import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torchvision.transforms import InterpolationMode
import torchvision.transforms.functional as TVF  # noqa: N812 - the field's name for it
import transformers
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from on_gpu.models import Model
from on_gpu.runner import Runner
from trt_openvla_ros.checkpoints.llama import PREFIX
from trt_openvla_ros.checkpoints.vision import PROJECTOR, timm_name, TOWER_PREFIXES

_BICUBIC = InterpolationMode.BICUBIC


class HuggingFace(Runner):
    """timm and transformers, eager, or with a static cache and torch.compile."""

    def __init__(
        self, model: Model, device: torch.device, dtype: torch.dtype, compiled: bool = False
    ) -> None:
        """Load.

        Args:
            model: The model and its request.
            device: Device that computes.
            dtype: Precision.
            compiled: Whether the cache is static, and towers and decoding are compiled on CUDA.
        """
        self.device, self._dtype, self._model = device, dtype, model
        self._towers = _towers(model, device, dtype)
        self._projector = dict(model.checkpoint.tensors(PROJECTOR))
        self._language = _language(model, device, dtype)
        self._see = self._embed
        self._options: dict[str, Any] = {}
        if compiled:
            # transformers compiles decoding by itself if the cache is static, on CUDA alone.
            self._options['cache_implementation'] = 'static'
            if device.type == 'cuda':
                self._see = torch.compile(self._embed, mode='reduce-overhead')

    @torch.inference_mode()
    def predict(self, image: np.ndarray) -> list[int]:
        """Map a picture to the ids of an action, and compute the action."""
        ids = self.generate(self.vision(self.preprocess(image)), len(self._model.answer))
        spec = self._model.spec
        statistics = spec.statistics[spec.unnorm_key]
        statistics.unnormalise(spec.tokens.decode(np.asarray(ids[-statistics.action_dim :])))
        return ids

    def preprocess(self, image: np.ndarray) -> list[torch.Tensor]:
        """Prepare a picture by torchvision, as the release does: [3, S, S] for each tower."""
        pil = Image.fromarray(image)
        return [
            TVF.normalize(
                TVF.to_tensor(TVF.resize(pil, list(b.geometry.crop), _BICUBIC)), b.mean, b.std
            )
            for b in self._model.spec.views.processor.branches
        ]

    def upload(self, pixels: list[torch.Tensor]) -> list[torch.Tensor]:
        """Bring [1, 3, S, S] of each tower to the device."""
        return [part.to(self.device, self._dtype)[None] for part in pixels]

    @torch.inference_mode()
    def vision(self, pixels: list[torch.Tensor]) -> torch.Tensor:
        """Compute [N, D] image embeddings."""
        return self._see(*self.upload(pixels)).clone()

    def _embed(self, *pixels: torch.Tensor) -> torch.Tensor:
        hidden = torch.cat(
            [
                vit.get_intermediate_layers(part, n={len(vit.blocks) - 2})[0]
                for vit, part in zip(self._towers, pixels, strict=True)
            ],
            dim=2,
        )[0]
        for index in range(1, len(self._projector) // 2 + 1):
            hidden = F.gelu(hidden) if index > 1 else hidden
            layer = self._projector[f'fc{index}.weight'], self._projector[f'fc{index}.bias']
            hidden = F.linear(hidden, *layer)
        return hidden

    @torch.inference_mode()
    def generate(self, embeddings: torch.Tensor, count: int) -> list[int]:
        """Write that many tokens."""
        self.passes = count
        prompt = self._prompt(embeddings)
        answer = self._language.generate(
            inputs_embeds=prompt,
            attention_mask=torch.ones(prompt.shape[:2], dtype=torch.int64, device=self.device),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            **self._options,
        )
        return answer[0].tolist()

    @torch.inference_mode()
    def first_logits(self, image: np.ndarray) -> np.ndarray:
        """Give the [V] float32 logits of the first token."""
        prompt = self._prompt(self.vision(self.preprocess(image)))
        return self._language(inputs_embeds=prompt).logits[0, -1].float().cpu().numpy()

    def _prompt(self, embeddings: torch.Tensor) -> torch.Tensor:
        ids = torch.tensor(self._model.ids, device=self.device)
        text = self._language.get_input_embeddings()(ids)
        return torch.cat([text[:1], embeddings, text[1:]])[None]


def _towers(model: Model, device: torch.device, dtype: torch.dtype) -> list[nn.Module]:
    towers = []
    for prefix, one in zip(TOWER_PREFIXES, model.checkpoint.towers, strict=False):
        with torch.device('meta'):
            vit = timm.create_model(one.timm_id, **one.arguments)
        weights = {timm_name(name): value for name, value in model.checkpoint.tensors(prefix)}
        vit.load_state_dict(weights, assign=True)
        towers.append(vit.to(device, dtype).eval().requires_grad_(False))
    return towers


def _language(
    model: Model, device: torch.device, dtype: torch.dtype
) -> transformers.LlamaForCausalLM:
    llm = model.checkpoint.llm
    config = transformers.LlamaConfig(
        vocab_size=llm.vocab_size,
        hidden_size=llm.hidden_size,
        intermediate_size=llm.intermediate_size,
        num_hidden_layers=llm.num_layers,
        num_attention_heads=llm.num_heads,
        num_key_value_heads=llm.num_kv_heads,
        max_position_embeddings=llm.max_positions,
        rms_norm_eps=llm.rms_norm_eps,
    )
    with torch.device('meta'):
        language = transformers.LlamaForCausalLM(config)
    weights = {name: later.to(device) for name, later in model.checkpoint.tensors(PREFIX)}
    language.load_state_dict(weights, assign=True)
    # Its frequencies are no weights, and would stay without memory.
    language.model.rotary_emb = LlamaRotaryEmbedding(config, device)
    language.to(device, dtype).eval().requires_grad_(False)
    # Answers have the length that is asked for, also where </s> would be chosen.
    language.generation_config.eos_token_id = None
    language.generation_config.pad_token_id = 0
    return language
