"""The vision engine, built by TensorRT's Python API from the ONNX graph."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from trt_openvla_ros.errors import EngineError


def build_vision_engine(onnx: Path, engine: Path, workspace: int) -> dict[str, Any]:
    """Build an engine for the GPU of this machine.

    The network is strongly typed: precisions are those of the graph, and TensorRT chooses none.
    (TensorRT 11 builds no other network, and 10 builds both.)

    Args:
        onnx: The graph, with external weights beside it if it has any.
        engine: The file to write.
        workspace: Bytes of GPU memory that a kernel may use for itself.

    Returns:
        Facts: the version of TensorRT, and the engine's size [byte].

    Raises:
        EngineError: TensorRT refuses the graph, or finds no kernels.
    """
    trt = import_module('tensorrt')
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    # From the file, not from bytes: external weights are looked for beside it.
    if not parser.parse_from_file(str(onnx)):
        errors = '; '.join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f'TensorRT {trt.__version__} cannot read {onnx}: {errors}')
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise EngineError(
            f'TensorRT {trt.__version__} built no engine from {onnx}; its own messages above say '
            'why (often: less GPU memory than build_engine.vision_workspace_gb)'
        )
    engine.write_bytes(serialised)
    return {'tensorrt': trt.__version__, 'bytes': engine.stat().st_size}
