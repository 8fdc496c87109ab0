"""Compare the policy with timm and LlamaForCausalLM.generate on one random mid-size model.

Both get the same photograph and instruction, run in turn in one process, and must write the same
tokens. The benchmark prints the median (p50) and p95 of each, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
import sys
import tempfile
import time

import numpy as np
from PIL import Image
from random_checkpoint import write_random_checkpoint
from reference import llama, timm_towers, with_image
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torchvision.transforms import InterpolationMode
import torchvision.transforms.functional as TVF  # noqa: N812 - the field's name for it

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.vision import PROJECTOR
from trt_openvla_ros.evaluation.report import percentiles, print_latencies, write_json
from trt_openvla_ros.pictures import read_picture_file
from trt_openvla_ros.policy import Policy

_BICUBIC = InterpolationMode.BICUBIC
PHOTO = files('trt_openvla_ros.pipeline') / 'coffee.jpg'
INSTRUCTION = 'pick up the coffee cup'
# Two towers of ViT-Tiny's size and a Llama of 12 layers: 58 M parameters, 25 M of them embeddings.
TOWER = {'embed_dim': 192, 'depth': 12, 'num_heads': 3}
LLM = {
    'hidden_size': 384,
    'intermediate_size': 1024,
    'num_hidden_layers': 12,
    'num_attention_heads': 6,
}


def library_policy(checkpoint: Checkpoint, policy: Policy) -> Callable[[np.ndarray], list[int]]:
    """Build the model from libraries; torchvision prepares the images, as in the release."""
    device, dtype = policy.description.device, getattr(torch, policy.description.dtype)
    towers = [vit.to(device, dtype) for vit in timm_towers(checkpoint)]
    projector = {key: v.to(device, dtype) for key, v in checkpoint.tensors(PROJECTOR)}
    language = llama(checkpoint).to(device, dtype)
    _, ids = policy.spec.prompter(INSTRUCTION)

    @torch.inference_mode()
    def predict(image: np.ndarray) -> list[int]:
        pil = Image.fromarray(image)
        pixels = [
            TVF.normalize(
                TVF.to_tensor(TVF.resize(pil, list(b.geometry.size), _BICUBIC)), b.mean, b.std
            ).to(device, dtype)[None]
            for b in policy.spec.views.processor.branches
        ]
        hidden = torch.cat(
            [
                vit.get_intermediate_layers(part, n={len(vit.blocks) - 2})[0]
                for vit, part in zip(towers, pixels, strict=True)
            ],
            dim=2,
        )
        for index in range(1, len(projector) // 2 + 1):
            hidden = F.gelu(hidden) if index > 1 else hidden
            layer = projector[f'fc{index}.weight'], projector[f'fc{index}.bias']
            hidden = F.linear(hidden, *layer)
        answer = language.generate(
            inputs_embeds=with_image(language, ids, hidden[0]),
            max_new_tokens=7,
            min_new_tokens=7,
            do_sample=False,
        )
        return answer[0].tolist()

    return predict


def main() -> int:
    """Run the benchmark; give 0 if both write the same tokens, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=30, help='number of predictions of each')
    parser.add_argument('--json', type=Path, help='write the result here')
    args = parser.parse_args()

    image = read_picture_file(PHOTO)
    with tempfile.TemporaryDirectory() as directory:
        path = write_random_checkpoint(Path(directory), tower=TOWER, llm=LLM)
        policy = Policy.from_checkpoint(path, draft_tokens=0)  # the image is always the same
        library = library_policy(Checkpoint.open(path), policy)

    def ours(image: np.ndarray) -> list[int]:
        return policy.predict(image, INSTRUCTION).generated_ids.tolist()

    seconds: dict[str, list[float]] = {'policy': [], 'library': []}
    for index in range(args.repeat + 3):
        answers = []
        for name, predict in (('policy', ours), ('library', library)):
            start = time.perf_counter()
            answers.append(predict(image))
            if index >= 3:  # the first ones warm up
                seconds[name].append(time.perf_counter() - start)
        if answers[0] != answers[1]:
            print(f'different tokens: {answers}')
            return 1
    ratio = float(np.median(seconds['policy']) / np.median(seconds['library']))
    timings = {name: percentiles(values) for name, values in seconds.items()}
    print_latencies(
        {
            'policy': (timings['policy'], 'image and instruction to action'),
            'library': (timings['library'], 'the same tokens by timm and transformers'),
        }
    )
    device = policy.description.device
    print(f'ratio of the medians: {ratio:.3f} on {device}')
    if args.json:
        result = {**timings, 'ratio_p50': round(ratio, 3), 'device': device}
        write_json(args.json, result, ('torch', 'timm', 'transformers'))
    return 0


if __name__ == '__main__':
    sys.exit(main())
