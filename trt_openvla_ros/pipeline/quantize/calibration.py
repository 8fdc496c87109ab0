"""Calibration on the language model's real inputs: prompts with images, and its own answers.

L: positions, N: image embeddings, D: width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from tqdm import tqdm

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.torch.vision import TorchVision
from trt_openvla_ros.pipeline.frames import Frame
from trt_openvla_ros.policy.prompt import Prompter
from trt_openvla_ros.policy.spec import ModelSpec

ACTION_IDS = 7  # tokens of an answer without reasoning


def read_spec(checkpoint: Checkpoint, prompt_style: str, camera: CameraSteps) -> ModelSpec:
    """Read the specification of a checkpoint; prompt_style '' means that of the checkpoint."""
    # Any statistics will do: prompts and images do not depend on them.
    unnorm_key = next(iter(checkpoint.statistics), None)
    return ModelSpec.read(checkpoint, unnorm_key, prompt_style or None, camera=camera)


def encode_images(
    spec: ModelSpec, frames: Sequence[Frame], device: torch.device, dtype: torch.dtype
) -> list[torch.Tensor]:
    """Give the [N, D] image embeddings of each frame; free the vision encoder afterwards."""
    vision = TorchVision(spec.checkpoint, device, dtype)
    return [
        vision.encode(spec.views(frame.image)) for frame in tqdm(frames, desc='image embeddings')
    ]


@torch.inference_mode()
def calibration_inputs(
    model: nn.Module,
    prompter: Prompter,
    frames: Sequence[Frame],
    images: Sequence[torch.Tensor],
    answer_tokens: int,
) -> list[torch.Tensor]:
    """Give [1, L, D] input embeddings: <s>, image, prompt, and the model's answer.

    Args:
        model: Language model of transformers, not yet quantised.
        prompter: Converter of instructions to token ids.
        frames: Frames with the instructions.
        images: Image embeddings [N, D] of each frame.
        answer_tokens: Most tokens of the answer; a model that does not reason writes at most
            ACTION_IDS.
    """
    table = model.get_input_embeddings()
    device, dtype = table.weight.device, table.weight.dtype
    limit = answer_tokens if prompter.style.reasons else min(answer_tokens, ACTION_IDS)
    inputs = []
    for frame, image in zip(
        tqdm(frames, desc="prompts and the model's answers"), images, strict=True
    ):
        _, ids = prompter(frame.instruction)
        text = table(torch.tensor(ids, device=device))
        prompt = torch.cat([text[:1], image.to(device, dtype), text[1:]])[None]
        if limit:
            answer = model.generate(
                inputs_embeds=prompt,
                attention_mask=torch.ones(prompt.shape[:2], device=device, dtype=torch.long),
                max_new_tokens=limit,
                do_sample=False,
            )
            prompt = torch.cat([prompt, table(answer)], dim=1)
        inputs.append(prompt)
    return inputs
