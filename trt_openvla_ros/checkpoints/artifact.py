"""The artifact that the pipeline writes: the names in its directory, and its manifest.

An artifact is also a checkpoint, which `Checkpoint.open` reads. It has config.json,
preprocessor_config.json, statistics and tokenizer of the checkpoint that it was made from.

The manifest has the hash of every file that a stage read and wrote. Whoever loads a part of the
artifact asks the manifest for it, and gets an error where the part is not what the stage wrote.
This finds mistakes and damage. It does not stop somebody who may write to the directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from trt_openvla_ros.checkpoints.hashes import Hashes
from trt_openvla_ros.checkpoints.json_files import checked, read_object, Schema
from trt_openvla_ros.errors import ArtifactError, ConfigError

MANIFEST = 'manifest.json'

# Written by save_backbone. Tensors keep their names, except in LLM_backbone: there they lose the
# prefix of the language model, so that transformers' AutoModelForCausalLM can read them.
LLM_BACKBONE = 'LLM_backbone'
VISION = 'vision.safetensors'
PROJECTOR = 'projector.safetensors'
# pixel_values [1, C, S, S] float32 -> image_embeddings [1, N, D] float32
VISION_ONNX = 'vision.onnx'
VISION_ONNX_WEIGHTS = 'vision.onnx.data'
VISION_INPUT, VISION_OUTPUT = 'pixel_values', 'image_embeddings'

# Written by quantize: config.json and rank0.safetensors, as trtllm-build reads them.
TRTLLM_CHECKPOINT = 'trtllm_checkpoint'

# Written by build_engine, for one kind of GPU and one release.
LANGUAGE_ENGINE = 'language_engine'  # config.json and rank0.engine of trtllm-build
VISION_ENGINE = 'vision.engine'

# Written by verify.
VERIFICATION = 'verification.json'

_ENGINES = {'language': LANGUAGE_ENGINE, 'vision': VISION_ENGINE}
# Entries that are large, and checked where they are used.
_PARTS = (LLM_BACKBONE, VISION, PROJECTOR, VISION_ONNX, VISION_ONNX_WEIGHTS, TRTLLM_CHECKPOINT)
_PARTS += (LANGUAGE_ENGINE, VISION_ENGINE)


def _inside(name: str) -> str:
    # A stage that runs again removes what it wrote before.
    if not Path(name).parts or Path(name).is_absolute() or '..' in Path(name).parts:
        raise ValueError('a path inside the artifact is needed')
    return name


class _Gpu(Schema):
    capability: str | None = None


class _VisionEngine(Schema):
    tensorrt: str | None = None


class _Facts(Schema):
    language_bytes: Annotated[int, Field(ge=0)] = 0
    gpu: _Gpu | None = None
    vision: _VisionEngine = _VisionEngine()
    failures: list[str] | None = None


class _Stage(Schema):
    inputs: dict[str, str]
    outputs: dict[Annotated[str, AfterValidator(_inside)], str]
    facts: _Facts


class _Content(Schema):
    stages: dict[str, _Stage]
    hashes: dict[str, Annotated[list[int | str], Field(min_length=3, max_length=3)]]

    @model_validator(mode='after')
    def _check_verdict(self) -> _Content:
        if 'verify' in self.stages and self.stages['verify'].facts.failures is None:
            raise ValueError('stages.verify has no list of failures')
        return self


@dataclass
class Manifest:
    """manifest.json of an artifact.

    Attributes:
        directory: The artifact.
        stages: Inputs, outputs and findings of each stage, by its name.
        hashes: Size, time and hash of each large file, by its path.
    """

    directory: Path
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    hashes: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Manifest | None:
        """Read the manifest of a directory; None if the directory is no artifact.

        Raises:
            ArtifactError: The manifest cannot be read, or is not as the pipeline wrote it.
        """
        path = directory / MANIFEST
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            if (directory / LLM_BACKBONE).is_dir() and (directory / VISION).is_file():
                raise ArtifactError(
                    f'{path} is missing, and {directory} looks like an artifact, which must not '
                    'be loaded without one; copy it too, or run the pipeline again'
                ) from None
            return None
        except OSError as error:
            raise ArtifactError(
                f'{path} cannot be read: {error}; give another directory'
            ) from error
        try:
            way_out = f'delete {directory} and run the pipeline again'
            content = read_object(path, '', way_out)
            checked(_Content, content, path, way_out)
        except ConfigError as error:
            raise ArtifactError(str(error)) from error
        if content.pop('digest', None) != _digest(content):
            raise ArtifactError(
                f'{path} is not as this release of the pipeline wrote it: another release wrote '
                f'it, or it was changed; delete {directory} and run the pipeline again'
            )
        return cls(directory, content['stages'], content['hashes'])

    def save(self) -> None:
        """Write the manifest, wholly or not at all."""
        content: dict[str, Any] = {'stages': self.stages, 'hashes': self.hashes}
        content['digest'] = _digest(content)
        unfinished = self.directory / f'{MANIFEST}.part'
        with unfinished.open('w', encoding='utf-8') as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.directory / MANIFEST)

    def facts(self, stage: str) -> dict[str, Any]:
        """Give the findings of a stage; {} if it did not run."""
        return self.stages.get(stage, {}).get('facts', {})

    def engine(self, kind: str) -> Path | None:
        """Find the engine 'language' or 'vision'; None if build_engine did not build it.

        Raises:
            ArtifactError: It is not as build_engine wrote it.
        """
        return self._part(_ENGINES[kind]) if kind in self.facts('build_engine') else None

    @property
    def trtllm_checkpoint(self) -> Path | None:
        """Directory of the TensorRT-LLM checkpoint; None if the stage quantize did not run.

        Raises:
            ArtifactError: It is not as quantize wrote it.
        """
        return self._part(TRTLLM_CHECKPOINT) if 'quantize' in self.stages else None

    @property
    def failures(self) -> str:
        """Faults that the stage verify found; '' if it found none, or did not run."""
        return '; '.join(self.facts('verify').get('failures', []))

    @property
    def unverified(self) -> list[str]:
        """Entries that the stage verify has not seen as they are now."""
        seen = self.stages.get('verify', {}).get('inputs', {})
        other = {name for name, (_, digest) in self._written.items() if seen.get(name) != digest}
        return sorted({entry_of(name) for name in other} - {VERIFICATION})

    def entries(self, stage: str = '') -> set[str]:
        """Name the files and directories that a stage wrote; all stages, if none is named."""
        return {entry_of(name) for name, (of, _) in self._written.items() if stage in ('', of)}

    def check(self, entries: Iterable[str]) -> None:
        """Check that entries of the directory are as the pipeline wrote them.

        Small files are read. A large one is read only if its size or its time changed.

        Args:
            entries: Files of the directory, and directories with all that lies in them.

        Raises:
            ArtifactError: A file is missing, changed, or not of the pipeline.
        """
        entries, written = set(entries), self._written
        wanted = {name: record for name, record in written.items() if entry_of(name) in entries}
        there = {name: self.directory / name for name in entries}
        hashes = Hashes(self.hashes, self.directory)
        found = hashes.of({name: path for name, path in there.items() if path.exists()})
        for name in sorted(wanted.keys() | found.keys()):
            stage, digest = wanted.get(name, ('', ''))
            if name not in wanted:
                fault = 'was not written by the pipeline: move it elsewhere'
            elif name not in found:
                fault = f'is missing: run the stage {stage} again'
            elif found[name] != digest:
                fault = f'is not as the stage {stage} wrote it: run that stage again'
            else:
                continue
            raise ArtifactError(
                f'{self.directory / name} {fault} (or copy the whole artifact anew)'
            )

    def check_small(self) -> None:
        """Check configuration, statistics, tokenizer and report.

        Raises:
            ArtifactError: One of them is missing, changed, or not of the pipeline.
        """
        there = {
            file.name
            for pattern in ('*.json', '*.model')
            for file in self.directory.glob(pattern)
            if file.name != MANIFEST
        }
        self.check((self.entries() | there) - {*_PARTS})

    def check_content(self) -> None:
        """Read every file that is recorded and still there, large ones too, and check it.

        Raises:
            ArtifactError: A file is changed or incomplete.
        """
        self.hashes.clear()
        self.check({entry for entry in self.entries() if (self.directory / entry).exists()})

    def _part(self, name: str) -> Path:
        self.check([name])
        return self.directory / name

    @property
    def _written(self) -> dict[str, tuple[str, str]]:
        """Stage and hash of every recorded file, by its path in the artifact."""
        return {
            name: (stage, digest)
            for stage, record in self.stages.items()
            for name, digest in record.get('outputs', {}).items()
        }


def entry_of(name: str) -> str:
    """Give the file or directory of the artifact that a path in it begins with."""
    return name.split('/')[0]


def _digest(content: dict[str, Any]) -> str:
    """Hash the content of a manifest, so that a change by hand is seen."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
