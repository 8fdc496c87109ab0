"""Comparison of the answers of a reference and of a candidate to the same frames.

D: dimensions of an action, V: vocabulary, N: image embeddings, W: their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from trt_openvla_ros.contracts import MOTION
from trt_openvla_ros.engines.base import computing, Engines
from trt_openvla_ros.errors import OutputError
from trt_openvla_ros.pipeline.frames import Frame
from trt_openvla_ros.policy.local import Policy
from trt_openvla_ros.policy.spec import ModelSpec

AXES = (*MOTION, 'gripper')


@dataclass(frozen=True)
class Answer:
    """A policy's answer to one frame.

    Attributes:
        embeddings: Image embeddings [N, W] float32.
        logits: Logits [V] float32 of the first generated token.
        ids: Generated token ids; empty if the model gave no action.
        action: Action [D] float64 in the data set's units; None if the model gave no action.
        seconds: Time [s] of the whole step.
    """

    embeddings: np.ndarray
    logits: np.ndarray
    ids: np.ndarray
    action: np.ndarray | None
    seconds: float


def answers(spec: ModelSpec, engines: Engines, frames: Sequence[Frame], text: str) -> list[Answer]:
    """Ask a policy about frames, then close its engines and free their memory.

    Args:
        spec: Specification of the model.
        engines: Engines of the same model; they are closed even if a prediction fails.
        frames: Images with instructions.
        text: Text of the progress bar.

    Raises:
        PolicyError: The policy cannot be used.
    """
    policy = Policy(spec, engines)
    try:
        return [_answer(policy, frame) for frame in tqdm(frames, desc=text, unit='frame')]
    finally:
        policy.close()


def compare(wanted: Sequence[Answer], found: Sequence[Answer]) -> dict[str, Any]:
    """Summarise the differences of found from wanted, over the frames for which wanted acts.

    Returns:
        frames: Number of these frames.
        token_agreement: Share of the generated ids that are the same at the same place.
        action_error: Mean and largest absolute difference of each dimension [m, rad, gripper].
        logits_error: Largest distance of a frame's logits, relative to their length.
        vision_error: The same for image embeddings.
        no_action: Number of frames for which found has no action.
        seconds_per_frame: Median time [s] of a step of found.
    """
    pairs = [(w, f) for w, f in zip(wanted, found, strict=True) if w.action is not None]
    same = [_agreement(w.ids, f.ids) for w, f in pairs]
    differences = np.array([abs(f.action - w.action) for w, f in pairs if f.action is not None])
    return {
        'frames': len(pairs),
        'token_agreement': float(np.mean(same)) if same else 0.0,
        'action_error': {
            axis: {'mean': float(column.mean()), 'max': float(column.max())}
            for axis, column in zip(_names(pairs), differences.T, strict=False)
        }
        if len(differences)
        else {},
        'logits_error': max((_distance(w.logits, f.logits) for w, f in pairs), default=0.0),
        'vision_error': max(
            (_distance(w.embeddings, f.embeddings) for w, f in pairs), default=0.0
        ),
        'no_action': sum(f.action is None for _, f in pairs),
        'seconds_per_frame': float(np.median([f.seconds for _, f in pairs])) if pairs else 0.0,
    }


def _answer(policy: Policy, frame: Frame) -> Answer:
    # Embeddings and logits come from the engines, because a prediction does not contain them.
    spec, engines = policy.spec, policy.engines
    _, ids = spec.prompter(frame.instruction)
    with computing():
        embeddings = engines.vision.encode(spec.views(frame.image))
        logits = engines.language.first_logits(ids, embeddings)
    seen = np.asarray(embeddings.float().cpu(), np.float32)
    try:
        prediction = policy.predict(frame.image, frame.instruction)
    except OutputError:
        return Answer(seen, logits, np.zeros(0, np.int64), None, 0.0)
    seconds = prediction.timings['total']
    return Answer(seen, logits, prediction.generated_ids, prediction.action, seconds)


def _agreement(wanted: np.ndarray, found: np.ndarray) -> float:
    """Give the share of the longer answer whose ids are the same at the same place."""
    both = min(len(wanted), len(found))
    return float((wanted[:both] == found[:both]).sum() / max(len(wanted), len(found), 1))


def _distance(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def _names(pairs: Sequence[tuple[Answer, Answer]]) -> list[str]:
    count = len(pairs[0][0].action)
    return list(AXES) if count == len(AXES) else [f'dimension {i}' for i in range(count)]
