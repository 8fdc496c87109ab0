"""A vision engine that runs vision.onnx, the graph of the TensorRT engine, on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from trt_openvla_ros.checkpoints.artifact import VISION_ONNX
from trt_openvla_ros.pipeline.onnx_graph import encode_onnx, open_session

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.released import Checkpoint


class OnnxVision:
    """A vision engine by onnxruntime; a bfloat16 graph is computed in float32.

    Attributes:
        device: Device of the embeddings.
        dtype: Precision of the embeddings.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Load the graph of an artifact."""
        self.device, self.dtype = device, dtype
        self._session = open_session(checkpoint.path / VISION_ONNX)

    def encode(self, pixel_values: np.ndarray) -> torch.Tensor:
        """Map [C, S, S] float32 to [N, D] embeddings."""
        embeddings = torch.from_numpy(encode_onnx(self._session, pixel_values))
        return embeddings.to(self.device, self.dtype)
