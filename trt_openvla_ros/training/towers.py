"""Stage 1: each vision tower by itself, on what is to be seen in each patch.

On the loss of actions alone nothing is localised in hours. Asked densely which object is in a
patch, where it stands and where the hand is, a tower of under a million parameters learns it in
minutes; the head that answers is thrown away.

B: batch, N: patches, S: image size, T: MOST_THINGS, D: width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from tqdm import tqdm

from trt_openvla_ros.checkpoints.preprocessor import Norm
from trt_openvla_ros.engines.torch.vision import Tower
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.training.demonstrations import Demonstrations, LOOKS
from trt_openvla_ros.training.loop import autocast, train

METRES = 10.0  # positions are learnt in decimetres, which makes errors of one size
_HAND = 4  # position and opening


def pixel_values(images: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Normalise [B, S, S, 3] uint8 to [B, 3, S, S] float32."""
    mean, std = (torch.tensor(values, device=images.device) for values in norm)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def patch_labels(demos: Demonstrations, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Say which object is in each patch.

    Returns:
        [n, N] int64, index into LOOKS, len(LOOKS) for no object; [n, N, 3] float32 m.
    """
    world = World()
    pixels = world.project(demos.positions) * rows / 256
    world.close()
    centres = np.arange(rows) + 0.5
    grid = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)  # x, y; row-major
    away = np.abs(pixels[:, None] - grid[None, :, None]).max(-1)  # [n, N, T]
    away[np.broadcast_to((demos.looks < 0)[:, None], away.shape)] = np.inf
    nearest = away.argmin(-1)
    # Objects are about as large as a patch: they are in those whose centre is this near.
    inside = np.take_along_axis(away, nearest[..., None], -1)[..., 0] < 0.75
    looks = np.take_along_axis(demos.looks, nearest, 1).astype(np.int64)
    places = np.take_along_axis(demos.positions, nearest[..., None], 1)
    return np.where(inside, looks, len(LOOKS)), places


def train_tower(
    tower: Tower, demos: Demonstrations, norm: Norm, steps: int, seed: int, progress: Path
) -> None:
    """Train one tower behind an auxiliary head; go on from progress if there is any.

    Args:
        tower: Is changed, on its device.
        demos: Pictures to look at.
        norm: Mean and standard deviation of each colour.
        steps: Batches of 64 pictures.
        seed: Seed of the batches.
        progress: As in `train`.
    """
    device = next(tower.parameters()).device
    torch.manual_seed(seed)
    head = nn.Linear(tower.vit.embed_dim, len(LOOKS) + 1 + 3 + _HAND).to(device)
    rows = tower.vit.patch_embed.grid_size[0]
    looks, places = map(torch.from_numpy, patch_labels(demos, rows))
    hands = torch.from_numpy(demos.hands)[:, [0, 1, 2, 4]] * torch.tensor([*[METRES] * 3, 1.0])

    def losses_of(step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([seed, step])
        batch = np.sort(rng.integers(len(demos.images), size=64))
        pixels = pixel_values(torch.from_numpy(demos.images[batch]).to(device), norm)
        with autocast(device):
            features = tower(pixels)
        answer = head(features.float())
        which, where, hand = answer.split([len(LOOKS) + 1, 3, _HAND], dim=-1)
        label = looks[batch].to(device)
        there = label < len(LOOKS)
        place = METRES * places[batch].to(device)
        target = hands[batch].to(device)[:, None].expand_as(hand)
        return {
            'which': 3 * F.cross_entropy(which.flatten(0, 1), label.flatten()),
            'where': 3 * F.smooth_l1_loss(where[there], place[there], beta=0.1),
            'hand': 2 * F.smooth_l1_loss(hand, target, beta=0.1),
        }

    train(nn.ModuleList([tower, head]), losses_of, steps, 1.5e-3, progress)


@torch.inference_mode()
def features_of(tower: Tower, demos: Demonstrations, norm: Norm) -> torch.Tensor:
    """Look at every picture once: [n, N, D] bfloat16 on the CPU."""
    device = next(tower.parameters()).device
    parts = []
    for first in tqdm(range(0, len(demos.images), 256), desc='features', mininterval=2):
        images = torch.from_numpy(demos.images[first : first + 256]).to(device)
        with autocast(device):
            parts.append(tower(pixel_values(images, norm)).bfloat16().cpu())
    return torch.cat(parts)
