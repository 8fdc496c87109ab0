"""The logits processor that steers decoding in TensorRT-LLM, in the forms that its runners call.

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
    """One call of generate, with the logits that the processor saw.

    Attributes:
        error: Error that the processor raised; None if there was none.
        first_logits: [V] float32 logits of the first token; None if nobody asked for them.
        first_token: Time of the first token on the clock of time.perf_counter; None before.
    """

    def __init__(self, prompt: int, vocab: int, decoding: Decoding, keep_logits: bool) -> None:
        """Hold the arguments: prompt and vocab are lengths."""
        self._prompt, self._vocab, self._decoding = prompt, vocab, decoding
        self._keep_logits = keep_logits
        self._progress = Progress(decoding)
        self._best: list[torch.Tensor] = []  # largest logit of each step, and its token
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
        """Change [P] logits in place so that the next token is an allowed one.

        Nothing here waits for the GPU: the largest logits stay on it until the answer is complete.

        Args:
            logits: Logits of the next token.
            written: Token ids of the answer so far.
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
            # The runners cannot be stopped in another way.
            _only(known, self._decoding.eos_id, self._decoding.eos_id + 1)
        elif self._progress.constrained:
            _only(known, *self._decoding.actions)

    def stop(self, logits: torch.Tensor) -> None:
        """Change [P] logits in place so that the answer ends; nobody will read it."""
        logits.fill_(-torch.inf)
        logits[self._decoding.eos_id] = 0

    def out_of_range(self, count: int) -> int:
        """Count the action ids, of the first `count` ids, whose free argmax was no action id.

        Raises:
            OutputError: Logits were not finite.
            EngineError: The runner never called the processor.
        """
        if not self._best:
            raise EngineError(
                'the runner never called its logits processor, so actions are not constrained; '
                'this package does not know this release of TensorRT-LLM: run check_contract'
            )
        best = torch.stack(self._best)[:count]
        if not torch.isfinite(best).all():
            raise OutputError(
                f'the engine gave {best.tolist()} logits; it was built from broken weights, or '
                'its precision is too low'
            )
        tokens = torch.stack(self._tokens)[:count].tolist()
        return sum(
            inside and not self._progress.is_action(token)
            for token, inside in zip(tokens, self._in_action, strict=False)
        )


class Steering:
    """The logits processor of one runner, for one request at a time.

    It must not refer to the runner. The runner holds it in C++, where Python's collector does not
    look, so neither would ever be freed.

    Attributes:
        request: The running request; None between two calls.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self.request: Request | None = None

    def on_executor(
        self,
        req_id: int,
        logits: torch.Tensor,
        ids: list[list[int]],
        stream_ptr: int,
        client_id: int | None,
    ) -> None:
        """Steer a request of ModelRunnerCpp, which calls this in a thread of its executor.

        Args:
            req_id: Number of the request; there is only one.
            logits: [1, 1, P] logits, which are changed in place on the stream.
            ids: Token ids of prompt and answer so far, for the only beam.
            stream_ptr: The executor's CUDA stream.
            client_id: The client's number of the request.
        """
        if not logits.is_cuda:
            self._steer(logits[0, 0], ids[0])
            return
        with torch.cuda.stream(torch.cuda.ExternalStream(stream_ptr, device=logits.device)):
            self._steer(logits[0, 0], ids[0])

    def __call__(self, step: int, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Steer a request of ModelRunner, which calls this in the caller's thread.

        Args:
            step: Number of tokens of the answer so far.
            input_ids: [1, L] token ids of prompt and answer so far, then padding.
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
            except Exception as error:  # noqa: BLE001 - it must not reach the executor's C++
                request.error = error
        if request.error is not None:
            # If CUDA failed, this fails too, and the runner reports it.
            with suppress(RuntimeError):
                request.stop(logits)


def _only(logits: torch.Tensor, first: int, end: int) -> None:
    logits[:first] = -torch.inf
    logits[end:] = -torch.inf
