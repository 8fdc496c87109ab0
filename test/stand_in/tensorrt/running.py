"""What a user of engines uses. As in TensorRT, what fails gives False or None, and raises not."""

import ctypes
from enum import Enum
import json
from pathlib import Path
import sys

import numpy as np
import torch

from tensorrt.building import Logger
from tensorrt.version import __version__
from trt_openvla_ros.checkpoints.artifact import VISION_INPUT as INPUT
from trt_openvla_ros.checkpoints.artifact import VISION_OUTPUT as OUTPUT
from trt_openvla_ros.pipeline.onnx_graph import encode_onnx, open_session

TensorIOMode = Enum('TensorIOMode', ['NONE', 'INPUT', 'OUTPUT'], start=0)
TensorLocation = Enum('TensorLocation', ['DEVICE', 'HOST'], start=0)
DataType = Enum(
    'DataType',
    ['FLOAT', 'HALF', 'BF16', 'INT8', 'INT32', 'INT64', 'BOOL', 'UINT8', 'FP8'],
    start=0,
)


class Stream:
    """What torch.cuda.Stream is on a machine with CUDA: here all is done at once."""

    cuda_stream = 0

    def __init__(self, device=None):
        pass

    def synchronize(self):
        pass


if not torch.cuda.is_available():
    torch.cuda.Stream = Stream


class Runtime:
    def __init__(self, logger):
        _check(logger, Logger)

    def deserialize_cuda_engine(self, serialized_engine):
        try:
            stub = json.loads(bytes(serialized_engine))
        except ValueError:
            return _fail(None, 'the bytes are of no engine')
        if stub['tensorrt'] != __version__:
            return _fail(None, f'the engine is of TensorRT {stub["tensorrt"]}')
        return ICudaEngine(Path(stub['graph']))


class ICudaEngine:
    num_io_tensors = 2

    def __init__(self, graph):
        import onnx

        model = onnx.load(str(graph), load_external_data=False).graph
        self.shapes = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in (*model.input, *model.output)
        }
        self.session = open_session(graph)

    def get_tensor_name(self, index):
        _check(index, int)
        return list(self.shapes)[index]

    def get_tensor_mode(self, name):
        _check(name, str)
        modes = {INPUT: TensorIOMode.INPUT, OUTPUT: TensorIOMode.OUTPUT}
        return modes.get(name, TensorIOMode.NONE)

    def get_tensor_shape(self, name):
        _check(name, str)
        return self.shapes.get(name, ())

    def get_tensor_dtype(self, name):
        _check(name, str)
        return DataType.FLOAT

    def get_tensor_location(self, name):
        _check(name, str)
        return TensorLocation.HOST  # TensorRT's own are on the GPU

    def create_execution_context(self, strategy=0):
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine):
        self.engine = engine
        self.addresses = {}

    def set_input_shape(self, name, shape):
        _check(name, str)
        if name != INPUT or tuple(shape) != self.engine.shapes[INPUT]:
            return _fail(False, f'{name} cannot have shape {tuple(shape)}')
        return True

    def get_tensor_shape(self, name):
        return self.engine.get_tensor_shape(name)

    def set_tensor_address(self, name, memory):
        _check(name, str)
        _check(memory, int)
        if name not in self.engine.shapes:
            return _fail(False, f'there is no tensor {name}')
        self.addresses[name] = memory
        return True

    def get_tensor_address(self, name):
        _check(name, str)
        return self.addresses.get(name, 0)

    def execute_async_v3(self, stream_handle):
        _check(stream_handle, int)
        missing = [name for name in self.engine.shapes if not self.addresses.get(name)]
        if missing:
            return _fail(False, f'no address was set for {", ".join(missing)}')
        pixels = self._memory(INPUT)
        self._memory(OUTPUT)[...] = encode_onnx(self.engine.session, pixels[0].copy())[None]
        return True

    def _memory(self, name):
        shape = self.engine.shapes[name]
        kind = ctypes.c_float * int(np.prod(shape))
        return np.ctypeslib.as_array(kind.from_address(self.addresses[name])).reshape(shape)


def _check(value, kind):
    # pybind takes no bool for int, and no tensor for an address.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f'incompatible function arguments: {value!r} is no {kind.__name__}')


def _fail(answer, message):
    print(f'[TRT] [E] {message}', file=sys.stderr)
    return answer
