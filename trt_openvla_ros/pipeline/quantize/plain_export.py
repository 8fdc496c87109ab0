"""Export of a TensorRT-LLM checkpoint without quantisation: the same numbers, under other names.

Format: docs/source/legacy/architecture/checkpoint.md of NVIDIA/TensorRT-LLM.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from trt_openvla_ros.checkpoints.llama import EMBEDDING_WEIGHT, HEAD_WEIGHT, trtllm_names
from trt_openvla_ros.checkpoints.llama_config import LlamaConfig
from trt_openvla_ros.checkpoints.tensor_files import (
    DTYPES,
    joined,
    Piece,
    progress,
    write_tensors,
)


def write_plain(path: Path, stored: dict[str, Piece], llm: LlamaConfig, dtype: str) -> None:
    """Write rank0.safetensors, piece by piece.

    Args:
        path: File to write.
        stored: Tensors of the language model, by their names in transformers.
        llm: Shape of the language model.
        dtype: Precision of the file, 'bfloat16' or 'float16'; other tensors are converted.
    """
    if HEAD_WEIGHT not in stored:  # the head is tied to the embedding, which is written twice
        stored = {**stored, HEAD_WEIGHT: stored[EMBEDDING_WEIGHT]}
    pieces = {
        name: joined([_converted(stored[part], dtype) for part in parts])
        for name, parts in trtllm_names(llm.num_layers).items()
    }
    with progress(pieces, 'quantize') as bar:
        write_tensors(path, pieces, bar)


def _converted(piece: Piece, dtype: str) -> Piece:
    if DTYPES[piece.dtype] == dtype:
        return piece
    source, target = getattr(torch, DTYPES[piece.dtype]), getattr(torch, dtype)

    def read() -> Iterator[bytes]:
        # A part has whole elements, because its length is a power of two.
        for part in piece.read():
            values = torch.frombuffer(bytearray(part), dtype=source).to(target)
            yield values.view(torch.uint8).numpy().tobytes()

    name = next(name for name, value in DTYPES.items() if value == dtype)
    return Piece(name, piece.shape, read)
