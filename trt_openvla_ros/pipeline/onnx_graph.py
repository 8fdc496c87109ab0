"""Functions that run vision.onnx by onnxruntime.

C: 3 channels per tower, S: image size, N: patches, D: width of the language model.
"""

from __future__ import annotations

from pathlib import Path
import tempfile

import numpy as np
import onnx
from onnx import external_data_helper
import onnxruntime
import torch

from trt_openvla_ros.checkpoints.artifact import VISION_INPUT, VISION_OUTPUT

_BF16, _FP32 = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT


def open_session(path: Path, scratch: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a graph into onnxruntime, on the CPU.

    onnxruntime has no bfloat16 on the CPU: it computes a graph in bfloat16 in float32, with the
    same nodes and weights.

    Args:
        path: File of the graph, with its weights beside it.
        scratch: Directory for the float32 copy, which is deleted again; None means the system's
            directory for temporary files.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    if _BF16 not in {tensor.data_type for tensor in graph.initializer}:
        return _session(path)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        wide = Path(directory) / path.name
        write_float32(path, wide)
        return _session(wide)


def encode_onnx(session: onnxruntime.InferenceSession, pixel_values: np.ndarray) -> np.ndarray:
    """Map [C, S, S] float32 to [N, D] float32."""
    return session.run([VISION_OUTPUT], {VISION_INPUT: pixel_values[None]})[0][0]


def write_float32(path: Path, target: Path) -> None:
    """Write a bfloat16 graph in float32, one weight at a time."""
    model = onnx.load(str(path), load_external_data=False)
    with target.with_name(f'{target.name}.data').open('wb') as file:
        for tensor in model.graph.initializer:
            if not external_data_helper.uses_external_data(tensor):
                _widen(tensor)
                continue
            # Weights are copied outside the model: protobuf never frees memory that it took.
            place = external_data_helper.ExternalDataInfo(tensor)
            with (path.parent / place.location).open('rb') as stored:
                stored.seek(place.offset or 0)
                data = stored.read(place.length)
            if tensor.data_type == _BF16:
                values = torch.frombuffer(bytearray(data), dtype=torch.bfloat16).float()
                data, tensor.data_type = values.numpy().tobytes(), _FP32
            at, size = file.tell(), file.write(data)
            del tensor.external_data[:]
            entries = {'location': Path(file.name).name, 'offset': at, 'length': size}
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=str(value))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _widen(attribute.t)
            elif node.op_type == 'Cast' and attribute.name == 'to' and attribute.i == _BF16:
                attribute.i = _FP32
    for info in model.graph.value_info:
        if info.type.tensor_type.elem_type == _BF16:
            info.type.tensor_type.elem_type = _FP32
    onnx.save(model, str(target))


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, ['CPUExecutionProvider'])


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _BF16:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
