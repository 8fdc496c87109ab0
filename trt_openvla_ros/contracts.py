"""The protocol of a policy: its inputs, its predictions and its description.

H: steps of one prediction, D: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from trt_openvla_ros.camera_steps import CameraSteps, NO_STEPS
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.timings import Timings

# The first six numbers of an action that moves an end effector; the gripper is behind them.
MOTION = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')


class BasePolicy(Protocol):
    """The protocol of every policy: image and instruction in, actions and reasoning out.

    The local policy, the remote policy and test doubles have it. Nodes and server know nothing
    else. Any thread may call a policy, but only one at a time; only `check` and `prepare` may run
    beside another call.
    """

    @property
    def description(self) -> Description:
        """Description of the policy, which never changes."""

    def check(
        self, instruction: str, unnorm_key: str | None = None, *, verbatim: bool = False
    ) -> None:
        """Raise the errors of `predict` about these arguments, without computing anything."""

    def prepare(self, image: np.ndarray) -> np.ndarray | PreparedImage:
        """Do the part of a prediction that needs only its image; `predict` takes the result.

        Raises:
            InputError: The image cannot be used.
        """

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
        """Predict the next step or steps.

        Args:
            image: [height, width, 3] uint8 RGB of the main camera, or what `prepare` made of it.
            instruction: Instruction of the user, e.g. 'put the spoon on the towel'; or a whole
                prompt of the model's style, which policies recognise.
            unnorm_key: Data set whose statistics are applied; None takes that of the description.
            wrist_images: Images of further cameras, each like image. Models with one camera refuse
                them.
            state: [S] float state of the robot. Models that read no state refuse it.
            verbatim: Whether the model reads the instruction unchanged, whatever it looks like.
            on_reasoning: Function that gets the reasoning so far whenever it has grown. Models
                that do not reason never call it.

        Raises:
            InputError: An image, the state or the instruction cannot be used.
            ConfigError: There is no such unnorm_key.
            OutputError: The model did not write an action, or did not mean it.
            EngineError: The engine or the server did not answer.
            BrokenEngineError: An engine failed; the policy must be loaded again.
        """

    def preview(self, image: np.ndarray | PreparedImage) -> np.ndarray:
        """Give an image, or what `prepare` made of it, as the model sees it.

        Returns:
            [S, S, 3] uint8 RGB, before normalising.
        """

    def close(self) -> None:
        """Free memory and connections; the policy cannot predict any more."""


@dataclass(frozen=True)
class PreparedImage:
    """What a policy's `prepare` made of an image: [G, S, S, 3] uint8 for its engine, or server."""

    views: np.ndarray


@dataclass(frozen=True)
class Description:
    """The description of a policy: plain values, which a wire can carry.

    Attributes:
        checkpoint: Directory of the checkpoint or artifact, and its server if it has one.
        engine: Backend of the language model, e.g. 'torch'.
        dtype, device: Precision of the language model and device of the vision encoder.
        unnorm_key: Data set whose statistics are applied if a prediction names none.
        statistics: Statistics by unnorm_key.
        prompt_style: Name of the prompt's style.
        prompt: The style's template, with {instruction} in it.
        reasons: Whether the model writes text before the action.
        special_tokens: Texts that no instruction may contain.
        llm_backbone: Name of the language model, e.g. 'llama2-7b-pure'.
        vision_towers: timm ids of the vision towers.
        image_tokens: Positions that an image takes in the model's context.
        preprocessor: Content of preprocessor_config.json.
        horizon: H, steps of one prediction.
        camera: What the policy does to an image before the preprocessor does its part.
    """

    checkpoint: str
    engine: str
    dtype: str
    device: str
    unnorm_key: str
    statistics: Mapping[str, ActionStatistics]
    prompt_style: str
    prompt: str
    reasons: bool
    special_tokens: tuple[str, ...]
    llm_backbone: str
    vision_towers: tuple[str, ...]
    image_tokens: int
    preprocessor: Mapping[str, Any]
    horizon: int = 1
    camera: CameraSteps = NO_STEPS

    def find(self, unnorm_key: str | None) -> tuple[str, ActionStatistics]:
        """Find the statistics of a data set; None takes the unnorm_key of the policy.

        Raises:
            ConfigError: There is no such key; the message lists all with their ranges.
        """
        return find_statistics(self.statistics, unnorm_key or self.unnorm_key, self.checkpoint)


