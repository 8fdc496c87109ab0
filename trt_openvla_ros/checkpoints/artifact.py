"""The artifact that the pipeline writes: the names in its directory, and its manifest.

An artifact is also a checkpoint, which `Checkpoint.open` reads. It has config.json,
preprocessor_config.json, statistics and tokenizer of the checkpoint that it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import json
import os
from pathlib import Path
from typing import Any

from trt_openvla_ros.checkpoints.json_files import read_object
from trt_openvla_ros.errors import ArtifactError, ConfigError

MANIFEST = 'manifest.json'  # files that it does not record are ignored

# Written by save_backbone. Tensors keep their names, except in LLM_backbone: there they lose the
# prefix of the language model, so that transformers' AutoModelForCausalLM can read them.
LLM_BACKBONE = 'LLM_backbone'
VISION = 'vision.safetensors'
PROJECTOR = 'projector.safetensors'
# pixel_values [1, C, S, S] float32 -> image_embeddings [1, N, D] float32
VISION_ONNX = 'vision.onnx'
VISION_INPUT, VISION_OUTPUT = 'pixel_values', 'image_embeddings'

# Written by quantize: config.json and rank0.safetensors, as trtllm-build reads them.
TRTLLM_CHECKPOINT = 'trtllm_checkpoint'

# Written by build_engine, for one kind of GPU and one release.
LANGUAGE_ENGINE = 'language_engine'  # config.json and rank0.engine of trtllm-build
VISION_ENGINE = 'vision.engine'

# Written by verify.
VERIFICATION = 'verification.json'

_ENGINES = {'language': LANGUAGE_ENGINE, 'vision': VISION_ENGINE}


@dataclass
class Manifest:
    """manifest.json of an artifact.

    Attributes:
        directory: The artifact.
        stages: Inputs, outputs and findings of each stage, by its name.
        hashes: Size, time and hash of each hashed file, by its path.
    """

    directory: Path
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    hashes: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Manifest | None:
        """Read the manifest of a directory; None if the directory is no artifact.

        Raises:
            ArtifactError: The manifest cannot be read, or the pipeline did not write it.
        """
        path = directory / MANIFEST
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArtifactError(
                f'{path} cannot be read: {error}; give another directory'
            ) from error
        try:
            content = read_object(path, '', f'delete {directory} and run the pipeline again')
        except ConfigError as error:
            raise ArtifactError(str(error)) from error
        if not isinstance(content.get('stages'), dict):
            raise ArtifactError(
                f'{path} was not written by this pipeline; delete {directory} and run it again'
            )
        return cls(directory, content['stages'], content.get('hashes', {}))

    def save(self) -> None:
        """Write the manifest, wholly or not at all."""
        unfinished = self.directory / f'{MANIFEST}.part'
        with unfinished.open('w', encoding='utf-8') as file:
            json.dump({'stages': self.stages, 'hashes': self.hashes}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.directory / MANIFEST)

    def facts(self, stage: str) -> dict[str, Any]:
        """Give the findings of a stage; {} if it did not run."""
        return self.stages.get(stage, {}).get('facts', {})

    def engine(self, kind: str) -> Path | None:
        """Find the engine 'language' or 'vision'; None if build_engine did not build it."""
        return self.directory / _ENGINES[kind] if kind in self.facts('build_engine') else None

    @property
    def trtllm_checkpoint(self) -> Path | None:
        """Directory of the TensorRT-LLM checkpoint; None if the stage quantize did not run."""
        return self.directory / TRTLLM_CHECKPOINT if 'quantize' in self.stages else None

    @property
    def failures(self) -> str:
        """Faults that the stage verify found; '' if it found none, or did not run."""
        return '; '.join(self.facts('verify').get('failures', []))
