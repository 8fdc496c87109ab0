"""vision.onnx: towers and projector as one graph, which TensorRT compiles.

C: 3 channels per tower, S: image size, N: patches, D: width of the language model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
import warnings

import numpy as np
import torch
from torch import nn

from trt_openvla_ros.checkpoints.artifact import VISION_INPUT, VISION_OUTPUT
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.memory import free_memory
from trt_openvla_ros.engines.torch.vision import TorchVision
from trt_openvla_ros.errors import ArtifactError
from trt_openvla_ros.pipeline.onnx_graph import encode_onnx, open_session

_OPSET = 18  # TensorRT 10 and later read it, and the exporter writes no lower one

# Largest accepted distance to the same computation in PyTorch, relative to the largest value.
# A bfloat16 graph is checked in float32 arithmetic with the weights that it holds. Its constants,
# such as 1 / sqrt(72) of SigLIP's attention, are rounded as well; those of PyTorch are not.
TOLERANCE = {'float32': 1e-4, 'float16': 2e-2, 'bfloat16': 1e-2}


class _Encoder(nn.Module):
    """pixel_values [1, C, S, S] float32 to image_embeddings [1, N, D] float32."""

    def __init__(self, vision: TorchVision) -> None:
        super().__init__()
        self.towers = nn.ModuleList(vision.towers)
        self.projector = vision.projector
        self.dtype = vision.dtype

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        pixels = pixel_values.to(self.dtype).split(3, dim=1)
        features = [tower(part) for tower, part in zip(self.towers, pixels, strict=True)]
        return self.projector(torch.cat(features, dim=2)).float()


def export_vision(checkpoint: Checkpoint, path: Path, dtype: str) -> dict[str, Any]:
    """Write the graph, and compare onnxruntime's embeddings of an image with PyTorch's.

    Args:
        checkpoint: Checkpoint of the model.
        path: File of the graph; its weights are written beside it, into path + '.data'.
        dtype: Precision inside the graph: 'float32', 'float16' or 'bfloat16'.

    Returns:
        Facts: opset, shapes and relative error.

    Raises:
        ArtifactError: The embeddings of the graph are too far from those of PyTorch.
    """
    vision = TorchVision(checkpoint, torch.device('cpu'), getattr(torch, dtype))
    size = vision.towers[0].image_size
    shape = (1, 3 * len(vision.towers), size, size)
    _write(vision, path, shape)
    free_memory()  # the exporter's graph has reference cycles, which hold the weights
    views = np.random.default_rng(0).integers(0, 256, vision.normalise.shape, np.uint8)
    pixels = vision.normalise(torch.from_numpy(views))[0].numpy()
    checked_in = f'onnxruntime, {dtype}'
    if dtype == 'bfloat16':
        # Both sides compute the rounded weights in float32.
        checked_in = 'onnxruntime, the same graph in float32'
        for module in (*vision.towers, vision.projector):
            module.float()
        vision.dtype = torch.float32
    wanted = vision.encode(views).float().numpy()
    del vision
    free_memory()  # before the graph takes the same amount again
    found = encode_onnx(open_session(path, scratch=path.parent), pixels)
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not error <= TOLERANCE[dtype]:  # written so that it refuses NaN as well
        raise ArtifactError(
            f'{path.name} in {dtype} is {error:.2g} of the largest value away from PyTorch, more '
            f'than {TOLERANCE[dtype]:g}; set save_backbone.onnx_dtype to another precision'
        )
    return {
        'opset': _OPSET,
        'dtype': dtype,
        'input': {VISION_INPUT: list(shape)},
        'output': {VISION_OUTPUT: [1, *wanted.shape]},
        'checked_in': checked_in,
        'relative_error': error,
    }


def _write(vision: TorchVision, path: Path, shape: tuple[int, ...]) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns about its own future, and we can do nothing about that.
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            _Encoder(vision).eval(),
            (torch.zeros(shape),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=[VISION_INPUT],
            output_names=[VISION_OUTPUT],
            verbose=False,
        )
    # The exporter records the full path and line of our source in each node.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    # The weights go outside the graph file, because protobuf is limited to 2 GB.
    program.save(str(path), external_data=True)
