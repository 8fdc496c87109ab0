"""The vision engine in TensorRT 10 and 11, as the stage build_engine of the pipeline built it.

It calls only what both releases have: named tensors and execute_async_v3. TensorRT 11 has no
bindings by index, and only strongly typed networks; the stage builds such a network for both.
Source: python/src/infer/pyCore.cpp of NVIDIA/TensorRT.

G: number of different views of an image, C: 3 channels per tower, S: side of a view, N: patches,
D: width of the language model.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
import time
from typing import Any, TYPE_CHECKING

import torch

from trt_openvla_ros.checkpoints.artifact import VISION_INPUT, VISION_OUTPUT
from trt_openvla_ros.engines.base import Lengths
from trt_openvla_ros.engines.pixels import Normaliser
from trt_openvla_ros.engines.placement import capability_of, current
from trt_openvla_ros.errors import BrokenEngineError, ConfigError, EngineError

if TYPE_CHECKING:
    import numpy as np

    from trt_openvla_ros.checkpoints.artifact import Manifest
    from trt_openvla_ros.checkpoints.released import Checkpoint


class TensorrtVision:
    """A vision engine in TensorRT, which runs on a CUDA stream of its own.

    Attributes:
        device: Device that computes, and holds the embeddings.
        dtype: Type of the embeddings that the engine writes.
        encode_time: Time that the last encode took [s].
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Load the engine of an artifact.

        Args:
            checkpoint: The artifact.
            device: A GPU.
            dtype: Precision of PyTorch's engines, which is ignored: this engine has its own.

        Raises:
            ConfigError: The artifact has no vision engine, or that of another model.
            EngineError: TensorRT is not installed, or cannot load the engine.
        """
        _, path = _engine_of(checkpoint)
        trt = _import()
        self.device = device
        # An engine belongs to the GPU that is current while it is loaded.
        with current(device):
            runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
            self._engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(
                f'TensorRT {trt.__version__} cannot load {path}; its own messages above say why. '
                'If it was built on another kind of GPU or by another TensorRT, run the stage '
                'build_engine here'
            )
        side = checkpoint.towers[0].image_size
        self._input = (1, 3 * len(checkpoint.towers), side, side)
        self._output = (1, checkpoint.image_tokens, checkpoint.llm.hidden_size)
        self._check_tensors(path, trt.TensorLocation.DEVICE)
        types = {trt.DataType.FLOAT: torch.float32, trt.DataType.HALF: torch.float16}
        types[trt.DataType.BF16] = torch.bfloat16
        self._reads = types[self._engine.get_tensor_dtype(VISION_INPUT)]
        self.dtype = types[self._engine.get_tensor_dtype(VISION_OUTPUT)]
        with current(device):
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f'TensorRT has no memory to run {path}; free memory of the GPU, or set '
                'vision_engine to torch'
            )
        self._normalise = Normaliser(checkpoint.preprocessor, device)
        self._stream = torch.cuda.Stream(device)
        self.encode_time = 0.0

    @staticmethod
    def check(checkpoint: Checkpoint, device: torch.device, lengths: Lengths) -> None:
        """Refuse the engine of another TensorRT or another kind of GPU before it is read.

        Raises:
            ConfigError: There is no engine, or it does not fit.
        """
        artifact, path = _engine_of(checkpoint)
        facts = artifact.facts('build_engine')
        built, found = facts['vision'].get('tensorrt'), []
        here = _import().__version__
        if built and built != here:
            found.append(f'built by TensorRT {built}, and {here} is installed')
        capability = capability_of(device)
        made_for = (facts.get('gpu') or {}).get('capability', capability)
        if capability is not None and made_for != capability:
            found.append(f'built for compute capability {made_for}, and this GPU has {capability}')
        if found:
            raise ConfigError(
                f'engine {path} does not fit: {"; ".join(found)}; run the stage build_engine '
                'here, or set vision_engine to torch'
            )

    def encode(self, views: np.ndarray) -> torch.Tensor:
        """Map [G, S, S, 3] uint8 to image embeddings [N, D] on the engine's device.

        The engine writes the embeddings into the returned tensor. A language engine of the same
        dtype takes that tensor as its prompt table. vision.onnx gives float32, so a language
        engine in bfloat16 or float16 casts them once.

        Raises:
            InputError: The views have another shape or dtype.
            BrokenEngineError: TensorRT failed; the engine must be loaded again.
        """
        start = time.perf_counter()
        host = self._normalise.check(views)
        with torch.cuda.stream(self._stream):
            pixels = self._normalise(host.to(self.device)).to(self._reads)
            # A new tensor each time: the caller may keep it, and the caching allocator is fast.
            output = torch.empty(self._output, device=self.device, dtype=self.dtype)
            done = (
                self._context.set_input_shape(VISION_INPUT, self._input)
                and self._context.set_tensor_address(VISION_INPUT, pixels.data_ptr())
                and self._context.set_tensor_address(VISION_OUTPUT, output.data_ptr())
                and self._context.execute_async_v3(self._stream.cuda_stream)
            )
        if not done:
            raise BrokenEngineError(
                'TensorRT refused to run the vision engine; its own messages above say why. '
                'Load the engine again'
            )
        # Wait, because the embeddings are read on another stream.
        self._stream.synchronize()
        self.encode_time = time.perf_counter() - start
        return output[0]

    def _check_tensors(self, path: Path, gpu: Any) -> None:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        shapes = {name: tuple(self._engine.get_tensor_shape(name)) for name in names}
        wanted = {VISION_INPUT: self._input, VISION_OUTPUT: self._output}
        if shapes != wanted:
            raise ConfigError(
                f'{path} has tensors {shapes}, and the model beside it {wanted}; run the stages '
                'save_backbone and build_engine again'
            )
        on_gpu = any(self._engine.get_tensor_location(name) == gpu for name in names)
        if on_gpu and self.device.type != 'cuda':
            raise ConfigError(
                f'device is {self.device}, and {path} computes on a GPU; set device to cuda, or '
                'set vision_engine to torch'
            )


def _import() -> Any:
    try:
        return import_module('tensorrt')
    except (ImportError, OSError) as error:
        raise EngineError(
            f'vision_engine tensorrt needs the Python package tensorrt, and importing it failed: '
            f'{error}; use its container (docker/compose.yaml), or set vision_engine to torch'
        ) from error


def _engine_of(checkpoint: Checkpoint) -> tuple[Manifest, Path]:
    artifact = checkpoint.artifact
    path = artifact.engine('vision') if artifact else None
    if artifact is None or path is None:
        raise ConfigError(
            f'{checkpoint.path} has no vision engine; on the machine that shall run it: '
            'ros2 run trt_openvla_ros build_engine --ros-args --params-file FILE; or set '
            'vision_engine to torch'
        )
    return artifact, path
