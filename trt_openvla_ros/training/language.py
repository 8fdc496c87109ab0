"""Stage 2: projector and language model together, behind towers that no longer change.

Two things make the action learnable in an hour: a token that stands for a number counts as partly
right when it is near (its neighbours share the target), and the hidden state from which an answer
is predicted must also tell where the named object and the hand are (by a head that is thrown
away).
"""

from __future__ import annotations

from pathlib import Path
import time

import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from tqdm import tqdm
import transformers

from trt_openvla_ros.engines.torch_vision import Projector
from trt_openvla_ros.prompt import Tokenizer
from trt_openvla_ros.training.lessons import FACTS, Lesson, Teacher
from trt_openvla_ros.training.vocabulary import BINS

_PEAK = 2e-3  # learning rate
_BLUR = 1.5  # [bins or px] of a number's target
_SAVE = 60.0  # [s] between two notes of the progress


class Student(nn.Module):
    """Projector, Llama and the auxiliary head."""

    def __init__(self, text_config: dict[str, object], widths: list[int]) -> None:
        """Build it with random weights."""
        super().__init__()
        self.projector = Projector(widths)
        config = transformers.LlamaConfig(**text_config, attn_implementation='sdpa')
        self.llama = transformers.LlamaForCausalLM(config)
        self.facts = nn.Linear(config.hidden_size, FACTS)

    def forward(self, features: torch.Tensor, lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor]:
        """Give logits [M, V] and facts [M, FACTS] where the answers are predicted."""
        count, patches, _ = features.shape
        embed = self.llama.get_input_embeddings()
        start = embed(torch.ones(count, 1, dtype=torch.long))
        inputs = torch.cat([start, self.projector(features).to(start), embed(lesson.ids)], 1)
        image = torch.arange(1 + patches).expand(count, -1)
        positions = torch.cat([image, lesson.positions], 1)
        segments = F.pad(lesson.segments, (1 + patches, 0), value=0)
        seen = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
        seen = seen & torch.ones(seen.shape[1:], dtype=torch.bool).tril()
        mask = torch.zeros(seen.shape, dtype=torch.bfloat16)
        mask = mask.masked_fill(~seen, torch.finfo(torch.bfloat16).min)[:, None]
        hidden = self.llama.model(
            inputs_embeds=inputs, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        at = hidden[lesson.rows, 1 + patches + lesson.columns]
        return self.llama.lm_head(at), self.facts(at)


def numbers_of(tokenizer: Tokenizer) -> list[range]:
    """List the runs of ids that stand for consecutive numbers."""
    last = tokenizer.vocab_size
    runs = [range(last - BINS, last)]
    for start in ('\u2581', '\u2581['):
        first = tokenizer.piece_id(f'{start}0')
        ids = [tokenizer.piece_id(f'{start}{number}') for number in range(256)]
        if ids == list(range(first, first + 256)):
            runs.append(range(first, first + 256))
    return runs


def blurred_targets(rows: int, runs: list[range]) -> torch.Tensor:
    """Give the target distribution [rows, rows] of every token."""
    target = torch.eye(rows)
    for run in runs:
        place = torch.arange(len(run), dtype=torch.float32)
        near = torch.exp(-0.5 * ((place[:, None] - place) / _BLUR) ** 2)
        target[run.start : run.stop, run.start : run.stop] = near / near.sum(1, keepdim=True)
    return target


def train_language(
    student: Student,
    teacher: Teacher,
    features: list[torch.Tensor],
    steps: int,
    batch: tuple[int, int],
    progress: Path,
) -> None:
    """Train student; go on from progress where there is one.

    Args:
        student: Is changed.
        teacher: Makes the lessons.
        features: Of each tower [n, N, D], side by side.
        steps: In all; the learning rate falls to nothing at the last.
        batch: Pictures, and goals of each.
        progress: File that remembers weights and optimiser about every minute.
    """
    targets = blurred_targets(student.llama.config.vocab_size, numbers_of(teacher.tokenizer))
    optimiser = torch.optim.AdamW(student.parameters(), lr=_PEAK, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _PEAK, steps, pct_start=0.05)
    done = 0
    if progress.is_file():
        saved = torch.load(progress, weights_only=True)
        done = saved['done']
        student.load_state_dict(saved['student'])
        optimiser.load_state_dict(saved['optimiser'])
        schedule.load_state_dict(saved['schedule'])
    teacher.restart(done)
    saved_at = time.monotonic()
    bar = tqdm(range(done, steps), initial=done, total=steps, desc=teacher.style, mininterval=2)
    for step in bar:
        lesson = teacher.lesson(*batch)
        seen = torch.cat([part[lesson.pictures] for part in features], dim=-1)
        with torch.autocast('cpu', torch.bfloat16):
            logits, facts = student(seen, lesson)
        words = F.cross_entropy(logits.float(), targets[lesson.labels])
        where = F.smooth_l1_loss(facts.float(), lesson.facts, beta=0.1)
        optimiser.zero_grad(set_to_none=True)
        (words + where).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        bar.set_postfix(words=f'{words.item():.3f}', where=f'{where.item():.4f}', refresh=False)
        if time.monotonic() - saved_at > _SAVE or step == steps - 1:
            state = {
                'done': step + 1,
                'student': student.state_dict(),
                'optimiser': optimiser.state_dict(),
                'schedule': schedule.state_dict(),
            }
            unfinished = progress.with_suffix('.part')
            torch.save(state, unfinished)
            unfinished.replace(progress)
            saved_at = time.monotonic()
