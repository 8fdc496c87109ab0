"""vision.onnx as a vision engine on the CPU: what a TensorRT engine is built from, run."""

from __future__ import annotations

from pathlib import Path
import tempfile

import numpy as np
import onnx
import torch

from trt_openvla_ros.pipeline.vision_onnx import encode_onnx, open_session, write_float32


class OnnxVision:
    """Vision engine by onnxruntime; a bfloat16 graph is computed in float32.

    Attributes:
        device: Where embeddings are put.
        dtype: Their type.
    """

    def __init__(self, path: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Load a graph that export_vision wrote."""
        self.device, self.dtype = device, dtype
        graph = onnx.load(str(path), load_external_data=False).graph
        kinds = {tensor.data_type for tensor in graph.initializer}
        if onnx.TensorProto.BFLOAT16 not in kinds:
            self._session = open_session(path)
            return
        with tempfile.TemporaryDirectory() as directory:
            wide = Path(directory) / path.name
            write_float32(path, wide)
            self._session = open_session(wide)

    def encode(self, pixel_values: np.ndarray) -> torch.Tensor:
        """Map [C, S, S] float32 to [N, D] embeddings."""
        embeddings = torch.from_numpy(encode_onnx(self._session, pixel_values))
        return embeddings.to(self.device, self.dtype)
