"""Stage save_backbone: an OpenVLA checkpoint to its parts, each readable by itself.

Tensors go from file to file in pieces; no model is in memory. See layout.py for what is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import json
import logging
from pathlib import Path
import shutil
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.checkpoint import Checkpoint
from trt_openvla_ros.engines import DTYPES
from trt_openvla_ros.layout import (
    LLM_BACKBONE,
    MANIFEST,
    PROJECTOR,
    VISION,
    VISION_ONNX,
)
from trt_openvla_ros.pipeline.capacity import check_memory
from trt_openvla_ros.settings import setting

if TYPE_CHECKING:
    from trt_openvla_ros.pipeline.artifact import Artifact
    from trt_openvla_ros.pipeline.configuration import Config
    from trt_openvla_ros.pipeline.tensor_files import Piece


_SPARE = 1_000_000_000  # bytes that libraries and activations take beside the weights
_SMALL_FILES = 50_000_000  # bytes: tokenizer, configuration, statistics

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What save_backbone can be told."""

    onnx: bool = setting(
        True, 'Write vision.onnx, which the TensorRT vision engine is built from.'
    )
    onnx_dtype: str = setting(
        'bfloat16', 'Precision inside vision.onnx; in and out it is float32.', choices=DTYPES
    )
    test_load: bool = setting(
        True, 'Open what was written and compare a forward pass with the checkpoint.'
    )


def run(config: Config, artifact: Artifact) -> dict[str, Any]:
    """Write the parts of config.checkpoint into the artifact.

    Raises:
        ConfigError: The checkpoint cannot be used.
        ArtifactError: The artifact cannot be written, or what was written is not what was read.
        EngineError: There is too little memory.
    """
    checkpoint = Checkpoint.open(config.checkpoint)
    artifact.refuse(checkpoint.path)
    settings = config.save_backbone
    parts = _Parts(checkpoint)
    return artifact.make(
        'save_backbone',
        settings=asdict(settings),
        inputs=source_files(checkpoint),
        # The graph holds the vision weights again, and a float32 copy for the check.
        disk=parts.size + (4 * parts.vision_size if settings.onnx else 0) + _SMALL_FILES,
        work=lambda directory: _write(directory, checkpoint, parts, settings),
    )


class _Parts:
    """The tensors of a checkpoint, sorted by where they go and checked."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from trt_openvla_ros.pipeline.llm_backbone import check_language_tensors
        from trt_openvla_ros.pipeline.tensor_files import stored_tensors

        self.shards: list[dict[str, Piece]] = []
        self.vision: dict[str, Piece] = {}
        self.projector: dict[str, Piece] = {}
        self.largest_shard = 0
        unknown = []
        for file, lost in checkpoint.shards:
            shard = {}
            for key, piece in stored_tensors(file).items():
                name = lost + key
                if name.startswith('language_model.'):
                    shard[name.removeprefix('language_model.')] = piece
                elif name.startswith('vision_backbone.'):
                    self.vision[name] = piece
                elif name.startswith('projector.'):
                    self.projector[name] = piece
                else:
                    unknown.append(name)
            self.shards.append(shard)
            self.largest_shard = max(self.largest_shard, file.stat().st_size)
        if unknown:
            _log.warning('left out, because no policy reads them: %s', ', '.join(unknown))
        language = {name: piece for shard in self.shards for name, piece in shard.items()}
        self.dtype = check_language_tensors(checkpoint, language)
        self.vision_size = sum(p.size for p in (*self.vision.values(), *self.projector.values()))
        self.size = self.vision_size + sum(piece.size for piece in language.values())


def source_files(checkpoint: Checkpoint) -> dict[str, Path]:
    """The files of a checkpoint that matter, by name: weights and the small ones beside them."""
    files = {str(file.relative_to(checkpoint.path)): file for file, _ in checkpoint.shards}
    for file in checkpoint.path.iterdir():
        if file.is_file() and file.suffix in ('.json', '.model') and file.name != MANIFEST:
            files[file.name] = file
    return dict(sorted(files.items()))


def _write(
    directory: Path, checkpoint: Checkpoint, parts: _Parts, settings: Settings
) -> dict[str, Any]:
    from trt_openvla_ros.pipeline.llm_backbone import copy_tokenizer, write_backbone, write_json
    from trt_openvla_ros.pipeline.tensor_files import progress, write_tensors

    # Of layers for test_load: each float32 value comes from one of two bytes, mapped meanwhile.
    layers = (parts.largest_shard + _SPARE) // 2
    needed = [0]
    if settings.onnx:
        # Weights, graph, and the float32 copy of the check, of which some are gone by then.
        needed.append((6 if settings.onnx_dtype == 'float32' else 4) * parts.vision_size)
    if settings.test_load:
        needed.append(max(2 * parts.vision_size, min(layers, 2 * parts.size)))
    if any(needed):
        check_memory(
            max(needed) + _SPARE,
            'close other programs, or set save_backbone.onnx and save_backbone.test_load to false',
        )
    language = {name: piece for shard in parts.shards for name, piece in shard.items()}
    with progress({**language, **parts.vision, **parts.projector}, 'save_backbone') as bar:
        write_backbone(directory / LLM_BACKBONE, checkpoint, parts.shards, parts.dtype, bar)
        write_tensors(directory / VISION, parts.vision, bar)
        write_tensors(directory / PROJECTOR, parts.projector, bar)
    copy_tokenizer(checkpoint, directory)
    # Code of the checkpoint's own is never run, so its address has no use here.
    for name in ('config.json', 'preprocessor_config.json'):
        content = json.loads((checkpoint.path / name).read_text(encoding='utf-8'))
        content.pop('auto_map', None)
        write_json(directory / name, content)
    for name in ('dataset_statistics.json', 'generation_config.json'):
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, directory / name)
    facts: dict[str, Any] = {
        'checkpoint': str(checkpoint.path),
        'dtype': parts.dtype,
        'language_bytes': parts.size - parts.vision_size,
        'vision_bytes': parts.vision_size,
        'norm_stats': sorted(checkpoint.norm_stats),
    }
    reopened = _reopen(directory)
    if settings.onnx:
        from trt_openvla_ros.pipeline.vision_onnx import export_vision

        _log.info('%s in %s ...', VISION_ONNX, settings.onnx_dtype)
        facts['onnx'] = export_vision(reopened, directory / VISION_ONNX, settings.onnx_dtype)
    if settings.test_load:
        from trt_openvla_ros.pipeline.reopening import compare_reopened

        _log.info('test_load ...')
        facts['test_load'] = compare_reopened(checkpoint, reopened, layers)
    (directory / MANIFEST).unlink()
    return facts


def _reopen(directory: Path) -> Checkpoint:
    # What tells an artifact from a checkpoint; that of the artifact itself is written last.
    (directory / MANIFEST).write_text(json.dumps({'stages': {}}), encoding='utf-8')
    return Checkpoint.open(directory)
