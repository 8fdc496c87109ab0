"""A vision engine that runs vision.onnx, the graph of the TensorRT engine, on the CPU."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from trt_openvla_ros.checkpoints.artifact import VISION_ONNX
from trt_openvla_ros.engines.pixels import Normaliser
from trt_openvla_ros.pipeline.onnx_graph import encode_onnx, open_session

if TYPE_CHECKING:
    import numpy as np

    from trt_openvla_ros.checkpoints.released import Checkpoint


class OnnxVision:
    """A vision engine by onnxruntime; a bfloat16 graph is computed in float32.

    Attributes:
        device: Device of the embeddings.
        dtype: Precision of the embeddings.
        encode_time: Time that the last encode took [s].
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Load the graph of an artifact."""
        self.device, self.dtype = device, dtype
        self.encode_time = 0.0
        self._normalise = Normaliser(checkpoint.preprocessor, torch.device('cpu'))
        self._session = open_session(checkpoint.path / VISION_ONNX)

    def encode(self, views: np.ndarray) -> torch.Tensor:
        """Map [G, S, S, 3] uint8 to [N, D] embeddings."""
        start = time.perf_counter()
        pixels = self._normalise(self._normalise.check(views))[0].numpy()
        embeddings = torch.from_numpy(encode_onnx(self._session, pixels))
        self.encode_time = time.perf_counter() - start
        return embeddings.to(self.device, self.dtype)
