"""The candidates that verify compares with the original: engines of the artifact that run here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from trt_openvla_ros.checkpoints.artifact import (
    LANGUAGE_ENGINE,
    Manifest,
    TRTLLM_CHECKPOINT,
    VISION_ENGINE,
    VISION_ONNX,
)
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.base import Engines
from trt_openvla_ros.engines.registry import LANGUAGE_ENGINES, load_engines, VISION_ENGINES
from trt_openvla_ros.errors import ArtifactError

if TYPE_CHECKING:
    import torch

    from trt_openvla_ros.engines.base import Lengths

# The vision engines of every policy, and one that only verify uses.
_VISION = {**VISION_ENGINES, 'onnx': 'trt_openvla_ros.pipeline.verify.onnx_vision:OnnxVision'}
# File and library of each kind of built engine.
_BUILT = {
    'language': (LANGUAGE_ENGINE, 'tensorrt_llm'),
    'vision': (VISION_ENGINE, 'tensorrt'),
}


@dataclass(frozen=True)
class Candidate:
    """The names of a vision and a language engine, which `open` loads.

    Attributes:
        name: Name in reports.
        vision, vision_source: Name of the vision engine, and the checkpoint that it comes from.
        language, language_source: The same for the language engine.
    """

    name: str
    vision: str
    vision_source: Checkpoint
    language: str
    language_source: Checkpoint

    def open(self, lengths: Lengths, place: tuple[torch.device, torch.dtype]) -> Engines:
        """Load the engines.

        Args:
            lengths: Lengths of prompts and answers.
            place: Device and dtype of the torch engines.

        Raises:
            ConfigError: A checkpoint does not fit an engine.
            EngineError: An engine cannot be used here.
        """
        parts = [
            (_VISION[self.vision], self.vision_source, {}),
            (LANGUAGE_ENGINES[self.language], self.language_source, {}),
        ]
        return Engines(*load_engines(parts, lengths, place), self.language)


def list_candidates(split: Checkpoint, original: Checkpoint) -> list[Candidate]:
    """List the engines of an artifact that this machine can run.

    Each candidate has one engine to verify. Its other engine runs in torch, so that every
    difference comes from the first.

    Args:
        split: Artifact whose engines are listed.
        original: Checkpoint that the artifact was made from.

    Raises:
        ArtifactError: There is nothing to compare.
    """
    artifact = split.artifact or Manifest(split.path)
    found = []
    if artifact.trtllm_checkpoint:
        found.append(Candidate('torch on trtllm_checkpoint', 'torch', split, 'torch', split))
    if (split.path / VISION_ONNX).is_file():
        found.append(Candidate('onnx vision', 'onnx', split, 'torch', original))
    here = run_here(artifact)
    if 'language' in here:
        found.append(Candidate('tensorrt_llm', 'torch', split, 'tensorrt_llm', split))
    if 'vision' in here:
        found.append(Candidate('tensorrt vision', 'tensorrt', split, 'torch', original))
    if not found:
        raise ArtifactError(
            f'{split.path} has no {TRTLLM_CHECKPOINT} and no {VISION_ONNX}: nothing to verify; '
            'run quantize first'
        )
    return found


def run_here(artifact: Manifest) -> list[str]:
    """Name the built engines that this machine can run; the verdict depends on them."""
    return [kind for kind in _BUILT if not _why_not(artifact, kind)]


def not_compared(artifact: Manifest) -> list[str]:
    """Tell which built engines are left out, and why."""
    return [
        f'{name} was not compared: {_why_not(artifact, kind)}'
        for kind, (name, _) in _BUILT.items()
        if artifact.engine(kind) and _why_not(artifact, kind)
    ]


def _why_not(artifact: Manifest, kind: str) -> str:
    """Tell why this machine cannot run an engine; '' if it can."""
    if artifact.engine(kind) is None:
        return 'it was not built'
    _, library = _BUILT[kind]
    return '' if find_spec(library) else f'{library} is not installed here; verify on the robot'
