"""The language engine in PyTorch: one sequence, greedy decoding.

N: image embeddings, D: width, V: rows of the head, L: positions of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.engines.base import Decoding, Generation
from trt_openvla_ros.engines.progress import Progress
from trt_openvla_ros.engines.torch.graphs import Marks
from trt_openvla_ros.engines.torch.llama_weights import LlamaWeights, read_hugging_face
from trt_openvla_ros.engines.torch.passes import MOST_ROWS, Passes
from trt_openvla_ros.engines.torch.trtllm_weights import read_trtllm
from trt_openvla_ros.errors import ConfigError, InputError, OutputError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.llama_config import LlamaConfig
    from trt_openvla_ros.checkpoints.released import Checkpoint

# Tokens by which instructions may be longer than the one that memory is reserved for; a longer one
# makes the cache grow when it comes.
_SPARE = 128


class TorchLanguage:
    """A language engine in PyTorch. Two threads must not call it at the same time.

    Attributes:
        config: Shape of the model.
        weights: Weights of the model.
        dtype: Precision of all that is not quantised, and of the states between layers.
        passes: Passes of the model.
    """

    def __init__(
        self,
        source: Checkpoint | TrtllmCheckpoint,
        device: torch.device,
        dtype: torch.dtype,
        weights: str = '',
    ) -> None:
        """Load the language model.

        Args:
            source: A checkpoint, an artifact or a TensorRT-LLM checkpoint. If an artifact has a
                TensorRT-LLM checkpoint, that is read.
            device: Device that computes.
            dtype: Precision of all that is not quantised, and of the states between layers.
            weights: One of WEIGHTS, in which the layers' weights are held; '' takes them as they
                are stored.

        Raises:
            ConfigError: Weights are missing or of another shape than config.json says, are
                quantised already, or the device cannot compute with this format.
        """
        if not isinstance(source, TrtllmCheckpoint):
            quantised = source.artifact.trtllm_checkpoint if source.artifact else None
            if quantised:
                source = TrtllmCheckpoint.open(quantised, expected=source.llm)
        if not isinstance(source, TrtllmCheckpoint):
            read = read_hugging_face(source, device, dtype, weights)
        elif not weights:
            read = read_trtllm(source, device, dtype)
        else:
            raise ConfigError(
                f'weights is {weights!r}, but the artifact has a language model in '
                f'{source.format} already ({source.path}); leave weights empty, or load the '
                'original checkpoint'
            )
        self._assemble(source.llm, read, device, dtype)

    @classmethod
    def from_weights(
        cls, config: LlamaConfig, weights: LlamaWeights, device: torch.device, dtype: torch.dtype
    ) -> TorchLanguage:
        """Make an engine of weights that are on the device already."""
        engine = cls.__new__(cls)
        engine._assemble(config, weights, device, dtype)
        return engine

    def _assemble(
        self, config: LlamaConfig, weights: LlamaWeights, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.config, self.weights, self.dtype, self._device = config, weights, dtype, device
        self.passes = Passes(config, weights, device, dtype)

    def generate(
        self, ids: Sequence[int], embeddings: torch.Tensor, decoding: Decoding
    ) -> Generation:
        """Continue <s>, the [N, D] image embeddings, and the rest of ids, greedily.

        Raises:
            InputError: The prompt leaves no room in the context.
            OutputError: Logits are not finite.
        """
        marks = Marks(self._device)
        length = self._check_length(ids, embeddings)
        # The last token needs no position, because no token follows it.
        limit = min(decoding.max_new_tokens, self.config.max_positions - length + 1)
        self.passes.reserve(length + limit)
        answer = _Answer(self.passes, decoding, length, limit)
        try:
            answer.begin(ids, embeddings)
            marks.mark()
            while not answer.finished:
                answer.extend()
        except OutputError:
            self.passes.clear()
            raise
        marks.mark()
        prefill, decode = marks.seconds()
        return Generation(
            ids=answer.progress.ids,
            out_of_range=answer.out_of_range,
            prefill_time=prefill,
            decode_time=decode,
            passes=answer.passes,
        )

    def prepare(self, ids: Sequence[int], embeddings: torch.Tensor, decoding: Decoding) -> None:
        """Make room for such requests, and capture their passes on CUDA; this takes seconds there.

        Args:
            ids: Token ids of a short prompt; longer ones are prepared for, too.
            embeddings: [N, D] image embeddings.
            decoding: Rules of the answers.
        """
        longest = min(len(ids) + len(embeddings) + _SPARE, self.config.max_positions)
        limit = min(decoding.max_new_tokens, self.config.max_positions - longest + 1)
        self.passes.reserve(longest + limit)
        bound = decoding.actions is not None and decoding.constrain
        kinds = [bound] if decoding.action_first or not bound else [False, True]
        drafts = decoding.drafter is not None
        self.passes.capture(ids, embeddings, decoding.actions, kinds, drafts)

    def first_logits(self, ids: Sequence[int], embeddings: torch.Tensor) -> np.ndarray:
        """Give the [V] float32 logits of the first generated token."""
        return self.prefill(ids, embeddings)[-1].float().cpu().numpy()

    def prefill(
        self, ids: Sequence[int], embeddings: torch.Tensor, every: bool = False
    ) -> torch.Tensor:
        """Run the prompt and fill the cache.

        Args:
            ids: Token ids, <s> first.
            embeddings: [N, D] image embeddings, placed behind <s>.
            every: Whether to give the logits at every position, not only at the last.

        Returns:
            [1 or L, V] logits in the engine's dtype.
        """
        self.passes.reserve(self._check_length(ids, embeddings))
        return self.passes.logits(ids, embeddings, every)

    def step(self, token: int, position: int) -> torch.Tensor:
        """Run one token at the position behind the cached ones, and give [V] logits."""
        return self.passes.token_logits(token, position)

    def _check_length(self, ids: Sequence[int], embeddings: torch.Tensor) -> int:
        length = len(ids) + len(embeddings)
        if length > self.config.max_positions:
            raise InputError(
                f'the prompt has {length} positions and the model {self.config.max_positions}; '
                'shorten the instruction'
            )
        return length


class _Answer:
    """An answer as it grows: the host's side of the passes.

    Attributes:
        progress: Ids so far.
        out_of_range: Number of action ids whose unconstrained argmax was outside the range.
        passes: Number of passes so far.
    """

    def __init__(self, passes: Passes, decoding: Decoding, length: int, limit: int) -> None:
        """Start before the prompt of that length, for at most `limit` ids."""
        self._run, self._decoding = passes, decoding
        self._length, self._limit = length, limit
        self.progress = Progress(decoding)
        self.out_of_range = self.passes = 0
        self._draft: list[int] = []
        self._unread = 0  # tokens that the device chose and the host has not seen

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or has no more room."""
        return self.progress.finished or len(self.progress.ids) >= self._limit

    def begin(self, ids: Sequence[int], embeddings: torch.Tensor) -> None:
        """Run the prompt, with a draft of the answer's begin if there is one."""
        self._draft = self._propose()
        actions, constrained = self._decoding.actions, self.progress.constrained
        self._run.prompt(ids, embeddings, self._draft, actions, constrained)
        self.passes += 1
        self._unread = 0 if self._draft else 1

    def extend(self) -> None:
        """Take what the device chose, and let it go on if the answer is not finished."""
        if self._draft:
            self._take_rows()
        else:
            self._take_steps()
        if self.finished:
            return
        self._draft = self._propose()
        last = self.progress.ids[-1]
        position = self._length + len(self.progress.ids) - 1
        if self._draft:
            self._run.verify(last, self._draft, position, self._decoding.actions)
            self.passes += 1
        else:
            self._run.resume(last, position)

    def _propose(self) -> list[int]:
        drafter = self._decoding.drafter
        if drafter is None:
            return []
        # One more id than the draft is chosen by its pass.
        room = min(MOST_ROWS, self._limit - len(self.progress.ids)) - 1
        return list(drafter.propose(self.progress.ids))[:room]

    def _take_steps(self) -> None:
        """Run as many steps as can be foreseen, and take their tokens."""
        constrained = self.progress.constrained
        count = self.progress.action_left or self._run.ahead
        count = min(count, MOST_ROWS, self._limit - len(self.progress.ids))
        for _ in range(count - self._unread):
            self._run.step(self._decoding.actions, constrained)
            self.passes += 1
        self._unread = 0
        for token, best, free, free_best in self._run.read(count, constrained):
            if self.progress.constrained != constrained and not self.progress.is_action(token):
                # The action began on the way. This token and those behind it are chosen again.
                return
            self._add(token, free, best + free_best)
            if self.finished:
                return

    def _take_rows(self) -> None:
        """Take the draft's ids as far as they are what would have been chosen, and one more."""
        rows = self._run.read_rows(1 + len(self._draft))
        if hasattr(self._decoding.drafter, 'observe'):
            self._decoding.drafter.observe([int(free) for _, _, free, _ in rows])
        for row, drafted in zip(rows, [*self._draft, None], strict=True):
            bound, bound_best, free, free_best = row
            constrained = self.progress.constrained
            token = bound if constrained else free
            self._add(token, free, (bound_best if constrained else 0.0) + free_best)
            if self.finished or token != drafted:
                return

    def _add(self, token: float, free: float, logit: float) -> None:
        """Add the next id.

        Args:
            token: The id.
            free: Id that an unconstrained argmax chose.
            logit: Largest logits, or their sum. Any NaN makes them NaN, so this number stands
                for whole vectors.

        Raises:
            OutputError: It is not finite.
        """
        if not math.isfinite(logit):
            raise OutputError(
                f'the model gave {logit} as the largest logit after {len(self.progress.ids)} '
                'tokens; its weights or the dtype are broken (try dtype float32)'
            )
        self.out_of_range += self.progress.in_action and not self.progress.is_action(int(free))
        self.progress.add(int(token))
        if self._decoding.on_ids is not None:
            self._decoding.on_ids(self.progress.ids)
