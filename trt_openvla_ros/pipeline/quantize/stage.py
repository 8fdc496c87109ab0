"""Stage quantize: LLM_backbone to a TensorRT-LLM checkpoint, plain or quantised by modelopt.

Calibration uses what the policy sees: images, which pass the vision encoder, and instructions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import logging
from pathlib import Path
from typing import Any

from trt_openvla_ros.camera_steps import CameraSteps, NO_STEPS
from trt_openvla_ros.checkpoints import trtllm
from trt_openvla_ros.checkpoints.artifact import (
    LLM_BACKBONE,
    TRTLLM_CHECKPOINT,
    VISION_ONNX,
    VISION_ONNX_WEIGHTS,
)
from trt_openvla_ros.checkpoints.json_files import read_object, write_json
from trt_openvla_ros.checkpoints.released import Checkpoint, CONFIG
from trt_openvla_ros.checkpoints.tensor_files import list_shards, stored_tensors
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline.artifact import Artifact
from trt_openvla_ros.pipeline.frames import collect_frames, FrameSettings, recorded, source_key
from trt_openvla_ros.pipeline.machine import check_gpu_memory, check_memory
from trt_openvla_ros.pipeline.settings import Common
from trt_openvla_ros.settings import setting
from trt_openvla_ros.version import package_version

# Most memory of the stage, in sizes of the language model, and bytes beside it: for libraries,
# activations, and the layer that is being quantised or exported.
_FACTOR, _SPARE = 1.1, 2_000_000_000
_WAY_OUT = 'set quantize.qformat to bf16, which needs little'
# Scenes that neither training nor verification nor evaluation uses.
_FIRST_SEED = 2_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings(FrameSettings):
    """The settings of quantize; bf16 needs no frames to calibrate on."""

    qformat: str = setting(
        'bf16',
        'Format of the weights: bf16 is not quantised, fp8 is for GPUs from Ada on, int4_awq '
        'and int8_sq are smaller than bf16.',
        choices=trtllm.FORMAT_NAMES,
    )
    kv_cache: str = setting(
        'auto',
        'Format of the key-value cache: none is not quantised, and auto is fp8 if qformat is fp8, '
        'else none.',
        choices=('auto', 'none', 'fp8'),
    )
    dtype: str = setting(
        'bfloat16',
        'Precision of the weights that are not quantised.',
        choices=('bfloat16', 'float16'),
    )
    awq_block_size: int = setting(
        128,
        'Number of weights that share a scale in int4_awq; TensorRT-LLM supports 64 and 128.',
        low=8,
        high=128,
    )
    answer_tokens: int = setting(
        64,
        "Most tokens of the model's own answer to each frame, which calibration includes.",
        low=0,
        high=1024,
    )


def run(settings: Settings, common: Common, artifact: Artifact) -> dict[str, Any]:
    """Write the TensorRT-LLM checkpoint of the artifact.

    Raises:
        ConfigError: A setting does not fit the model, or there are no frames to calibrate on.
        ArtifactError: save_backbone did not run, or the artifact cannot be written.
        EngineError: There is too little memory.
    """
    language_bytes = artifact.facts('save_backbone')['language_bytes']
    checkpoint = Checkpoint.open(artifact.path)
    _check_fit(settings, checkpoint)
    inputs = {name: artifact.path / name for name in (LLM_BACKBONE, CONFIG)}
    used = {'qformat': settings.qformat, 'dtype': settings.dtype}
    steps = NO_STEPS
    if settings.qformat != 'bf16':
        steps = common.steps(checkpoint)
        used = {
            **asdict(settings),
            **source_key(settings),
            'prompt_style': common.prompt_style,
            'camera': steps.to_json(),
        }
        entries = artifact.manifest.entries('save_backbone') - {VISION_ONNX, VISION_ONNX_WEIGHTS}
        inputs = {name: artifact.path / name for name in entries}
        images = recorded(settings, 'quantize')
        if images:
            inputs['frames'] = images

    def work(directory: Path) -> dict[str, Any]:
        place = directory / TRTLLM_CHECKPOINT
        place.mkdir()
        if settings.qformat == 'bf16':
            return _write_plain(place, checkpoint, settings)
        needed = int(_FACTOR * language_bytes) + _SPARE
        return _write_quantised(place, checkpoint, settings, common, steps, needed)

    return artifact.make(
        'quantize', settings=used, inputs=inputs, work=work, disk=int(1.05 * language_bytes)
    )


def _check_fit(settings: Settings, checkpoint: Checkpoint) -> None:
    if settings.kv_cache == 'fp8' and settings.qformat != 'fp8':
        raise ConfigError(
            f"quantize.kv_cache is 'fp8' and qformat {settings.qformat!r}; an fp8 cache is built "
            'with fp8 only: set qformat to fp8, or kv_cache to auto'
        )
    if settings.qformat != 'int4_awq':
        return
    llm, block = checkpoint.llm, settings.awq_block_size
    for name in ('hidden_size', 'intermediate_size'):
        if getattr(llm, name) % block:
            raise ConfigError(
                f'quantize.awq_block_size {block} does not divide the {name} '
                f'{getattr(llm, name)} of this model; choose one that does'
            )
    if block not in (64, 128):
        _log.warning(
            'awq_block_size %d: the torch engine runs it, but TensorRT-LLM supports only 64 and '
            '128',
            block,
        )


def _write_plain(directory: Path, checkpoint: Checkpoint, settings: Settings) -> dict[str, Any]:
    """Write the same numbers under TensorRT-LLM's names."""
    from trt_openvla_ros.pipeline.quantize.plain_export import write_plain

    stored = {}
    for file in list_shards(checkpoint.path / LLM_BACKBONE):
        stored |= stored_tensors(file)
    write_plain(directory / trtllm.WEIGHTS, stored, checkpoint.llm, settings.dtype)
    producer = {'name': 'trt_openvla_ros', 'version': package_version()}
    return _finish(directory, checkpoint, settings, trtllm.UNQUANTISED, producer)


