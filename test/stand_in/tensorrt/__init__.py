"""Stands in for TensorRT's Python package, with no more of it than 10 and 11 share.

An engine of it names an ONNX graph, and running it means running that by onnxruntime. Whether
TensorRT likes the graph it cannot say. Addresses are of memory that the CPU reads, and every
stream is done at once. Source: python/src/infer of NVIDIA/TensorRT at v10.14 and v11.1.
"""

from tensorrt.building import (
    Builder,
    IBuilderConfig,
    Logger,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    OnnxParser,
)
from tensorrt.running import (
    DataType,
    ICudaEngine,
    IExecutionContext,
    Runtime,
    TensorIOMode,
    TensorLocation,
)
from tensorrt.version import __version__

__all__ = [
    'Builder',
    'DataType',
    'IBuilderConfig',
    'ICudaEngine',
    'IExecutionContext',
    'Logger',
    'MemoryPoolType',
    'NetworkDefinitionCreationFlag',
    'OnnxParser',
    'Runtime',
    'TensorIOMode',
    'TensorLocation',
    '__version__',
]
