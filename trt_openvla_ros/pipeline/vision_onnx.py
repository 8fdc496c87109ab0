"""vision.onnx: towers and projector as one graph, which TensorRT compiles and onnxruntime checks.

C: 3 channels per tower, S: image size, N: patches, D: width of the language model.
"""

from __future__ import annotations

from pathlib import Path
import tempfile
from typing import Any
import warnings

import numpy as np
import onnx
from onnx import external_data_helper
import onnxruntime
import torch
from torch import nn

from trt_openvla_ros.checkpoint import Checkpoint
from trt_openvla_ros.engines import free_memory
from trt_openvla_ros.engines.torch_vision import TorchVision
from trt_openvla_ros.errors import ArtifactError
from trt_openvla_ros.layout import VISION_INPUT, VISION_OUTPUT

INPUT, OUTPUT = VISION_INPUT, VISION_OUTPUT
_OPSET = 18  # known to TensorRT 10 and later, and the least that the exporter writes

# Largest accepted distance to the same computation in PyTorch, as a part of the largest value.
# A bfloat16 graph is checked in float32 arithmetic, with the weights that it holds; but its
# constants are rounded as well, such as 1 / sqrt(72) of SigLIP's attention, and PyTorch's are not.
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
    """Write the graph, and compare what onnxruntime computes from it with PyTorch.

    Args:
        checkpoint: Of an OpenVLA model.
        path: Where; the weights go beside it into path + '.data'.
        dtype: Precision inside: 'float32', 'float16' or 'bfloat16'.

    Returns:
        Facts: opset, shapes, and the error that was found.

    Raises:
        ArtifactError: The graph computes something else than PyTorch.
    """
    vision = TorchVision(checkpoint, torch.device('cpu'), getattr(torch, dtype))
    size = vision.towers[0].image_size
    shape = (1, 3 * len(vision.towers), size, size)
    with warnings.catch_warnings(), torch.no_grad():
        # About the exporter's own future, and nothing that we could do.
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            _Encoder(vision).eval(),
            (torch.zeros(shape),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    # The exporter notes where in our sources, with full paths, each node comes from.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    # Outside the graph file: protobuf ends at 2 GB.
    program.save(str(path), external_data=True)
    del program
    free_memory()  # the exporter's graph is in cycles, which hold the weights
    pixels = np.random.default_rng(0).normal(size=shape[1:]).astype(np.float32)
    if dtype == 'bfloat16':
        # What the weights are after rounding, computed in float32 on both sides.
        for module in (*vision.towers, vision.projector):
            module.float()
        vision.dtype = torch.float32
    wanted = vision.encode(pixels).float().numpy()
    del vision
    free_memory()  # before the graph takes as much again
    checked, found = _run(path, pixels, dtype)
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not error <= TOLERANCE[dtype]:  # also where it is not a number
        raise ArtifactError(
            f'{path.name} in {dtype} is {error:.2g} of the largest value away from PyTorch, more '
            f'than {TOLERANCE[dtype]:g}; set save_backbone.onnx_dtype to another'
        )
    return {
        'opset': _OPSET,
        'dtype': dtype,
        'input': {INPUT: list(shape)},
        'output': {OUTPUT: [1, *wanted.shape]},
        'checked_in': checked,
        'relative_error': error,
    }


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Load a float32 or float16 graph into onnxruntime, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, ['CPUExecutionProvider'])


def encode_onnx(session: onnxruntime.InferenceSession, pixel_values: np.ndarray) -> np.ndarray:
    """Map [C, S, S] float32 to [N, D] float32."""
    return session.run([OUTPUT], {INPUT: pixel_values[None]})[0][0]


def write_float32(path: Path, target: Path) -> None:
    """Write a bfloat16 graph with the same nodes and weights in float32, one weight at a time.

    onnxruntime has no bfloat16 on the CPU; so the graph can still be run.
    """
    model = onnx.load(str(path), load_external_data=False)
    bf16, fp32 = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_type == bf16:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    with target.with_name(f'{target.name}.data').open('wb') as file:
        for tensor in model.graph.initializer:
            if not external_data_helper.uses_external_data(tensor):
                widen(tensor)
                continue
            # Beside the model: what was once put into a protobuf stays in memory with it.
            place = external_data_helper.ExternalDataInfo(tensor)
            with (path.parent / place.location).open('rb') as stored:
                stored.seek(place.offset or 0)
                data = stored.read(place.length)
            if tensor.data_type == bf16:
                values = torch.frombuffer(bytearray(data), dtype=torch.bfloat16).float()
                data, tensor.data_type = values.numpy().tobytes(), fp32
            at, size = file.tell(), file.write(data)
            del tensor.external_data[:]
            for key, value in (
                ('location', Path(file.name).name),
                ('offset', at),
                ('length', size),
            ):
                tensor.external_data.add(key=key, value=str(value))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif node.op_type == 'Cast' and attribute.name == 'to' and attribute.i == bf16:
                attribute.i = fp32
    for info in model.graph.value_info:
        if info.type.tensor_type.elem_type == bf16:
            info.type.tensor_type.elem_type = fp32
    onnx.save(model, str(target))


def _run(path: Path, pixels: np.ndarray, dtype: str) -> tuple[str, np.ndarray]:
    """Say how, and give the [N, D] float32 that onnxruntime computes."""
    if dtype != 'bfloat16':
        return f'onnxruntime, {dtype}', encode_onnx(open_session(path), pixels)
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        wide = Path(directory) / path.name
        write_float32(path, wide)
        found = encode_onnx(open_session(wide), pixels)
    return 'onnxruntime, the same graph in float32', found
