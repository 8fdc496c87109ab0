"""The loop that both stages share: minimise, show progress, survive interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import time

import torch
from torch import nn
from tqdm import tqdm

_SAVE = 60.0  # [s] between two notes of the progress


def train(
    module: nn.Module,
    losses_of: Callable[[int], dict[str, torch.Tensor]],
    steps: int,
    peak: float,
    progress: Path,
) -> None:
    """Minimise the sum of losses with AdamW; the learning rate rises and falls once.

    Args:
        module: Is changed; left in evaluation mode.
        losses_of: Gives the losses of a step by name. All that it draws must follow from the
            step's number, so that an interrupted run ends like one that was not.
        steps: Number of all steps; nothing is left to do if progress has the last one.
        peak: Highest learning rate.
        progress: File that remembers weights and optimiser about every minute.
    """
    module.train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=peak, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, steps, pct_start=0.1)
    parts = {'module': module, 'optimiser': optimiser, 'schedule': schedule}
    done = 0
    if progress.is_file():
        saved = torch.load(progress, weights_only=True, map_location='cpu')
        done = saved.pop('done')
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    saved_at = time.monotonic()
    bar = tqdm(range(done, steps), initial=done, total=steps, desc=progress.stem, mininterval=2)
    for step in bar:
        losses = losses_of(step)
        optimiser.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 10 == 0:
            bar.set_postfix({k: f'{v.item():.4f}' for k, v in losses.items()}, refresh=False)
        if time.monotonic() - saved_at > _SAVE or step == steps - 1:
            unfinished = progress.with_suffix('.part')
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save({'done': step + 1, **state}, unfinished)
            unfinished.replace(progress)
            saved_at = time.monotonic()
    module.eval()


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 if that is faster: on a GPU, and on a CPU that has tiles for it."""
    flags = Path('/proc/cpuinfo')
    fast = device.type != 'cpu' or (flags.is_file() and 'amx_bf16' in flags.read_text())
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
