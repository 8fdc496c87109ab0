"""The build of the vision engine from the ONNX graph, by TensorRT's Python API."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from trt_openvla_ros.errors import EngineError


def build_vision_engine(
    onnx: Path, engine: Path, workspace: int, precision: str = 'one precision'
) -> dict[str, Any]:
    """Build an engine for the GPU of this machine.

    The network is strongly typed: the graph sets all precisions, and TensorRT chooses none.
    (TensorRT 11 builds only such networks; 10 builds others too.)

    Args:
        onnx: File of the graph. External weights, if it has any, must lie beside it.
        engine: File to write.
        workspace: GPU memory that a kernel may use as scratch space [byte].
        precision: Precision inside the graph, for messages.

    Returns:
        Facts for the manifest: the version of TensorRT, and the size of the engine [byte].

    Raises:
        EngineError: TensorRT refuses the graph, or finds no kernels.
    """
    trt = import_module('tensorrt')
    release = f'TensorRT {trt.__version__}'
    other = 'float16 or float32' if precision == 'bfloat16' else 'another'
    way_out = (
        f'the graph is in {precision}, which TensorRT may not change: if it has no kernel for it, '
        f'set save_backbone.onnx_dtype to {other}, and run save_backbone and build_engine again'
    )
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    # Parse the file, not its bytes: the parser looks for external weights beside the file.
    if not parser.parse_from_file(str(onnx)):
        errors = '; '.join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f'{release} cannot read {onnx}: {errors}; {way_out}')
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise EngineError(
            f'{release} built no engine from {onnx}; its own messages above say why. Often there '
            f'is less GPU memory than build_engine.vision_workspace_gb. Or {way_out}'
        )
    engine.write_bytes(serialised)
    return {'tensorrt': trt.__version__, 'bytes': engine.stat().st_size}