@dataclass(frozen=True)
class Prediction:
    """The answer of a policy.

    Attributes:
        actions: [H, D] float64 in the units of the data set: x, y, z, rotation, gripper.
        normalised_actions: [H, D] float64 in [-1, 1], before statistics were applied.
        action_ids: [N] int64 token ids of the actions, D a step; none if another head gives them.
        generated_ids: [T] int64, the whole answer: kept reasoning, all that was written, its end.
        reasoning: Text before the action; '' for models that do not reason.
        prompt: Text that the model read.
        unnorm_key: Data set whose statistics were applied.
        reasoning_fields: The text by tag ('PLAN', 'MOVE', ...), in the order written.
        out_of_range: Number of forced tokens: action ids that an unconstrained argmax would have
            put outside the action range; 0 for a healthy model.
        passes: Runs of the language model; 0 if not known.
        timings: Seconds by part.
        transcript: Prompt and answer together; None from a server, because no wire carries it.
    """

    actions: np.ndarray
    normalised_actions: np.ndarray
    action_ids: np.ndarray
    generated_ids: np.ndarray
    reasoning: str
    prompt: str
    unnorm_key: str
    timings: Timings
    reasoning_fields: dict[str, str] = field(default_factory=dict)
    out_of_range: int = 0
    passes: int = 0
    transcript: Transcript | None = None

    @property
    def action(self) -> np.ndarray:
        """[D] float64, the first of the actions."""
        return self.actions[0]

    @property
    def normalised_action(self) -> np.ndarray:
        """[D] float64 in [-1, 1], the first of the normalised actions."""
        return self.normalised_actions[0]


@dataclass(frozen=True)
class Transcript:
    """Prompt and answer together, without the end of sequence.

    Attributes:
        ids: [L] int64. Ids from the model's vocabulary size on stand for the image.
        text: The ids as text; special tokens and the image have none.
    """

    ids: np.ndarray
    text: str


@dataclass(frozen=True)
class ActionStatistics:
    """The statistics with which one data set normalised its actions.

    Attributes:
        q01, q99: [D] float64 in the data set's units (docs/actions.md).
        mask: [D] bool; False for entries that keep the model's value (the gripper).
    """

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    def __post_init__(self) -> None:
        """Raise ConfigError for vectors of two lengths, a value not finite or a reversed range."""
        shapes = self.q01.shape, self.q99.shape, self.mask.shape
        if self.q01.ndim != 1 or not self.q01.size or len(set(shapes)) != 1:
            raise ConfigError(
                'q01, q99 and mask have the shapes {}, {} and {}; one vector of the same length '
                'is needed'.format(*shapes)
            )
        if not (np.isfinite(self.q01).all() and np.isfinite(self.q99).all()):
            raise ConfigError('q01 or q99 is not finite')
        with np.errstate(over='ignore'):
            span = self.q99 - self.q01
        wrong = np.flatnonzero(np.isinf(span) | np.where(self.mask, span < 0, False))
        if len(wrong):
            at = wrong[0]
            raise ConfigError(
                f'dimension {at} ranges from q01 = {self.q01[at]:g} to q99 = {self.q99[at]:g}; '
                'q99 must be the larger one, and their difference finite'
            )

    @property
    def action_dim(self) -> int:
        """D, dimensions of an action."""
        return len(self.q01)

    def unnormalise(self, normalised: np.ndarray) -> np.ndarray:
        """Map [..., D] float64 in [-1, 1] to the action's units; entries outside the mask stay.

        Source: predict_action of openvla/openvla (no 1e-8 term, unlike the training code).
        """
        scaled = 0.5 * (normalised + 1) * (self.q99 - self.q01) + self.q01
        return np.where(self.mask, scaled, normalised)

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest action, each [D] float64 in the action's units."""
        return np.where(self.mask, self.q01, -1.0), np.where(self.mask, self.q99, 1.0)

    def describe(self) -> str:
        """Write the ranges, one bracket for each dimension."""
        return ' '.join(f'[{a:.4g}, {b:.4g}]' for a, b in zip(*self.limits, strict=True))


def find_statistics(
    statistics: Mapping[str, ActionStatistics], unnorm_key: str | None, source: object
) -> tuple[str, ActionStatistics]:
    """Find the statistics of a data set; '' or None stands for none, and source is for messages.

    Raises:
        ConfigError: There is no such key; the message lists all with their ranges.
    """
    if unnorm_key not in statistics:
        lines = ''.join(f'\n  {name}: {one.describe()}' for name, one in statistics.items())
        asked = f'unnorm_key {unnorm_key!r} is not in' if unnorm_key else 'no unnorm_key for'
        raise ConfigError(
            f'{asked} {source}; its keys and their ranges '
            f"(x y z, rotation, gripper, in the data set's units):{lines}"
        )
    return unnorm_key, statistics[unnorm_key]