def _write_quantised(
    directory: Path,
    checkpoint: Checkpoint,
    settings: Settings,
    common: Common,
    steps: CameraSteps,
    needed: int,
) -> dict[str, Any]:
    """Calibrate, quantise and export with modelopt, which takes so many bytes at most."""
    import torch

    from trt_openvla_ros.engines.placement import resolve_placement
    from trt_openvla_ros.pipeline.quantize.calibration import (
        calibration_inputs,
        encode_images,
        read_spec,
    )
    from trt_openvla_ros.pipeline.quantize.modelopt_export import export, load_backbone

    check_memory(needed, f'use a machine with more, or {_WAY_OUT}')
    device, dtype = resolve_placement(common.device, None)
    check_gpu_memory(device, needed, f'set device to cpu, or {_WAY_OUT}')
    if not (settings.folder or settings.bag):
        _log.warning(
            'calibrating on the simulated table, which suits models trained on it; for a robot, '
            'set quantize.folder or quantize.bag to its images with instructions'
        )
    frames = collect_frames(settings, 'quantize', _FIRST_SEED)
    spec = read_spec(checkpoint, common.prompt_style, steps)
    images = encode_images(spec, frames, device, dtype)
    model = load_backbone(checkpoint.path / LLM_BACKBONE, device)
    inputs = calibration_inputs(model, spec.prompter, frames, images, settings.answer_tokens)
    export(
        model,
        inputs,
        directory,
        qformat=settings.qformat,
        fp8_cache=settings.kv_cache != 'none' and settings.qformat == 'fp8',
        awq_block_size=settings.awq_block_size,
        dtype=settings.dtype,
    )
    exported = read_object(directory / trtllm.CONFIG, '', 'quantise again')
    quantization, producer = exported['quantization'], exported['producer']
    peak = {}
    if device.type == 'cuda':
        peak['gpu_peak_bytes'] = torch.cuda.max_memory_allocated(device)
    return {
        'calibrated_on': settings.source,
        'frames': len(frames),
        'positions': sum(entry.shape[1] for entry in inputs),
        'device': str(device),
        **peak,
        **_finish(directory, checkpoint, settings, quantization, producer),
    }


def _finish(
    directory: Path,
    checkpoint: Checkpoint,
    settings: Settings,
    quantization: dict[str, Any],
    producer: dict[str, str],
) -> dict[str, Any]:
    """Write config.json beside the weights; give the facts."""
    config = trtllm.write_trtllm_config(
        checkpoint.llm, checkpoint.architecture, settings.dtype, quantization, producer
    )
    write_json(directory / trtllm.CONFIG, config)
    weights = directory / trtllm.WEIGHTS
    return {
        'qformat': settings.qformat,
        'dtype': settings.dtype,
        'quantization': quantization,
        'bytes': weights.stat().st_size,
        'tensors': len(stored_tensors(weights)),
    }
