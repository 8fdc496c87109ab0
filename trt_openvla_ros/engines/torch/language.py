"""The language engine in PyTorch: one sequence, greedy decoding.

L: tokens of the prompt, N: image embeddings, D: width, V: rows of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.engines.base import Decoding, Generation
from trt_openvla_ros.engines.progress import Progress
from trt_openvla_ros.engines.torch.llama import DecoderLayer, rotary_table
from trt_openvla_ros.engines.torch.llama_weights import LlamaWeights, read_hugging_face
from trt_openvla_ros.engines.torch.trtllm_weights import read_trtllm
from trt_openvla_ros.errors import InputError, OutputError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.released import Checkpoint

# A step attends to a multiple of this many positions, and masks those without a token. So kernels
# and captured graphs see few shapes, and most of the empty cache is not read.
_WINDOW = 256


class TorchLanguage:
    """A language engine in PyTorch. Two threads must not call it at the same time.

    Attributes:
        dtype: Precision of all that is not quantised, and of the states between layers.
    """

    def __init__(
        self, source: Checkpoint | TrtllmCheckpoint, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Load the language model.

        Args:
            source: A checkpoint, an artifact or a TensorRT-LLM checkpoint. If an artifact has a
                TensorRT-LLM checkpoint, that is read.
            device: Device that computes.
            dtype: Precision of all that is not quantised, and of the states between layers.

        Raises:
            ConfigError: Weights are missing or of another shape than config.json says.
        """
        if not isinstance(source, TrtllmCheckpoint):
            quantised = source.artifact.trtllm_checkpoint if source.artifact else None
            if quantised:
                source = TrtllmCheckpoint.open(quantised, expected=source.llm)
        read = read_trtllm if isinstance(source, TrtllmCheckpoint) else read_hugging_face
        self.config, self.dtype = source.llm, dtype
        self._assemble(read(source, device, dtype), device, dtype)

    @torch.inference_mode()
    def _assemble(self, weights: LlamaWeights, device: torch.device, dtype: torch.dtype) -> None:
        c = self.config
        self.embedding, self.norm, self.head = weights.embedding, weights.norm, weights.head
        self.layers = [DecoderLayer(c, layer) for layer in weights.layers]
        shape = (c.num_layers, 2, 1, c.num_kv_heads, c.max_positions, c.head_dim)
        self.cache = torch.zeros(shape, device=device, dtype=dtype)
        for layer, (keys, values) in zip(self.layers, self.cache, strict=True):
            layer.keys, layer.values = keys, values
        self.rotation = rotary_table(c, device, dtype)
        self.positions = torch.arange(c.max_positions, device=device)

    @torch.inference_mode()
    def generate(
        self, ids: Sequence[int], embeddings: torch.Tensor, decoding: Decoding
    ) -> Generation:
        """Continue <s>, the [N, D] image embeddings, and the rest of ids, greedily.

        Raises:
            InputError: The prompt leaves no room in the context.
            OutputError: Logits are not finite.
        """
        start = time.perf_counter()
        hidden = self._run_prompt(ids, embeddings, every=False)
        position = len(ids) + len(embeddings)
        # The last token needs no position, because no token follows it.
        limit = min(decoding.max_new_tokens, self.config.max_positions - position + 1)
        picker = _Picker(decoding, self.head)
        try:
            chosen = picker.pick(hidden)
            prefilled = time.perf_counter()
            while not picker.progress.finished and len(picker.progress.ids) < limit:
                hidden = self._run_token(chosen, position)
                position += 1
                chosen = picker.pick(hidden)
            picker.count_out_of_range()
        except OutputError:
            # Zero times NaN is NaN: a masked NaN in the cache would spoil all later answers.
            self.cache.zero_()
            raise
        end = time.perf_counter()
        ids = picker.progress.ids
        return Generation(ids, picker.out_of_range, prefilled - start, end - prefilled)

    def first_logits(self, ids: Sequence[int], embeddings: torch.Tensor) -> np.ndarray:
        """Give the [V] float32 logits of the first generated token."""
        return self.prefill(ids, embeddings)[-1].float().cpu().numpy()

    @torch.inference_mode()
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
        return F.linear(self._run_prompt(ids, embeddings, every), self.head)

    @torch.inference_mode()
    def step(self, token: int, position: int) -> torch.Tensor:
        """Run one token at the position behind the cached ones, and give [V] logits."""
        return F.linear(self._run_token(token, position), self.head)[0]

    def _run_prompt(
        self, ids: Sequence[int], embeddings: torch.Tensor, every: bool
    ) -> torch.Tensor:
        length = len(ids) + len(embeddings)
        if length > self.config.max_positions:
            raise InputError(
                f'the prompt has {length} positions and the model {self.config.max_positions}; '
                'shorten the instruction'
            )
        text = F.embedding(torch.tensor(ids, device=self.embedding.device), self.embedding)
        hidden = torch.cat([text[:1], embeddings.to(text), text[1:]])
        return self._run(hidden, self.positions[:length], length, None, every)

    def _run_token(self, token: int, position: int) -> torch.Tensor:
        window = min(position // _WINDOW * _WINDOW + _WINDOW, self.config.max_positions)
        here = self.positions[position : position + 1]
        mask = self.positions[None, :window] <= here
        return self._run(self.embedding[token][None], here, window, mask, every=False)

    def _run(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        window: int,
        mask: torch.Tensor | None,
        every: bool,
    ) -> torch.Tensor:
        """Map [L, D] embeddings to [1 or L, D] final hidden states, normalised for the head."""
        rotation = self.rotation[:, positions]
        for index, layer in enumerate(self.layers, 1):
            # Only the last position of the last layer is read, which costs less.
            keep = len(hidden) if every or index < len(self.layers) else 1
            hidden = layer(hidden, positions, rotation, window, mask, keep)
        return F.rms_norm(hidden, self.norm.shape, self.norm, self.config.rms_norm_eps)


class _Picker:
    """The greedy choice of token ids."""

    def __init__(self, decoding: Decoding, head: torch.Tensor) -> None:
        self.decoding = decoding
        self.head = head
        self.progress = Progress(decoding)
        self.out_of_range = 0
        self._constrained: list[torch.Tensor] = []

    def pick(self, hidden: torch.Tensor) -> int:
        """Choose the next id from the [1, D] final hidden state."""
        progress = self.progress
        if progress.constrained:
            # Only the action's rows of the head; count_out_of_range reads the others at the end.
            first, end = self.decoding.actions
            token = first + int(torch.argmax(F.linear(hidden, self.head[first:end])))
            self._constrained.append(hidden)
        else:
            token = self._argmax(hidden)[0]
            self.out_of_range += progress.in_action and not progress.is_action(token)
        progress.add(token)
        if self.decoding.on_ids is not None:
            self.decoding.on_ids(progress.ids)
        return token

    def count_out_of_range(self) -> None:
        """Count the constrained tokens that an unconstrained argmax would have replaced."""
        if self._constrained:
            free = self._argmax(torch.cat(self._constrained))
            self.out_of_range += sum(not self.progress.is_action(token) for token in free)

    def _argmax(self, hidden: torch.Tensor) -> list[int]:
        best, tokens = F.linear(hidden, self.head).max(dim=-1)
        # max propagates NaN, so these few numbers stand for whole vectors.
        if not torch.isfinite(best).all():
            raise OutputError(
                f'the model gave {best.tolist()} logits after {len(self.progress.ids)} tokens; '
                'its weights or the dtype are broken (try dtype float32)'
            )
        return tokens.tolist()
