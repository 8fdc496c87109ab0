"""What an artifact directory holds: the contract between the pipeline and the engines.

An artifact is also a checkpoint: its config.json, preprocessor_config.json, statistics and
tokenizer are those of the checkpoint it was made from, so that `Checkpoint.open` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trt_openvla_ros.errors import ArtifactError

MANIFEST = 'manifest.json'  # what is in it counts; files that no stage recorded do not

# Written by save_backbone. Tensors keep their names, except that those of LLM_backbone lose
# 'language_model.' and are what transformers' AutoModelForCausalLM reads.
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


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Read manifest.json; None where the directory is no artifact.

    Raises:
        ArtifactError: It cannot be read, or is not one of the pipeline.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f'{path} cannot be read: {error}; delete {directory} and run the pipeline again'
        ) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get('stages'), dict):
        raise ArtifactError(
            f'{path} was not written by this pipeline; delete {directory} and run it again'
        )
    return manifest


def built_engine(directory: Path, kind: str) -> Path | None:
    """Find an engine that the stage build_engine recorded; None where there is none.

    Args:
        directory: An artifact, or a checkpoint.
        kind: 'language' or 'vision'.
    """
    facts = build_facts(directory)
    name = {'language': LANGUAGE_ENGINE, 'vision': VISION_ENGINE}[kind]
    return directory / name if kind in facts else None


def build_facts(directory: Path) -> dict[str, Any]:
    """Give what the stage build_engine recorded: 'gpu', and 'language' and 'vision' if built."""
    manifest = read_manifest(directory) or {'stages': {}}
    return manifest['stages'].get('build_engine', {}).get('facts', {})


def failed_verification(directory: Path) -> str:
    """Say what the stage verify found wrong with an artifact; '' where it found nothing.

    A checkpoint, and an artifact that was not verified, have nothing wrong with them.
    """
    manifest = read_manifest(directory) or {'stages': {}}
    facts = manifest['stages'].get('verify', {}).get('facts', {})
    return '; '.join(facts.get('failures', []))
