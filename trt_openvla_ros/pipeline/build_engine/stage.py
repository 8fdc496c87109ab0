"""Stage build_engine: TensorRT-LLM checkpoint and ONNX to engines for the GPU of this machine.

An engine runs only on the kind of GPU and with the TensorRT release that it was built with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
import shutil
import tempfile
from typing import Any

from trt_openvla_ros.checkpoints.artifact import (
    LANGUAGE_ENGINE,
    TRTLLM_CHECKPOINT,
    VISION_ENGINE,
    VISION_ONNX,
)
from trt_openvla_ros.checkpoints.hashes import files_below
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.trtllm import CONFIG, ENGINE, TrtllmCheckpoint
from trt_openvla_ros.engines.tensorrt.build import build_vision_engine
from trt_openvla_ros.engines.tensorrt_llm.build import (
    Build,
    Features,
    flags,
    read_features,
    run_build,
)
from trt_openvla_ros.engines.tensorrt_llm.config import EngineConfig
from trt_openvla_ros.errors import ConfigError, EngineError
from trt_openvla_ros.pipeline.artifact import Artifact
from trt_openvla_ros.pipeline.machine import gpu, versions
from trt_openvla_ros.pipeline.settings import Common
from trt_openvla_ros.settings import setting

# Enters the container that has everything the stage needs; see docker/compose.yaml.
_CONTAINER = 'docker compose -f docker/compose.yaml run --rm policy'


@dataclass(frozen=True)
class Settings:
    """The settings of build_engine."""

    language: bool = setting(True, 'Build the language engine (TensorRT-LLM).')
    vision: bool = setting(True, 'Build the vision engine (TensorRT).')
    max_batch_size: int = setting(1, 'Most requests that run at once.', low=1, high=64)
    max_input_len: int = setting(
        512, 'Longest prompt [token], image embeddings included.', low=2, high=32768
    )
    max_new_tokens: int = setting(
        32,
        'Longest answer [token]; an action takes 7, reasoning with an action up to 1024.',
        low=1,
        high=8192,
    )
    max_num_tokens: int = setting(
        0,
        'Most tokens in one pass; 0 means max_input_len times max_batch_size.',
        low=0,
        high=65536,
    )
    multiple_profiles: bool = setting(
        True,
        'Let TensorRT choose kernels separately for few and for many tokens; building takes '
        'longer.',
    )
    overrides: tuple[str, ...] = setting(
        (), "Flags of trtllm-build that override those of this stage, e.g. 'gemm_plugin fp8'."
    )
    vision_workspace_gb: float = setting(
        4.0,
        'Most GPU memory [GB] that one kernel of the vision engine uses as its workspace.',
        low=0.1,
        high=64,
    )


def run(settings: Settings, common: Common, artifact: Artifact) -> dict[str, Any]:
    """Build the engines.

    Raises:
        ArtifactError: An earlier stage did not run.
        ConfigError: A setting does not fit the model.
        EngineError: TensorRT-LLM, TensorRT or the GPU is missing or fails.
    """
    if not (settings.language or settings.vision):
        raise ConfigError(
            'build_engine.language and build_engine.vision are both false: nothing to build; '
            'leave build_engine out of stages'
        )
    graph_facts = artifact.facts('save_backbone').get('onnx', {})
    inputs = {}
    if settings.language:
        artifact.facts('quantize')
        inputs[TRTLLM_CHECKPOINT] = artifact.path / TRTLLM_CHECKPOINT
    if settings.vision:
        graph = artifact.path / VISION_ONNX
        if not graph.is_file():
            raise ConfigError(
                f'{graph} is missing; run save_backbone with save_backbone.onnx true, or set '
                'build_engine.vision to false'
            )
        inputs |= {file.name: file for file in sorted(artifact.path.glob(f'{VISION_ONNX}*'))}
    machine = _require(settings)
    key: dict[str, Any] = {'gpu': machine, 'tensorrt': _tensorrt_versions()}
    build, features, executable = None, {}, ''
    if settings.language:
        executable = str(Path(shutil.which('trtllm-build') or '').absolute())
        features = read_features(executable)
        build = plan(settings, artifact.path, machine['capability'])
        # Without the flags of the two directories, whose place does not change the engine.
        key['trtllm_build'] = flags(build, features)[4:]
    if settings.vision:
        key['vision_workspace_gb'] = settings.vision_workspace_gb

    def work(directory: Path) -> dict[str, Any]:
        facts: dict[str, Any] = {'gpu': machine}
        if build:
            here = replace(build, output=directory / LANGUAGE_ENGINE)
            facts['language'] = _build_language(executable, here, features)
        if settings.vision:
            facts['vision'] = build_vision_engine(
                inputs[VISION_ONNX],
                directory / VISION_ENGINE,
                int(settings.vision_workspace_gb * 1e9),
                graph_facts.get('dtype', 'one precision'),
            )
        return facts

    size = sum(file.stat().st_size for place in inputs.values() for file in _files(place))
    return artifact.make('build_engine', settings=key, inputs=inputs, work=work, disk=2 * size)


def plan(settings: Settings, artifact: Path, capability: str) -> Build:
    """Plan the language engine.

    Args:
        settings: Settings of the stage.
        artifact: Artifact after the stages save_backbone and quantize.
        capability: Compute capability of the GPU, e.g. '9.0'.

    Raises:
        ConfigError: The model has no room for prompts and answers of these lengths.
    """
    checkpoint = Checkpoint.open(artifact)
    quantised = TrtllmCheckpoint.open(artifact / TRTLLM_CHECKPOINT, expected=checkpoint.llm)
    positions = quantised.llm.max_positions
    longest = settings.max_input_len + settings.max_new_tokens
    if longest > positions:
        raise ConfigError(
            f'build_engine.max_input_len {settings.max_input_len} and max_new_tokens '
            f'{settings.max_new_tokens} are {longest} together, and the model has {positions} '
            'positions; lower one of the two settings'
        )
    major, minor = capability.split('.')
    return Build(
        checkpoint=artifact / TRTLLM_CHECKPOINT,
        output=artifact / LANGUAGE_ENGINE,
        format=quantised.format,
        fp8_cache=quantised.fp8_cache,
        capability=(int(major), int(minor)),
        image_tokens=checkpoint.image_tokens,
        max_batch_size=settings.max_batch_size,
        max_input_len=settings.max_input_len,
        max_seq_len=longest,
        max_num_tokens=settings.max_num_tokens or settings.max_input_len * settings.max_batch_size,
        multiple_profiles=settings.multiple_profiles,
        overrides=settings.overrides,
    )


def _require(settings: Settings) -> dict[str, Any]:
    """Give the GPU, or raise an error that lists everything that is missing."""
    missing = []
    if settings.language and shutil.which('trtllm-build') is None:
        missing.append('trtllm-build (TensorRT-LLM 0.20 to 1.2.1)')
    if settings.vision and find_spec('tensorrt') is None:
        missing.append('the Python package tensorrt')
    machine = gpu()
    if machine is None:
        missing.append('an NVIDIA GPU that torch sees')
    if machine is None or missing:
        raise EngineError(
            f'engines cannot be built here, because {", ".join(missing)} is missing; the '
            f'container has everything: on the robot, in the root of the repository, run '
            f'{_CONTAINER} ros2 run trt_openvla_ros build_engine --ros-args --params-file FILE'
        )
    return machine


def _tensorrt_versions() -> dict[str, str]:
    return {k: v for k, v in versions().items() if k.startswith('tensorrt')}


def _build_language(executable: str, build: Build, features: Features) -> dict[str, Any]:
    arguments = flags(build, features)
    with tempfile.TemporaryDirectory(prefix='trtllm-build-') as scratch:
        run_build(executable, arguments, Path(scratch))
    engine = build.output / ENGINE
    if not (build.output / CONFIG).is_file() or not engine.is_file():
        raise EngineError(
            f'trtllm-build reported success, but did not write {CONFIG} and {ENGINE}'
        )
    written = EngineConfig.open(build.output)
    if written.image_room < build.image_tokens:
        raise EngineError(
            f'the engine has room for {written.image_room} image embeddings per request and an '
            f'image has {build.image_tokens}; check build_engine.overrides'
        )
    return {
        'command': ['trtllm-build', *arguments[4:]],
        'tensorrt_llm': written.version,
        'bytes': engine.stat().st_size,
    }


def _files(place: Path) -> list[Path]:
    return list(files_below(place)) if place.is_dir() else [place]
