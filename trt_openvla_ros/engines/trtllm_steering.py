"""Decoding inside TensorRT-LLM: a logits processor, in the two forms that its runners call.

V: vocabulary of the policy, P: vocabulary of the engine, padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
import time

import torch

from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.engines.progress import Progress
from trt_openvla_ros.errors import EngineError, OutputError


class Request:
    """What one call of generate asks for, and what was seen of its logits.

    Attributes:
        error: What failed in the processor; None where nothing did.
        first_logits: [V] of the first token, where they were asked for.
        first_token: When the first token was known, on time.perf_counter's clock; None before.
    """

    def __init__(self, prompt: int, vocab: int, decoding: Decoding, keep_logits: bool) -> None:
        """Hold the lengths of prompt and vocabulary, and how to decode."""
        self._prompt, self._vocab, self._decoding = prompt, vocab, decoding
        self._keep_logits = keep_logits
        self._progress = Progress(decoding)
        self._best: list[torch.Tensor] = []  # [1] each: largest logit, where it is
        self._tokens: list[torch.Tensor] = []
        self._in_action: list[bool] = []
        self.error: Exception | None = None
        self.first_logits: torch.Tensor | None = None
        self.first_token: float | None = None

    @property
    def prompt(self) -> int:
        """Length of the prompt, image embeddings included."""
        return self._prompt

    def steer(self, logits: torch.Tensor, written: Sequence[int]) -> None:
        """Change [P] logits in place so that the next token is one that may come.

        Nothing here waits for the GPU: what is counted stays there until the answer is complete.

        Args:
            logits: Of the next token.
            written: The answer so far.
        """
        if written and self.first_token is None:
            self.first_token = time.perf_counter()
        for token in written[len(self._progress.ids) :]:
            self._progress.add(token)
        logits[self._vocab :] = -torch.inf
        known = logits[: self._vocab]
        if self._keep_logits and not written:
            self.first_logits = known.float().clone()
        best, token = known.max(dim=0)
        self._best.append(best)
        self._tokens.append(token)
        self._in_action.append(self._progress.in_action)
        if self._progress.finished:
            # The runners know no other way to stop.
            _only(known, self._decoding.eos_id, self._decoding.eos_id + 1)
        elif self._progress.constrained:
            _only(known, *self._decoding.actions)

    def stop(self, logits: torch.Tensor) -> None:
        """Change [P] logits in place so that the answer ends: nobody will read it."""
        logits.fill_(-torch.inf)
        logits[self._decoding.eos_id] = 0

    def out_of_range(self, count: int) -> int:
        """Count the action ids, of the first `count` ids, that would have been others.

        Raises:
            OutputError: Logits were not finite.
            EngineError: The runner never asked.
        """
        if not self._best:
            raise EngineError(
                'the runner never called its logits processor, so actions are not constrained; '
                'this release of TensorRT-LLM is none that was read: run check_contract'
            )
        best = torch.stack(self._best)[:count]
        if not torch.isfinite(best).all():
            raise OutputError(
                f'the engine gave {best.tolist()} logits; it was built from broken weights, or '
                'its precision is too narrow'
            )
        tokens = torch.stack(self._tokens)[:count].tolist()
        return sum(
            inside and not self._progress.is_action(token)
            for token, inside in zip(tokens, self._in_action, strict=False)
        )


class Steering:
    """The processor of one runner, which runs one request at a time.

    It must not refer to the runner: the runner holds it from C++, where Python's collector does
    not look, and neither would ever be freed.

    Attributes:
        request: What runs; None between two calls.
    """

    def __init__(self) -> None:
        """Wait for a request."""
        self.request: Request | None = None

    def on_executor(
        self,
        req_id: int,
        logits: torch.Tensor,
        ids: list[list[int]],
        stream_ptr: int,
        client_id: int | None,
    ) -> None:
        """Be called by ModelRunnerCpp, in a thread of its executor.

        Args:
            req_id: Of the request; there is only one.
            logits: [1, 1, P], to be changed in place on the stream.
            ids: Prompt and answer so far, of the one beam.
            stream_ptr: The executor's CUDA stream.
            client_id: Of the request.
        """
        if not logits.is_cuda:
            self._steer(logits[0, 0], ids[0])
            return
        with torch.cuda.stream(torch.cuda.ExternalStream(stream_ptr, device=logits.device)):
            self._steer(logits[0, 0], ids[0])

    def __call__(self, step: int, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Be called by ModelRunner, in the caller's thread.

        Args:
            step: Tokens that the answer has.
            input_ids: [1, L] prompt and answer so far, then padding.
            scores: [1, P] logits.

        Returns:
            The logits, changed in place.
        """
        if self.request is not None:
            written = input_ids[0, : self.request.prompt + step]
            self._steer(scores[0], written.tolist())
        return scores

    def _steer(self, logits: torch.Tensor, ids: Sequence[int]) -> None:
        request = self.request
        if request is None:
            return
        if request.error is None:
            try:
                request.steer(logits, ids[request.prompt :])
            except Exception as error:  # noqa: BLE001 - it would unwind into the executor's C++
                request.error = error
        if request.error is not None:
            # Where CUDA failed this fails, too, and the runner will say so.
            with suppress(RuntimeError):
                request.stop(logits)


def _only(logits: torch.Tensor, first: int, end: int) -> None:
    logits[:first] = -torch.inf
    logits[end:] = -torch.inf
