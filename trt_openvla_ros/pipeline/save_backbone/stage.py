"""Stage save_backbone: an OpenVLA checkpoint to its parts, each readable by itself.

Tensors are copied from file to file in pieces; no model is in memory. checkpoints/artifact.py
names the files that are written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import logging
from pathlib import Path
import shutil
from typing import Any

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints import llama, vision
from trt_openvla_ros.checkpoints.artifact import LLM_BACKBONE, PROJECTOR, VISION, VISION_ONNX
from trt_openvla_ros.checkpoints.json_files import write_json
from trt_openvla_ros.checkpoints.preprocessor import with_camera
from trt_openvla_ros.checkpoints.released import (
    Checkpoint,
    CONFIG,
    GENERATION,
    PREPROCESSOR,
    STATISTICS,
)
from trt_openvla_ros.checkpoints.tensor_files import (
    Piece,
    progress,
    write_tensors,
)
from trt_openvla_ros.checkpoints.tokenizer import copy_tokenizer
from trt_openvla_ros.engines.base import DTYPES
from trt_openvla_ros.pipeline.artifact import Artifact
from trt_openvla_ros.pipeline.machine import check_memory
from trt_openvla_ros.pipeline.save_backbone.llm_backbone import (
    check_language_tensors,
    write_backbone,
)
from trt_openvla_ros.pipeline.settings import Common
from trt_openvla_ros.settings import setting

_SPARE = 1_000_000_000  # bytes that libraries and activations take beside the weights
_SMALL_FILES = 50_000_000  # bytes: tokenizer, configuration, statistics

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The settings of save_backbone."""

    onnx: bool = setting(
        True, 'Write vision.onnx, from which the TensorRT vision engine is built.'
    )
    onnx_dtype: str = setting(
        'bfloat16',
        'Precision inside vision.onnx; its input and output are float32.',
        choices=DTYPES,
    )
    test_load: bool = setting(
        True, 'Reload the written parts and compare a forward pass with that of the checkpoint.'
    )


def run(settings: Settings, common: Common, artifact: Artifact) -> dict[str, Any]:
    """Write the parts of common.checkpoint into the artifact.

    Raises:
        ConfigError: The checkpoint cannot be used.
        ArtifactError: The artifact cannot be written, or its parts differ from the checkpoint.
        EngineError: There is too little memory.
    """
    checkpoint = Checkpoint.open(common.checkpoint)
    artifact.refuse(checkpoint.path)
    parts, steps = _Parts(checkpoint), common.steps(checkpoint)
    return artifact.make(
        'save_backbone',
        settings={**asdict(settings), **with_camera({}, steps)},
        inputs=checkpoint.files,
        # The graph holds the vision weights again, and the check writes it in float32.
        disk=parts.size + (4 * parts.vision_size if settings.onnx else 0) + _SMALL_FILES,
        work=lambda directory: _write(directory, checkpoint, parts, settings, steps),
    )


class _Parts:
    """The tensors of a checkpoint, checked and sorted by the files that they go to.

    Attributes:
        shards: Tensors of the language model, one dict for each file of the checkpoint.
        vision, projector: Tensors of the towers, and of the projector.
        largest_shard: Bytes of the largest file.
        dtype: Precision of the language model, e.g. 'bfloat16'.
        size, vision_size: Bytes of all tensors, and of those of towers and projector.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.shards: list[dict[str, Piece]] = []
        self.vision: dict[str, Piece] = {}
        self.projector: dict[str, Piece] = {}
        self.largest_shard = 0
        for file in checkpoint.shards:
            shard = {}
            for name, piece in file.pieces.items():
                if name.startswith(llama.PREFIX):
                    shard[name.removeprefix(llama.PREFIX)] = piece
                elif name.startswith(vision.TOWERS):
                    self.vision[name] = piece
                elif name.startswith(vision.PROJECTOR):
                    self.projector[name] = piece
            self.shards.append(shard)
            self.largest_shard = max(self.largest_shard, file.path.stat().st_size)
        self.dtype = check_language_tensors(checkpoint, self.language)
        self.vision_size = sum(p.size for p in (*self.vision.values(), *self.projector.values()))
        self.size = self.vision_size + sum(piece.size for piece in self.language.values())

    @property
    def language(self) -> dict[str, Piece]:
        """Tensors of the language model from all files."""
        return {name: piece for shard in self.shards for name, piece in shard.items()}


def _write(
    directory: Path, checkpoint: Checkpoint, parts: _Parts, settings: Settings, steps: CameraSteps
) -> dict[str, Any]:
    # Bytes for the layers of test_load. Each of their float32 values is read from two bytes of a
    # shard, which is mapped at the same time.
    layers = (parts.largest_shard + _SPARE) // 2
    needed = [0]
    if settings.onnx:
        # Weights, graph, and the check's float32 copy; not all of them are there at once.
        needed.append((6 if settings.onnx_dtype == 'float32' else 4) * parts.vision_size)
    if settings.test_load:
        needed.append(max(2 * parts.vision_size, min(layers, 2 * parts.size)))
    if any(needed):
        check_memory(
            max(needed) + _SPARE,
            'close other programs, or set save_backbone.onnx and save_backbone.test_load to false',
        )
    everything = {**parts.language, **parts.vision, **parts.projector}
    with progress(everything, 'save_backbone') as bar:
        write_backbone(directory / LLM_BACKBONE, checkpoint, parts.shards, parts.dtype, bar)
        write_tensors(directory / VISION, parts.vision, bar)
        write_tensors(directory / PROJECTOR, parts.projector, bar)
    _write_small_files(directory, checkpoint, steps)
    facts: dict[str, Any] = {
        'checkpoint': str(checkpoint.path),
        'dtype': parts.dtype,
        'language_bytes': parts.size - parts.vision_size,
        'vision_bytes': parts.vision_size,
        'norm_stats': sorted(checkpoint.norm_stats),
    }
    reloaded = Checkpoint.open_parts(directory)
    if settings.onnx:
        from trt_openvla_ros.pipeline.save_backbone.vision_onnx import export_vision

        _log.info('%s in %s ...', VISION_ONNX, settings.onnx_dtype)
        facts['onnx'] = export_vision(reloaded, directory / VISION_ONNX, settings.onnx_dtype)
    if settings.test_load:
        from trt_openvla_ros.pipeline.save_backbone.reload_check import compare_reloaded

        _log.info('test_load ...')
        facts['test_load'] = compare_reloaded(checkpoint, reloaded, layers)
    return facts


def _write_small_files(directory: Path, checkpoint: Checkpoint, steps: CameraSteps) -> None:
    """Write the tokenizer, configuration and statistics, which make the artifact a checkpoint."""
    # The artifact has another name, and settings are not given twice, so it states the steps.
    preprocessor = with_camera(checkpoint.preprocessor, steps)
    copy_tokenizer(checkpoint.path, directory)
    for name, content in ((CONFIG, checkpoint.config), (PREPROCESSOR, preprocessor)):
        # auto_map is the address of the checkpoint's own code, which is never run.
        write_json(directory / name, {k: v for k, v in content.items() if k != 'auto_map'})
    for name in (STATISTICS, GENERATION):
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, directory / name)
