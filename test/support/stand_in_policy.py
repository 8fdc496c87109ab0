"""A policy without a model, for tests of what asks policies. It keeps the protocol strictly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np

from trt_openvla_ros.checkpoints.preprocessor import write_preprocessor
from trt_openvla_ros.contracts import (
    ActionStatistics,
    Description,
    Prediction,
    PreparedImage,
    Transcript,
)
from trt_openvla_ros.errors import EngineError
from trt_openvla_ros.policy.actions import ActionTokens
from trt_openvla_ros.policy.images import check_image, ImageProcessor, refuse_unused
from trt_openvla_ros.policy.prompt import make_prompt, PROMPT_STYLES
from trt_openvla_ros.policy.reasoning import parse_fields
from trt_openvla_ros.timings import PARTS

TOKENS = ActionTokens(32000)
_LIMITS = np.array([0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0])  # m, rad, gripper
_MASK = np.array([True] * 6 + [False])
STATISTICS = {
    'first_arm': ActionStatistics(-_LIMITS, _LIMITS, _MASK),
    'second_arm': ActionStatistics(-2 * _LIMITS, 2 * _LIMITS, _MASK),
}
DESCRIPTION = Description(
    checkpoint='/models/stand_in',
    engine='stand_in',
    dtype='float32',
    device='cpu',
    unnorm_key='first_arm',
    statistics=STATISTICS,
    prompt_style='openvla',
    prompt=PROMPT_STYLES['openvla'].template,
    reasons=False,
    special_tokens=('<s>', '</s>'),
    llm_backbone='llama2-7b-pure',
    vision_towers=('vit_large_patch14_reg4_dinov2.lvd142m',),
    image_tokens=4,
    preprocessor=write_preprocessor(28, [([0.5] * 3, [0.5] * 3)], letterbox=False),
)


@dataclass(frozen=True)
class Asked:
    """What one call of predict was given."""

    image: np.ndarray
    instruction: str
    unnorm_key: str | None
    wrist_images: Sequence[np.ndarray]
    state: np.ndarray | None
    verbatim: bool


class StandInPolicy:
    """Answers every image at once.

    Attributes:
        description: DESCRIPTION, with the changes that were asked for.
        calls: What predict was given, in order; failed calls are in it too.
        error: predict raises it, if it is set.
        closed: close was called.
    """

    def __init__(
        self,
        normalised: np.ndarray | None = None,
        reasoning: str = '',
        takes_more: bool = False,
        **changes: Any,
    ) -> None:
        """Decide what it answers.

        Args:
            normalised: [D] or [H, D] in [-1, 1], the answer to every image. None makes one step
                of the image: each entry is -1 for black, 1 for white.
            reasoning: Written before every action; it is told word by word.
            takes_more: Wrist images and a state are taken, and change nothing.
            **changes: Of the description.
        """
        self._fixed = None if normalised is None else np.atleast_2d(normalised).astype(float)
        self._reasoning, self._takes_more = reasoning, takes_more
        horizon = 1 if self._fixed is None else len(self._fixed)
        changes = {'horizon': horizon, 'reasons': bool(reasoning), **changes}
        self.description = replace(DESCRIPTION, **changes)
        self.calls: list[Asked] = []
        self.error: Exception | None = None
        self.closed = False
        self._processor = ImageProcessor.from_config(self.description.preprocessor)
        self._busy = Lock()

    def check(
        self, instruction: str, unnorm_key: str | None = None, *, verbatim: bool = False
    ) -> None:
        self.description.find(unnorm_key)
        self._prompt(instruction, verbatim)

    def predict(
        self,
        image: np.ndarray | PreparedImage,
        instruction: str,
        unnorm_key: str | None = None,
        *,
        wrist_images: Sequence[np.ndarray] = (),
        state: np.ndarray | None = None,
        verbatim: bool = False,
        on_reasoning: Callable[[str], None] | None = None,
    ) -> Prediction:
        assert self._busy.acquire(blocking=False), 'predict was called from two threads at once'
        try:
            asked = Asked(image, instruction, unnorm_key, wrist_images, state, verbatim)
            self.calls.append(asked)
            if self.closed:
                raise EngineError('the policy is closed; load it again')
            if not self._takes_more:
                refuse_unused(wrist_images, state)
            return self._answer(asked, on_reasoning)
        finally:
            self._busy.release()

    def prepare(self, image: np.ndarray) -> np.ndarray | PreparedImage:
        return check_image(image)

    def preview(self, image: np.ndarray | PreparedImage) -> np.ndarray:
        return self._processor.preview(image)

    def close(self) -> None:
        self.closed = True

    def _answer(self, asked: Asked, on_reasoning: Callable[[str], None] | None) -> Prediction:
        unnorm_key, statistics = self.description.find(asked.unnorm_key)
        prompt = self._prompt(asked.instruction, asked.verbatim)
        brightness = check_image(asked.image).mean() / 127.5 - 1
        if self.error is not None:
            raise self.error
        words = self._reasoning.split(' ') if self._reasoning else []
        for count in range(1, len(words) + 1):
            if on_reasoning is not None:
                on_reasoning(' '.join(words[:count]))
        normalised = self._fixed
        if normalised is None:
            normalised = np.full((1, statistics.action_dim), brightness)
        ids = TOKENS.encode(normalised).ravel()
        return Prediction(
            actions=statistics.unnormalise(normalised),
            normalised_actions=normalised,
            action_ids=ids,
            generated_ids=ids,
            reasoning=self._reasoning,
            prompt=prompt,
            unnorm_key=unnorm_key,
            reasoning_fields=parse_fields(self._reasoning),
            transcript=Transcript(np.concatenate([[1], ids]), prompt),
            timings=dict.fromkeys(PARTS, 0.001),
        )

    def _prompt(self, instruction: str, verbatim: bool) -> str:
        description = self.description
        return make_prompt(instruction, description.prompt, description.special_tokens, verbatim)
