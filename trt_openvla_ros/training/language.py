"""Stage 2: projector and language model together, behind towers that no longer change.

Three things make the action learnable in an hour: a token that stands for a number counts as
partly right when it is near (its neighbours share the target); the hidden state from which an
answer is predicted must also tell where the named object and the hand are (by a head that is
thrown away); and one attention head must look at the object that is talked about.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812 - the field's name for it
import transformers
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.checkpoints.vision import projector_widths
from trt_openvla_ros.engines.torch.vision import Projector
from trt_openvla_ros.training.lessons import FACTS, Lesson, Teacher
from trt_openvla_ros.training.loop import autocast, train
from trt_openvla_ros.training.vocabulary import number_runs

PEAK, PEAK_FURTHER = 8e-4, 5e-4  # learning rate, from nothing and of what was trained before
_LOOKING = 1  # layer; the one before it gathers the words
# Of a number's target: about as far as it can be told from a picture of this size. Were actions'
# narrower, the frequent ones (none, and as far as one may) would win over those in between.
_ACTION_BLUR = 20.0  # [bins]
_PIXEL_BLUR = 2.0  # [px]


class Student(nn.Module):
    """Projector, Llama and the auxiliary head."""

    def __init__(self, text_config: dict[str, object], width: int, towers: int) -> None:
        """Build it with random weights, behind towers that are width wide together."""
        super().__init__()
        hidden = text_config['hidden_size']
        self.projector = Projector(projector_widths(width, hidden, towers))
        # The default range, 0.02, suits wide models: here each step would change a tenth of it,
        # and no head finds the object that is named.
        config = transformers.LlamaConfig(
            **text_config, attn_implementation='sdpa', initializer_range=hidden**-0.5
        )
        self.llama = transformers.LlamaForCausalLM(config)
        self.facts = nn.Linear(config.hidden_size, FACTS)

    def forward(
        self, features: torch.Tensor, lesson: Lesson
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Answer where the answers are predicted.

        Returns:
            Logits [M, V], facts [M, FACTS], and the logarithm of how much, where objects are
            mentioned, one head looks at each patch [K, N].
        """
        count, patches, _ = features.shape
        device = features.device
        embed = self.llama.get_input_embeddings()
        start = embed(torch.ones(count, 1, dtype=torch.long, device=device))
        inputs = torch.cat(
            [start, self.projector(features.to(start)).to(start), embed(lesson.ids)], 1
        )
        image = torch.arange(1 + patches, device=device).expand(count, -1)
        positions = torch.cat([image, lesson.positions], 1)
        segments = F.pad(lesson.segments, (1 + patches, 0), value=0)
        seen = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
        seen = seen & torch.ones(seen.shape[1:], dtype=torch.bool, device=device).tril()
        mask = torch.zeros(seen.shape, dtype=inputs.dtype, device=device)
        mask = mask.masked_fill(~seen, torch.finfo(inputs.dtype).min)[:, None]
        output = self.llama.model(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            output_hidden_states=True,
        )
        last = output.last_hidden_state[lesson.rows, 1 + patches + lesson.columns]
        looks = self._looks(output.hidden_states[_LOOKING], positions, mask)
        mentions = lesson.mention_rows, 1 + patches + lesson.mention_columns
        return self.llama.lm_head(last), self.facts(last), looks[mentions][:, 1 : 1 + patches]

    def _looks(
        self, hidden: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Give the logarithm of the attention [B, L, L] of the first head."""
        layer = self.llama.model.layers[_LOOKING]
        size = layer.self_attn.head_dim
        normed = layer.input_layernorm(hidden)
        queries, keys = (
            F.linear(normed, projection.weight[:size])[:, None]
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj)
        )
        turns = self.llama.model.rotary_emb(normed, positions)
        queries, keys = apply_rotary_pos_emb(queries, keys, *turns)
        scores = queries @ keys.transpose(2, 3) / size**0.5 + mask
        return scores[:, 0].float().log_softmax(-1)


def blurred_targets(rows: int, tokenizer: Tokenizer) -> torch.Tensor:
    """Give the target distribution [rows, rows] of every token."""
    target = torch.eye(rows)
    actions, *pixels = number_runs(tokenizer)
    for run, blur in [(actions, _ACTION_BLUR), *((run, _PIXEL_BLUR) for run in pixels)]:
        place = torch.arange(len(run), dtype=torch.float32)
        near = torch.exp(-0.5 * ((place[:, None] - place) / blur) ** 2)
        target[run.start : run.stop, run.start : run.stop] = near / near.sum(1, keepdim=True)
    return target


def looking_loss(looks: torch.Tensor, lesson: Lesson) -> torch.Tensor:
    """Ask that one head looks at any patch with the object that is mentioned."""
    there = lesson.seen[lesson.mention_rows] == lesson.named[:, None]
    visible = there.any(1)
    return -looks[visible].masked_fill(~there[visible], -torch.inf).logsumexp(1).mean()


def train_language(
    student: Student,
    teacher: Teacher,
    features: torch.Tensor,
    steps: int,
    batch: tuple[int, int],
    peak: float,
    progress: Path,
) -> None:
    """Train student; go on from progress if there is any.

    Args:
        student: Is changed, on its device.
        teacher: Makes the lessons.
        features: [n, N, D] features of every picture, those of the towers side by side.
        steps: Number of batches.
        batch: Number of pictures, and of goals of each picture.
        peak: As in `train`.
        progress: As in `train`.
    """
    device = next(student.parameters()).device
    rows = student.llama.config.vocab_size
    targets = torch.cat([blurred_targets(rows, teacher.tokenizer), torch.eye(rows)]).to(device)

    def losses_of(step: int) -> dict[str, torch.Tensor]:
        lesson = teacher.lesson(step, *batch).to(device)
        with autocast(device):
            logits, facts, looks = student(features[lesson.pictures].to(device), lesson)
        target = targets[lesson.labels + rows * lesson.exact]
        words = F.cross_entropy(logits.float(), target, reduction='none')
        return {
            'words': (words * lesson.weights).sum() / lesson.weights.sum(),
            'where': F.smooth_l1_loss(facts.float(), lesson.facts, beta=0.1),
            'look': looking_loss(looks, lesson),
        }

    train(student, losses_of, steps, peak, progress)
