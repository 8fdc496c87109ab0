"""Stage verify: comparison of every engine with the original checkpoint, on fixed frames.

The policy node refuses an artifact that failed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints.artifact import VERIFICATION
from trt_openvla_ros.checkpoints.json_files import write_json
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.base import DTYPES
from trt_openvla_ros.errors import ArtifactError, OutputError
from trt_openvla_ros.pipeline.artifact import Artifact
from trt_openvla_ros.pipeline.frames import collect_frames, FrameSettings, recorded, source_key
from trt_openvla_ros.pipeline.machine import check_memory
from trt_openvla_ros.pipeline.settings import Common
from trt_openvla_ros.pipeline.verify.candidates import (
    Candidate,
    list_candidates,
    not_compared,
    run_here,
)
from trt_openvla_ros.pipeline.verify.comparison import Answer, answers, compare
from trt_openvla_ros.policy.spec import ModelSpec
from trt_openvla_ros.settings import setting

if TYPE_CHECKING:
    import torch

# Scenes that neither training nor calibration nor evaluation uses.
_FIRST_SEED = 3_000_000
_SPARE = 2_000_000_000  # bytes beside the weights
_ROTATIONS = ('roll', 'pitch', 'yaw')
_TRANSLATIONS = ('x', 'y', 'z')
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings(FrameSettings):
    """The settings of verify: frames, precision and thresholds."""

    dtype: str = setting(
        '',
        'Precision of the torch engines; if empty, bfloat16 on a GPU and float32 on the CPU.',
        choices=('', *DTYPES),
    )
    min_token_agreement: float = setting(
        0.8,
        'Smallest accepted share of generated tokens that equal those of the original.',
        low=0.0,
        high=1.0,
    )
    max_translation_error: float = setting(
        0.002,
        'Largest accepted mean error along an axis [unit of the data set: m for bridge_orig].',
        low=0.0,
        high=1.0,
    )
    max_rotation_error: float = setting(
        0.01,
        'Largest accepted mean error about an axis [unit of the data set: rad for bridge_orig].',
        low=0.0,
        high=3.15,
    )
    max_gripper_error: float = setting(
        0.1,
        "Largest accepted mean error of the gripper, in the data set's unit.",
        low=0.0,
        high=1e3,
    )
    max_logits_error: float = setting(
        0.1,
        "Largest accepted distance of the first token's logits, relative to their length.",
        low=0.0,
        high=10.0,
    )
    max_vision_error: float = setting(
        0.05,
        'Largest accepted distance of the image embeddings, relative to their length.',
        low=0.0,
        high=10.0,
    )


def run(settings: Settings, common: Common, artifact: Artifact) -> dict[str, Any]:
    """Compare the engines, and record the verdict in the manifest.

    Raises:
        ArtifactError: An engine is too far from the original; the manifest records that too.
        ConfigError: There are no frames, or a setting does not fit.
        EngineError: An engine cannot be used here.
        OutputError: The original itself gives no actions on these frames.
    """
    artifact.facts('save_backbone')
    checkpoint = Checkpoint.open(common.checkpoint)
    steps = common.steps(Checkpoint.open(artifact.path))
    files = {f'original/{name}': file for name, file in checkpoint.files.items()}
    files |= {name: artifact.path / name for name in artifact.manifest.entries() - {VERIFICATION}}
    images = recorded(settings, 'verify')
    if images:
        files['frames'] = images
    facts = artifact.make(
        'verify',
        settings={
            **asdict(settings),
            **source_key(settings),
            'runs_here': run_here(artifact.manifest),
            **{name: getattr(common, name) for name in ('device', 'unnorm_key', 'prompt_style')},
            'max_new_tokens': common.max_new_tokens,
            'camera': steps.to_json(),
        },
        inputs=files,
        work=lambda directory: _verify(directory, checkpoint, artifact, settings, common, steps),
    )
    if facts['failures']:
        raise ArtifactError(
            f'{artifact.path} is too far from {checkpoint.path}: {"; ".join(facts["failures"])}. '
            'The policy node refuses it. Try another quantize.qformat, more calibration frames or '
            'other thresholds in verify'
        )
    return facts


def _verify(
    directory: Path,
    checkpoint: Checkpoint,
    artifact: Artifact,
    settings: Settings,
    common: Common,
    steps: CameraSteps,
) -> dict[str, Any]:
    frames = collect_frames(settings, 'verify', _FIRST_SEED)
    place = _placement(settings, common, checkpoint)

    def ask(candidate: Candidate, of: Checkpoint) -> list[Answer]:
        spec = ModelSpec.read(
            of,
            common.unnorm_key or None,
            common.prompt_style or None,
            max_new_tokens=common.max_new_tokens,
            camera=steps,  # of the artifact, whatever the original tells
        )
        # Candidates run one at a time: `answers` frees the engines before the next are loaded.
        return answers(spec, candidate.open(spec.lengths, place), frames, candidate.name)

    original = ask(Candidate('original', 'torch', checkpoint, 'torch', checkpoint), checkpoint)
    if all(answer.action is None for answer in original):
        raise OutputError(
            f'{checkpoint.path} itself gives no action on any of {len(frames)} frames; set '
            'verify.folder or verify.bag to images and instructions that the model was trained for'
        )
    facts: dict[str, Any] = {
        'device': str(place[0]),
        'dtype': str(place[1]).removeprefix('torch.'),
        'frames': len(frames),
        'frames_from': settings.source,
        'camera': str(steps),
        'original_without_action': sum(answer.action is None for answer in original),
        'engines': {},
        'failures': [],
    }
    split = Checkpoint.open(artifact.path)
    found: dict[str, list[Answer]] = {}
    for candidate in list_candidates(split, checkpoint):
        name = candidate.name
        found[name] = ask(candidate, split)
        measured = compare(original, found[name])
        failures = [f'{name}: {failure}' for failure in judge(measured, settings)]
        facts['engines'][name] = {**measured, 'passed': not failures}
        facts['failures'] += failures
    facts['not_compared'] = not_compared(artifact.manifest)
    for text in facts['not_compared']:
        _log.warning('verify: %s', text)
    report = {
        frame.name: {
            'instruction': frame.instruction,
            'original': _row(original[index]),
            **{name: _row(given[index]) for name, given in found.items()},
        }
        for index, frame in enumerate(frames)
    }
    write_json(directory / VERIFICATION, {'summary': facts, 'frames': report})
    return facts


def judge(measured: dict[str, Any], settings: Settings) -> list[str]:
    """Check the measurements of `compare` against the thresholds; give a clause per failure."""
    failures = []
    if measured['no_action']:
        failures.append(f'no action on {measured["no_action"]} of {measured["frames"]} frames')
    if not measured['token_agreement'] >= settings.min_token_agreement:
        failures.append(
            f'{measured["token_agreement"]:.1%} of tokens agree (at least '
            f'{settings.min_token_agreement:.1%} wanted)'
        )
    for axis, error in measured['action_error'].items():
        if axis in _TRANSLATIONS:
            limit, unit = settings.max_translation_error, 'm'
        elif axis in _ROTATIONS:
            limit, unit = settings.max_rotation_error, 'rad'
        else:
            limit, unit = settings.max_gripper_error, 'of the gripper'
        if not error['mean'] <= limit:
            failures.append(f'{axis} is off by {error["mean"]:.3g} {unit} (at most {limit:g})')
    for name, text in (('logits', 'logits'), ('vision', 'image embeddings')):
        error, limit = measured[f'{name}_error'], getattr(settings, f'max_{name}_error')
        if not error <= limit:
            failures.append(f'{text} are off by {error:.2g} of their length (at most {limit:g})')
    return failures


def _placement(
    settings: Settings, common: Common, checkpoint: Checkpoint
) -> tuple[torch.device, torch.dtype]:
    from trt_openvla_ros.engines.placement import resolve_placement

    device, dtype = resolve_placement(common.device, settings.dtype)
    if device.type == 'cpu':
        stored = sum(shard.path.stat().st_size for shard in checkpoint.shards)
        check_memory(
            # Values are stored in 2 bytes; the largest matrices are joined while they are loaded.
            int(1.2 * stored * dtype.itemsize / 2) + _SPARE,
            'set device to a GPU, or verify.dtype to bfloat16',
        )
    return device, dtype


def _row(answer: Answer) -> dict[str, Any]:
    return {
        'action': None if answer.action is None else answer.action.tolist(),
        'ids': answer.ids.tolist(),
        'seconds': answer.seconds,
    }
