"""Stage build_engine: TensorRT-LLM checkpoint and ONNX to engines for the GPU of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.errors import EngineError

if TYPE_CHECKING:
    from trt_openvla_ros.pipeline.artifact import Artifact
    from trt_openvla_ros.pipeline.configuration import Config


@dataclass(frozen=True)
class Settings:
    """What build_engine can be told."""


def run(config: Config, artifact: Artifact) -> dict[str, Any]:
    """Build the engines."""
    raise EngineError('TensorRT-LLM is not installed')
