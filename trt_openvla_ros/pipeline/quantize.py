"""Stage quantize: LLM_backbone to a TensorRT-LLM checkpoint, plain or quantised by modelopt.

Calibration is on what the policy sees: images and instructions through the vision encoder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import json
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.checkpoint import Checkpoint
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.layout import LLM_BACKBONE, PROJECTOR, TRTLLM_CHECKPOINT, VISION
from trt_openvla_ros.pipeline.capacity import check_memory, package_version
from trt_openvla_ros.pipeline.frames import collect_frames, FrameSettings, recorded, source_key
from trt_openvla_ros.settings import setting

if TYPE_CHECKING:
    from trt_openvla_ros.pipeline.artifact import Artifact
    from trt_openvla_ros.pipeline.configuration import Config

FORMATS = ('bf16', 'fp8', 'int4_awq', 'int8_sq')
_SPARE = 2_000_000_000  # bytes beside the weights
# Scenes that neither training nor verification nor evaluation uses.
_FIRST_SEED = 2_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings(FrameSettings):
    """What quantize can be told; bf16 needs no frames to calibrate on."""

    qformat: str = setting(
        'bf16', 'bf16: plain; fp8: Ada and Hopper; int4_awq, int8_sq: smaller.', choices=FORMATS
    )
    kv_cache: str = setting(
        'auto',
        'Precision of keys and values: auto is fp8 with qformat fp8, else none.',
        choices=('auto', 'none', 'fp8'),
    )
    dtype: str = setting('bfloat16', 'Of what is not quantised.', choices=('bfloat16', 'float16'))
    awq_block_size: int = setting(
        128, 'Weights that share a scale in int4_awq; engines know 64 and 128.', low=8, high=128
    )
    answer_tokens: int = setting(
        64, "Tokens of the model's own answers to calibrate on.", low=0, high=1024
    )


def run(config: Config, artifact: Artifact) -> dict[str, Any]:
    """Write the TensorRT-LLM checkpoint of the artifact.

    Raises:
        ConfigError: A setting does not fit the model, or there is nothing to calibrate on.
        ArtifactError: save_backbone did not run, or the artifact cannot be written.
        EngineError: There is too little memory.
    """
    settings = config.quantize
    source = artifact.facts('save_backbone')
    checkpoint = Checkpoint.open(artifact.path)
    _check_fit(settings, checkpoint)
    inputs = {LLM_BACKBONE: artifact.path / LLM_BACKBONE}
    used = {'qformat': settings.qformat, 'dtype': settings.dtype}
    if settings.qformat != 'bf16':
        used = {
            **asdict(settings),
            **source_key(settings),
            'prompt_style': config.prompt_style,
        }
        for name in (VISION, PROJECTOR, 'config.json', 'preprocessor_config.json'):
            inputs[name] = artifact.path / name
        source_of_frames = recorded(settings, 'quantize')
        if source_of_frames:
            inputs['frames'] = source_of_frames
    return artifact.make(
        'quantize',
        settings=used,
        inputs=inputs,
        disk=int(1.05 * source['language_bytes']),
        work=lambda directory: _write(
            directory / TRTLLM_CHECKPOINT, checkpoint, config, source['language_bytes']
        ),
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
                f'{getattr(llm, name)} of this model; take one that does'
            )
    if block not in (64, 128):
        _log.warning(
            'awq_block_size %d: the torch engine runs it, TensorRT-LLM knows 64 and 128', block
        )


def _write(
    directory: Path, checkpoint: Checkpoint, config: Config, language_bytes: int
) -> dict[str, Any]:
    from trt_openvla_ros.pipeline.llm_backbone import write_json
    from trt_openvla_ros.pipeline.tensor_files import stored_tensors
    from trt_openvla_ros.pipeline.trtllm_export import trtllm_config, write_plain

    directory.mkdir()
    settings = config.quantize
    backbone = checkpoint.path / LLM_BACKBONE
    described = json.loads((backbone / 'config.json').read_text(encoding='utf-8'))
    facts: dict[str, Any] = {'qformat': settings.qformat, 'dtype': settings.dtype}
    if settings.qformat == 'bf16':
        stored = {}
        for file in sorted(backbone.glob('*.safetensors')):
            stored |= stored_tensors(file)
        write_plain(directory / 'rank0.safetensors', stored, checkpoint.llm, settings.dtype)
        quantization: dict[str, Any] = {'quant_algo': None, 'kv_cache_quant_algo': None}
        producer = {'name': 'trt_openvla_ros', 'version': package_version()}
    else:
        # The model, and what is being exported of it.
        check_memory(
            int(2.2 * language_bytes) + _SPARE,
            'use a machine with more, or set quantize.qformat to bf16, which needs none',
        )
        facts |= _quantise(directory, checkpoint, config)
        exported = json.loads((directory / 'config.json').read_text(encoding='utf-8'))
        quantization, producer = exported['quantization'], exported['producer']
    write_json(
        directory / 'config.json',
        trtllm_config(
            checkpoint.llm,
            described['architectures'][0],
            settings.dtype,
            quantization,
            producer,
        ),
    )
    weights = directory / 'rank0.safetensors'
    return {
        **facts,
        'quantization': quantization,
        'bytes': weights.stat().st_size,
        'tensors': len(stored_tensors(weights)),
    }


def _quantise(directory: Path, checkpoint: Checkpoint, config: Config) -> dict[str, Any]:
    """Calibrate, quantise and export with modelopt."""
    from trt_openvla_ros.engines.placement import resolve_placement
    from trt_openvla_ros.pipeline.calibration import (
        calibration_inputs,
        encode_images,
        prompter_of,
    )
    from trt_openvla_ros.pipeline.modelopt_export import export, load_backbone

    settings = config.quantize
    if not (settings.folder or settings.bag):
        _log.warning(
            'calibrating on the simulated table: right for models trained on it; for a robot set '
            'quantize.folder or quantize.bag to images of it with instructions'
        )
    frames = collect_frames(settings, 'quantize', _FIRST_SEED)
    device, dtype = resolve_placement(config.device, None)
    images = encode_images(checkpoint, frames, device, dtype)
    model = load_backbone(checkpoint.path / LLM_BACKBONE, device)
    prompter = prompter_of(checkpoint, config.prompt_style)
    inputs = calibration_inputs(model, prompter, frames, images, settings.answer_tokens)
    export(
        model,
        inputs,
        directory,
        qformat=settings.qformat,
        fp8_cache=settings.kv_cache != 'none' and settings.qformat == 'fp8',
        awq_block_size=settings.awq_block_size,
        dtype=settings.dtype,
    )
    return {
        'calibrated_on': settings.source,
        'frames': len(frames),
        'positions': sum(entry.shape[1] for entry in inputs),
        'device': str(device),
    }
