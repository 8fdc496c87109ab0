"""What verify compares with the original: every engine of an artifact that runs here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.checkpoint import Checkpoint
from trt_openvla_ros.errors import ArtifactError
from trt_openvla_ros.layout import (
    built_engine,
    LANGUAGE_ENGINE,
    TRTLLM_CHECKPOINT,
    VISION_ENGINE,
    VISION_ONNX,
)

if TYPE_CHECKING:
    from trt_openvla_ros.engines.base import Lengths
    from trt_openvla_ros.pipeline.comparison import Engines

# What was built, what it is called, and what runs it.
_ENGINES = {
    'language': (LANGUAGE_ENGINE, 'tensorrt_llm'),
    'vision': (VISION_ENGINE, 'tensorrt'),
}


def candidates(artifact: Path, original: Checkpoint, place: tuple[Any, Any]) -> dict[str, Engines]:
    """Give what can be run here, by name.

    Args:
        artifact: Its directory.
        original: The checkpoint that it was made from.
        place: Device and dtype of what PyTorch computes.

    Raises:
        ArtifactError: There is nothing to compare.
    """
    from trt_openvla_ros.engines.tensorrt import TensorrtVision
    from trt_openvla_ros.engines.tensorrt_llm import TensorrtLlm
    from trt_openvla_ros.engines.torch_language import TorchLanguage
    from trt_openvla_ros.engines.torch_vision import TorchVision
    from trt_openvla_ros.engines.trtllm_checkpoint import TrtllmCheckpoint
    from trt_openvla_ros.pipeline.onnx_vision import OnnxVision

    split = Checkpoint.open(artifact)
    found: dict[str, Engines] = {}
    if (artifact / TRTLLM_CHECKPOINT).is_dir():
        stored = TrtllmCheckpoint.open(artifact / TRTLLM_CHECKPOINT, expected=split.llm)
        found['torch on trtllm_checkpoint'] = lambda _: (
            TorchVision(split, *place),
            TorchLanguage(stored, *place),
        )
    if (artifact / VISION_ONNX).is_file():
        found['onnx vision'] = lambda _: (
            OnnxVision(artifact / VISION_ONNX, *place),
            TorchLanguage(original, *place),
        )
    # The other half is torch's, so that a difference is the engine's own.
    if not _why_not(artifact, 'language'):
        found['tensorrt_llm'] = lambda lengths: (
            TorchVision(split, *place),
            _opened(TensorrtLlm, split, place, lengths),
        )
    if not _why_not(artifact, 'vision'):
        found['tensorrt vision'] = lambda lengths: (
            _opened(TensorrtVision, split, place, lengths),
            TorchLanguage(original, *place),
        )
    if not found:
        raise ArtifactError(
            f'{artifact} has no {TRTLLM_CHECKPOINT} and no {VISION_ONNX}: nothing to verify; run '
            'quantize first'
        )
    return found


def _opened(kind: Any, split: Checkpoint, place: tuple[Any, Any], lengths: Lengths) -> Any:
    kind.check(split, place[0], lengths)
    return kind(split, *place)


def run_here(artifact: Path) -> list[str]:
    """Name the built engines that this machine can run; where they change, so does the verdict."""
    return [kind for kind in _ENGINES if not _why_not(artifact, kind)]


def not_compared(artifact: Path) -> list[str]:
    """Say which built engines were left out, and why."""
    return [
        f'{name} was not compared: {_why_not(artifact, kind)}'
        for kind, (name, _) in _ENGINES.items()
        if built_engine(artifact, kind) and _why_not(artifact, kind)
    ]


def _why_not(artifact: Path, kind: str) -> str:
    """Say why an engine cannot be run here; '' where it can."""
    if built_engine(artifact, kind) is None:
        return 'it was not built'
    _, library = _ENGINES[kind]
    return '' if find_spec(library) else f'{library} is not installed here; verify on the robot'
