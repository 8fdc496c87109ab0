"""Stage 1: each vision tower by itself, on what is to be seen in each patch.

On the loss of actions alone nothing is localised in hours. Asked densely which object is in a
patch, where it stands and where the hand is, a tower of under a million parameters learns it in
minutes; the head that answers is thrown away.

B: batch, N: patches, S: image size, T: MOST_THINGS, D: width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from tqdm import tqdm

from trt_openvla_ros.checkpoint import TowerConfig
from trt_openvla_ros.engines.torch_vision import Tower
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.training.demonstrations import Demonstrations, LOOKS

METRES = 10.0  # positions are learnt in decimetres, which makes errors of one size
_HAND = 4  # position and opening


def pixel_values(images: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """Normalise [B, S, S, 3] uint8 to [B, 3, S, S] float32."""
    scaled = images.float() / 255
    return ((scaled - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2).contiguous()


def patch_labels(demos: Demonstrations, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Say which object is in each patch.

    Returns:
        [n, N] int64, index into LOOKS, len(LOOKS) where there is none; [n, N, 3] float32 m.
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
    demos: Demonstrations, config: TowerConfig, norm: tuple[list, list], steps: int, seed: int
) -> Tower:
    """Train one tower and give it back without its auxiliary head."""
    torch.manual_seed(seed)
    tower = Tower(config)
    head = nn.Linear(tower.vit.embed_dim, len(LOOKS) + 1 + 3 + _HAND)
    rows = tower.vit.patch_embed.grid_size[0]
    looks, places = map(torch.from_numpy, patch_labels(demos, rows))
    hands = torch.from_numpy(demos.hands)[:, [0, 1, 2, 4]] * torch.tensor([*[METRES] * 3, 1.0])
    parameters = [*tower.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.5e-3, steps, pct_start=0.1)
    rng = np.random.default_rng(seed)
    bar = tqdm(range(steps), desc=f'tower {config.timm_id[:24]}', mininterval=2)
    for _ in bar:
        batch = np.sort(rng.integers(len(demos.images), size=64))
        pixels = pixel_values(torch.from_numpy(demos.images[batch]), *norm)
        with torch.autocast('cpu', torch.bfloat16):
            features = tower(pixels)
        answer = head(features.float())
        which, where, hand = answer.split([len(LOOKS) + 1, 3, _HAND], dim=-1)
        label, there = looks[batch], looks[batch] < len(LOOKS)
        losses = {
            'which': F.cross_entropy(which.flatten(0, 1), label.flatten()),
            'where': F.smooth_l1_loss(where[there], METRES * places[batch][there], beta=0.1),
            'hand': F.smooth_l1_loss(hand, hands[batch][:, None].expand_as(hand), beta=0.1),
        }
        loss = 3 * losses['which'] + 3 * losses['where'] + 2 * losses['hand']
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        bar.set_postfix({name: f'{value.item():.4f}' for name, value in losses.items()})
    return tower.eval()


@torch.inference_mode()
def features_of(tower: Tower, demos: Demonstrations, norm: tuple[list, list]) -> torch.Tensor:
    """Look at every picture once: [n, N, D] bfloat16."""
    parts = []
    for first in tqdm(range(0, len(demos.images), 256), desc='features', mininterval=2):
        images = torch.from_numpy(demos.images[first : first + 256])
        with torch.autocast('cpu', torch.bfloat16):
            parts.append(tower(pixel_values(images, *norm)).bfloat16())
    return torch.cat(parts)
