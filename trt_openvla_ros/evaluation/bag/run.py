"""Predict for every image of a recording, and write the report."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trt_openvla_ros.bags.recording import read_pictures, read_recording, Recording
from trt_openvla_ros.bags.tracks import gripper_track, GRIPPERS, pose_track, POSES
from trt_openvla_ros.checkpoints.foreign import find_directory
from trt_openvla_ros.contracts import BasePolicy
from trt_openvla_ros.errors import ConfigError, InputError, OutputError
from trt_openvla_ros.evaluation.bag.comparison import compare, table
from trt_openvla_ros.evaluation.bag.drawing import plot, write_video
from trt_openvla_ros.evaluation.bag.progress import (
    fingerprint,
    fingerprint_of_bag,
    Progress,
    replacing,
)
from trt_openvla_ros.evaluation.bag.reference import Case, motion, recorded, Reference
from trt_openvla_ros.evaluation.bag.settings import EvaluateBagSettings, NO_NUMBERS
from trt_openvla_ros.evaluation.report import write_json
from trt_openvla_ros.policy.loading import open_policy
from trt_openvla_ros.policy.remote import RemotePolicy
from trt_openvla_ros.policy.seen_view import SeenView
from trt_openvla_ros.robot.meaning import find_meaning, Meaning, read_meanings, UNKNOWN

_DIM = 7


def evaluate(settings: EvaluateBagSettings) -> dict[str, Any]:
    """Compare a policy with a recording; write report.json, report.md, plots and the video.

    A run that was interrupted goes on where it ended.

    Returns:
        The content of report.json, without machine and versions.

    Raises:
        PolicyError: The bag, the policy or a setting cannot be used.
    """
    if not settings.bag:
        raise ConfigError('bag is empty; give a recording by `ros2 bag record`')
    path, out = Path(settings.bag).expanduser(), Path(settings.out).expanduser()
    by_motion = settings.compare == 'motion'
    extra = [
        (settings.pose_topic, POSES, 'pose_topic'),
        (settings.gripper_topic, GRIPPERS, 'gripper_topic'),
    ]
    recording = read_recording(
        path, settings, acts=not by_motion, texts=by_motion, extra=extra if by_motion else ()
    )
    reference = None if by_motion else recorded(recording)
    if reference and settings.unnorm_key not in ('', reference.unnorm_key):
        raise ConfigError(
            f'unnorm_key is {settings.unnorm_key!r}, but the actions of {path} are of '
            f'{reference.unnorm_key!r}; leave unnorm_key out, or set compare to motion'
        )
    key = settings.unnorm_key or (reference.unnorm_key if reference else '')
    policy = _open(replace(settings, unnorm_key=key))
    try:
        key, statistics = policy.description.find(None)
        if statistics.action_dim != _DIM:
            raise ConfigError(
                f'actions of {key!r} have {statistics.action_dim} dimensions, not {_DIM}'
            )
        meaning = find_meaning(read_meanings(settings.action_meanings), key)
        if reference is None:
            reference = _of_motion(recording, settings, key, meaning)
        reference = reference.spread(settings.max_frames)
        configuration = _configuration(settings, policy, path, meaning)
        # What a policy keeps of the step before is lost with its process.
        restart = settings.restart or settings.keep_reasoning > 0
        with Progress.open(out, configuration, restart) as progress:
            predict_cases(policy, reference.cases, settings, recording, progress)
            results = [progress.done[case.picture.number] for case in reference.cases]
    finally:
        policy.close()
    facts = {
        'bag': str(path),
        'compared_with': settings.compare,
        'checkpoint': policy.description.checkpoint,
        'unnorm_key': key,
        'meaning': asdict(meaning),
        'images': len(recording.pictures),
        'left_out': reference.left_out,
        'actions_without_image': reference.unseen,
        'warning': reference.warning,
        **compare(results, meaning),
    }
    _write(facts, results, meaning, SeenView.of(policy.description), settings, out)
    return facts


def predict_cases(
    policy: BasePolicy,
    cases: list[Case],
    settings: EvaluateBagSettings,
    recording: Recording,
    progress: Progress,
) -> None:
    """Predict for each image that has no result yet, and keep the results.

    A result has the number of the image, its time in the bag, instruction, wanted and predicted
    action, recorded and predicted reasoning, timings, and why there is no prediction.

    Raises:
        PolicyError: The bag cannot be read, or the engine failed; results so far are kept.
    """
    missing = [case for case in cases if case.picture.number not in progress.done]
    numbers = [case.picture.number for case in missing]
    images = read_pictures(recording.path, settings.image_topic, numbers, settings.max_pixels)
    bar = tqdm(zip(missing, images, strict=True), 'predicting', len(cases), unit='image')
    bar.update(len(cases) - len(missing))
    first = cases[0].picture.time
    for case, image in bar:
        result = {
            'number': case.picture.number,
            'seconds': round((case.picture.time - first) / 1e9, 6),
            'stamp': case.picture.stamp,
            'instruction': case.instruction,
            'wanted': case.wanted.tolist(),
            'predicted': None,
            'recorded_reasoning': case.reasoning,
            'reasoning': '',
            'refused': '',
            'timings': {},
        }
        try:
            if isinstance(image, InputError):
                raise image
            prediction = policy.predict(image, case.instruction)
        except (OutputError, InputError) as error:  # as the node, which publishes nothing then
            result['refused'] = str(error)
        else:
            result['predicted'] = prediction.action.tolist()
            result['reasoning'] = prediction.reasoning
            result['timings'] = dict(prediction.timings)
        progress.add(result)


def _open(settings: EvaluateBagSettings) -> BasePolicy:
    if not settings.server:
        return open_policy(settings)
    if settings.checkpoint:
        raise ConfigError('checkpoint and server are both given; empty one')
    return RemotePolicy(
        settings.server,
        settings.unnorm_key or None,
        timeout=settings.server_timeout,
        jpeg_quality=settings.jpeg_quality,
        max_forced_tokens=settings.max_forced_tokens,
        camera=settings,
    )


def _of_motion(
    recording: Recording, settings: EvaluateBagSettings, key: str, meaning: Meaning
) -> Reference:
    rate = settings.control_rate or meaning.control_rate
    numbers = [
        name
        for name in ('translation_unit', 'rotation_unit', 'rotation', 'frame')
        if getattr(meaning, name) in (0.0, UNKNOWN)
    ]
    angles, pose = settings.angles, []
    if angles == 'auto':
        angles = 'subtract' if meaning.reference == 'bridge' else 'compose'
        pose = ['reference'] if meaning.reference == UNKNOWN else []
    for unknown, way_out in (
        (numbers, 'state that in a YAML file, and name it by --action-meanings'),
        ([] if rate else ['control_rate'], 'set --control-rate'),
        (pose, 'set --angles to what the data set does'),
    ):
        if unknown:
            raise ConfigError(
                f'nobody knows {" and ".join(unknown)} of unnorm_key {key!r}, so no motion can be '
                f'compared; {way_out}'
            )
    poses, gripper = pose_track(recording, settings), gripper_track(recording, settings)
    return motion(recording, poses, gripper, meaning, rate, angles)


def _configuration(
    settings: EvaluateBagSettings, policy: BasePolicy, path: Path, meaning: Meaning
) -> dict[str, Any]:
    directory = find_directory(settings.checkpoint) if settings.checkpoint else None
    names = {k: v for k, v in asdict(settings).items() if k not in NO_NUMBERS}
    description = policy.description
    return {
        'settings': names,
        'bag': fingerprint_of_bag(path),
        'checkpoint': fingerprint(directory, Path(settings.out).expanduser())
        if directory
        else description.checkpoint,
        'engine': [description.engine, description.dtype, description.device],
        'camera': description.camera.to_json(),
        'meaning': asdict(meaning),
    }


def _write(
    facts: dict[str, Any],
    results: list[dict[str, Any]],
    meaning: Meaning,
    view: SeenView,
    settings: EvaluateBagSettings,
    out: Path,
) -> None:
    libraries = ('numpy', 'torch')
    with replacing(out / 'report.json') as part:
        write_json(part, facts, libraries)
    lines = [f'# {Path(settings.bag).name}', '', *_sentences(facts), '']
    if 'errors' in facts:
        with replacing(out / 'report.png') as part:
            plot(results, meaning, part)
        lines += [*table(facts), '', '![recorded and predicted actions](report.png)']
    with replacing(out / 'report.md') as part:
        part.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    if settings.video:
        numbers = [result['number'] for result in results]
        path = Path(settings.bag).expanduser()
        images = read_pictures(path, settings.image_topic, numbers, settings.max_pixels)
        bar = tqdm(images, 'drawing', len(numbers), unit='image', leave=False)
        with replacing(out / 'video.mp4') as part:
            write_video(results, iter(bar), meaning, view, part)


def _sentences(facts: dict[str, Any]) -> list[str]:
    left = ', '.join(f'{count} {reason}' for reason, count in facts['left_out'].items() if count)
    lines = [
        f'{facts["checkpoint"]} ({facts["unnorm_key"]}) is compared with '
        + (
            'the recorded actions.'
            if facts['compared_with'] == 'recorded'
            else 'the motion of the arm.'
        ),
        f'Of {facts["images"]} images {facts["frames"]} are compared'
        + (f'; left out: {left}.' if left else '.'),
    ]
    if facts['actions_without_image']:
        lines.append(f'{facts["actions_without_image"]} actions have no image in the bag.')
    if facts['refused']:
        lines.append(f'On {facts["refused"]} images there is no action: {facts["refusals"][0]}')
    if 'identical' in facts:
        lines.append(f'{facts["identical"]:.1%} of the actions are equal in every bit.')
    if 'gripper_agreement' in facts:
        lines.append(f'The gripper agrees in {facts["gripper_agreement"]:.1%}.')
    if 'latency' in facts:
        total = facts['latency']['total']
        lines.append(f'A prediction took {total["p50_ms"]} ms (p95 {total["p95_ms"]} ms).')
    if facts['warning']:
        lines.append(f'Take care: {facts["warning"]}.')
    return lines
