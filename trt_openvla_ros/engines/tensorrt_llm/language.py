"""The language engine in TensorRT-LLM, as the stage build_engine of the pipeline built it.

It works with releases 0.20 to 1.2.1. It takes the C++ runner if there is one, else the Python
runner. It inspects the runner to learn which arguments it accepts, and does not look at versions.
Source of the calls: tensorrt_llm/runtime/model_runner_cpp.py and model_runner.py of
NVIDIA/TensorRT-LLM.

N: image embeddings, D: width, V: vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
import threading
import time
from typing import Any, TYPE_CHECKING

import numpy as np
import torch

from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.engines.base import Decoding, Generation, Lengths
from trt_openvla_ros.engines.placement import capability_of, current
from trt_openvla_ros.engines.progress import Progress
from trt_openvla_ros.engines.tensorrt_llm.config import check_engine, EngineConfig, Machine
from trt_openvla_ros.engines.tensorrt_llm.runner import (
    installed_version,
    open_runner,
    takes_processor_names,
)
from trt_openvla_ros.engines.tensorrt_llm.steering import Request, Steering
from trt_openvla_ros.errors import BrokenEngineError, ConfigError, EngineError, InputError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.artifact import Manifest
    from trt_openvla_ros.checkpoints.released import Checkpoint

_PROCESSOR = 'action'  # the runner's name of our logits processor


class TensorrtLlm:
    """A language engine in TensorRT-LLM. A second call at the same time raises an error.

    Attributes:
        dtype: Precision of the prompt table, and of all that is not quantised.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Load the engine of an artifact.

        Args:
            checkpoint: The artifact.
            device: Device that computes, and holds the image embeddings.
            dtype: Precision of PyTorch's engines, which is ignored: this engine has its own.

        Raises:
            ConfigError: The artifact has no engine.
            EngineError: TensorRT-LLM is not installed, or cannot load the engine.
        """
        self._config = EngineConfig.open(_engine_of(checkpoint)[1])
        self._device, self._vocab = device, checkpoint.llm.vocab_size
        self._steering = Steering()
        self._lock = threading.Lock()
        self._broken = ''
        with current(device):
            self._runner = open_runner(
                self._config, device, {_PROCESSOR: self._steering.on_executor}
            )
            self.dtype, self._first_virtual = self._runner.dtype, self._runner.vocab_size
        self._in_cpp = takes_processor_names(self._runner)

    @staticmethod
    def check(checkpoint: Checkpoint, device: torch.device, lengths: Lengths) -> None:
        """Check that the engine fits the artifact, this machine and the requests.

        Raises:
            ConfigError: There is no engine, or it does not fit; the message lists all faults.
        """
        artifact, path = _engine_of(checkpoint)
        config = EngineConfig.open(path)
        gpu = artifact.facts('build_engine').get('gpu') or {}
        check_engine(
            config,
            TrtllmCheckpoint.open(artifact.trtllm_checkpoint, expected=checkpoint.llm),
            checkpoint.image_tokens,
            lengths,
            Machine(config.version, gpu.get('capability')),
            Machine(installed_version(), capability_of(device)),
        )

    def generate(
        self, ids: Sequence[int], embeddings: torch.Tensor, decoding: Decoding
    ) -> Generation:
        """Continue <s>, the [N, D] image embeddings, and the rest of ids, greedily.

        Raises:
            InputError: The prompt leaves no room in the engine.
            OutputError: Logits are not finite.
            BrokenEngineError: TensorRT-LLM failed; the engine must be loaded again.
            EngineError: The engine is computing already.
        """
        answer, request, start, end = self._run(ids, embeddings, decoding)
        known = request.first_token or end
        return Generation(answer, request.out_of_range(len(answer)), known - start, end - known)

    def first_logits(self, ids: Sequence[int], embeddings: torch.Tensor) -> np.ndarray:
        """Give the [V] float32 logits of the first generated token.

        The logits processor keeps them, so the engine need not be built to gather logits.

        Raises:
            EngineError: The runner did not call the logits processor, or failed.
        """
        decoding = Decoding(max_new_tokens=1, eos_id=0)
        _, request, _, _ = self._run(ids, embeddings, decoding, keep_logits=True)
        if request.first_logits is None:
            raise EngineError('the runner never called its logits processor: run check_contract')
        return request.first_logits.cpu().numpy()

    def close(self) -> None:
        """End the executor's threads while MPI and CUDA, which they use, still run."""
        # Some commits between two releases call it executor; the Python runner has none.
        for name in ('session', 'executor'):
            executor = getattr(self._runner, name, None)
            if hasattr(executor, 'shutdown'):
                # A broken executor may fail to shut down; the caller must go on all the same.
                with suppress(RuntimeError):
                    executor.shutdown()
        self._broken = 'the engine is closed; load it again'

    def _run(
        self,
        ids: Sequence[int],
        embeddings: torch.Tensor,
        decoding: Decoding,
        keep_logits: bool = False,
    ) -> tuple[list[int], Request, float, float]:
        """Give the answer, its request with the logits, and the times of its start and end [s]."""
        if self._broken:
            raise BrokenEngineError(self._broken)
        # The runner takes any answer that comes: two calls would mix up their answers.
        if not self._lock.acquire(blocking=False):
            raise EngineError('the engine is computing; it takes one call at a time')
        try:
            start = time.perf_counter()
            length = len(ids) + len(embeddings)
            names = ('max_input_len', 'max_num_tokens', 'max_seq_len')
            limits = [self._config.limit(name) for name in names]
            room = min(decoding.max_new_tokens, limits[2] - length)
            # The runner takes a prompt in one pass, not in chunks.
            if length > min(limits[:2]) or room < 1:
                raise InputError(
                    f'the prompt has {length} positions, and the engine takes {min(limits[:2])} '
                    f'and {limits[2]} with the answer; shorten the instruction, or build the '
                    'engine with a larger --max_input_len, --max_num_tokens and --max_seq_len'
                )
            request = Request(length, self._vocab, decoding, keep_logits)
            self._steering.request = request
            # The runner moves its arguments to the GPU that is current in this thread.
            with current(self._device):
                arguments = self._arguments(ids, embeddings, decoding, room)
                answer = self._answer(arguments, length, decoding.on_ids)
            if request.error is not None:
                raise request.error
            return _complete(answer, decoding, room), request, start, time.perf_counter()
        finally:
            self._steering.request = None
            self._lock.release()

    def _arguments(
        self, ids: Sequence[int], embeddings: torch.Tensor, decoding: Decoding, room: int
    ) -> dict[str, Any]:
        """Give the arguments of the runner's generate.

        Args:
            ids: Token ids of the prompt, <s> first.
            embeddings: [N, D] image embeddings; they are cast once if their dtype is not that of
                this engine.
            decoding: Rules for generating.
            room: Most tokens of the answer.
        """
        table = embeddings.to(self._device, self.dtype).contiguous()
        if table.is_cuda:
            # The executor reads the table on its own stream, and does not wait for ours.
            torch.cuda.current_stream(table.device).synchronize()
        virtual = range(self._first_virtual, self._first_virtual + len(table))
        arguments: dict[str, Any] = {
            'batch_input_ids': [torch.tensor([ids[0], *virtual, *ids[1:]], dtype=torch.int32)],
            'max_new_tokens': room,
            'end_id': decoding.eos_id,
            'pad_id': decoding.eos_id,
            'num_beams': 1,
            'top_k': 1,
            # The C++ runner takes table[task]: without the first axis it would take one row only.
            'prompt_table': table[None],
            'prompt_tasks': '0',
            'return_dict': True,
            'output_sequence_lengths': True,
        }
        if self._in_cpp:
            arguments['logits_processor_names'] = [_PROCESSOR]
        else:
            arguments['logits_processor'] = self._steering
        return arguments

    def _answer(
        self,
        arguments: Mapping[str, Any],
        length: int,
        on_ids: Callable[[Sequence[int]], None] | None,
    ) -> list[int]:
        # If it gathers context logits, the C++ runner fails on every chunk but the first.
        streams = on_ids is not None and not self._runner.gather_context_logits
        answer: list[int] = []
        outputs = self._outputs(arguments, streams)
        try:
            for output in outputs:
                # The output holds prompt, answer and padding. Padding looks like an end of
                # sequence, so only the length tells where the answer ends.
                written = int(output['sequence_lengths'][0, 0])
                answer = output['output_ids'][0, 0, length:written].tolist()
                if on_ids is not None:
                    on_ids(answer)
        finally:
            # The rest of an unread answer would be mixed into the next one.
            for _ in outputs:
                pass
        return answer

    def _outputs(self, arguments: Mapping[str, Any], streams: bool) -> Iterator[Any]:
        try:
            given = self._runner.generate(**arguments, streaming=streams)
            if streams:
                yield from given
            else:
                yield given
        except (RuntimeError, AssertionError, ValueError) as error:
            self._broken = f'TensorRT-LLM failed: {error}; load the engine again'
            raise BrokenEngineError(self._broken) from error


def _engine_of(checkpoint: Checkpoint) -> tuple[Manifest, Path]:
    artifact = checkpoint.artifact
    path = artifact.engine('language') if artifact else None
    quantised = artifact.trtllm_checkpoint if artifact else None
    if artifact is None or path is None or quantised is None:
        command = 'build_engine' if quantised else 'pipeline'
        raise ConfigError(
            f'{checkpoint.path} has no TensorRT-LLM engine; on the machine that shall run it: '
            f'ros2 run trt_openvla_ros {command} --ros-args --params-file FILE, and set '
            'checkpoint to the artifact that it writes'
        )
    return artifact, path


def _complete(answer: list[int], decoding: Decoding, room: int) -> list[int]:
    """Give the answer as the torch engine would.

    It ends with its action or with the end of sequence. The runners leave the latter out.
    """
    progress = Progress(decoding)
    for token in answer:
        if progress.finished:
            break
        progress.add(token)
    if not progress.finished and len(progress.ids) < room:
        progress.add(decoding.eos_id)
    return progress.ids
