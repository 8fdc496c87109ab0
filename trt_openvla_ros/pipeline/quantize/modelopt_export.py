"""Quantisation and export of a Llama for TensorRT-LLM; only this file imports nvidia-modelopt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
import io
import logging
from pathlib import Path
import warnings

import torch
from torch import nn
from tqdm import tqdm

from trt_openvla_ros.checkpoints.json_files import write_json
from trt_openvla_ros.checkpoints.tensor_files import progress, write_tensors
from trt_openvla_ros.checkpoints.trtllm import CONFIG, WEIGHTS
from trt_openvla_ros.errors import EngineError
from trt_openvla_ros.pipeline.quantize.modelopt_releases import (
    make_recipe,
    TESTED,
    without_tensorrt_llm,
)

_log = logging.getLogger(__name__)

_LOUD = ('transformers', 'torch.distributed', 'torch.utils.cpp_extension')


def load_backbone(path: Path, device: torch.device) -> nn.Module:
    """Load LLM_backbone with transformers, in its stored dtype."""
    from transformers import AutoModelForCausalLM

    with _quiet():
        model = AutoModelForCausalLM.from_pretrained(path, torch_dtype='auto')
    return model.to(device).eval()


def export(
    model: nn.Module,
    inputs: Sequence[torch.Tensor],
    directory: Path,
    *,
    qformat: str,
    fp8_cache: bool,
    awq_block_size: int,
    dtype: str,
) -> None:
    """Quantise a model in place and write config.json and rank0.safetensors.

    Args:
        model: Llama of transformers.
        inputs: Input embeddings [1, L, D] to calibrate on.
        directory: Existing directory for the files.
        qformat: Format of the weights: 'fp8', 'int4_awq' or 'int8_sq'.
        fp8_cache: Whether to write scales for keys and values in FP8.
        awq_block_size: Number of weights that share a scale in int4_awq.
        dtype: Precision of the weights that are not quantised.

    Raises:
        EngineError: modelopt is missing, is of an unknown release, or made layers that differ.
    """
    with without_tensorrt_llm(), _quiet():
        try:
            import modelopt.torch.quantization as mtq

            from trt_openvla_ros.pipeline.quantize.layer_export import LayerExport
        except ImportError as error:
            raise EngineError(
                f'quantising needs nvidia-modelopt ({error}); {TESTED}, or set '
                'quantize.qformat to bf16'
            ) from error
        recipe = make_recipe(mtq, qformat, fp8_cache=fp8_cache, awq_block_size=awq_block_size)
        passes = tqdm(desc=f'calibrating {qformat}', unit='pass')

        def forward_loop(quantised: nn.Module) -> None:
            # Some recipes call this function more than once.
            passes.total = (passes.total or 0) + len(inputs)
            for entry in inputs:
                quantised(inputs_embeds=entry)
                passes.update()

        # Not inference_mode, because modelopt changes weights in place afterwards.
        with torch.no_grad(), passes:
            mtq.quantize(model, recipe, forward_loop)
        with torch.inference_mode():
            exported = LayerExport(model, getattr(torch, dtype))
            with progress(exported.pieces, 'export') as bar:
                write_tensors(directory / WEIGHTS, exported.pieces, bar)
    write_json(directory / CONFIG, exported.config)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send the libraries' own messages to the log's debug level."""
    logs = [logging.getLogger(name) for name in _LOUD]
    levels = [log.level for log in logs]
    said = io.StringIO()
    try:
        for log in logs:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(said):
            warnings.simplefilter('ignore')
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        for line in said.getvalue().splitlines():
            _log.debug('%s', line)
