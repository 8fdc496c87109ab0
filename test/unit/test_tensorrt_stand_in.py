"""The stand-in of TensorRT's runtime: addresses in, embeddings of the graph out."""

from importlib import import_module
import inspect

import numpy as np
import pytest

from trt_openvla_ros.checkpoints.artifact import (
    VISION_ENGINE,
    VISION_ONNX,
)
from trt_openvla_ros.checkpoints.artifact import (
    VISION_INPUT as INPUT,
)
from trt_openvla_ros.checkpoints.artifact import (
    VISION_OUTPUT as OUTPUT,
)
from trt_openvla_ros.engines.tensorrt_llm.contract import Contract
from trt_openvla_ros.pipeline.onnx_graph import encode_onnx, open_session


@pytest.fixture
def opened(stand_in, engine_artifact):
    artifact = engine_artifact('fused')
    stand_in()
    trt = import_module('tensorrt')
    data = (artifact / VISION_ENGINE).read_bytes()
    return trt, trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(data), artifact


def test_an_engine_computes_its_graph(opened):
    trt, engine, artifact = opened
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    modes = {name: engine.get_tensor_mode(name) for name in names}
    assert modes == {INPUT: trt.TensorIOMode.INPUT, OUTPUT: trt.TensorIOMode.OUTPUT}
    assert {engine.get_tensor_dtype(name) for name in names} == {trt.DataType.FLOAT}
    shape = engine.get_tensor_shape(INPUT)
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    embeddings = np.zeros(engine.get_tensor_shape(OUTPUT), np.float32)
    context = engine.create_execution_context()
    assert context.set_input_shape(INPUT, shape)
    assert context.set_tensor_address(INPUT, pixels.ctypes.data)
    assert context.set_tensor_address(OUTPUT, embeddings.ctypes.data)
    assert context.execute_async_v3(0)
    wanted = encode_onnx(open_session(artifact / VISION_ONNX), pixels[0])
    assert np.array_equal(embeddings[0], wanted)


def test_what_fails_says_so_and_raises_not(opened, capsys):
    trt, engine, _ = opened
    context = engine.create_execution_context()
    assert engine.get_tensor_mode('pixels') == trt.TensorIOMode.NONE
    assert context.set_tensor_address('pixels', 1) is False
    assert context.set_input_shape(INPUT, (1, 3, 8, 8)) is False
    assert context.execute_async_v3(0) is False
    runtime = trt.Runtime(trt.Logger())
    assert runtime.deserialize_cuda_engine(b'something else') is None
    assert runtime.deserialize_cuda_engine(b'{"tensorrt": "11.1.0", "graph": ""}') is None
    errors = capsys.readouterr().err
    for part in ('no tensor pixels', 'shape (1, 3, 8, 8)', 'no address was set for', '11.1.0'):
        assert part in errors
    for wrong in (lambda: context.execute_async_v3(None), lambda: trt.Runtime(None)):
        with pytest.raises(TypeError, match='incompatible function arguments'):
            wrong()


def test_parameters_are_named_as_in_the_contract(stand_in):
    stand_in()
    trt = import_module('tensorrt')
    for name, signature in Contract().tensorrt_functions().items():
        _, owner, function = name.split('.')
        here = inspect.signature(getattr(getattr(trt, owner), function))
        assert list(here.parameters) == list(signature.parameters), name
    for name, members in Contract().data['tensorrt']['attributes'].items():
        for member in members:
            assert hasattr(getattr(trt, name.removeprefix('tensorrt.')), member)
