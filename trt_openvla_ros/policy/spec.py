"""The specification of a model: all that is known before its weights are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import logging

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints.released import Checkpoint, PREPROCESSOR
from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.contracts import ActionStatistics, Description
from trt_openvla_ros.engines.base import Decoding, Drafter, Engines, Lengths
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.policy.actions import ActionTokens
from trt_openvla_ros.policy.camera import camera_steps
from trt_openvla_ros.policy.images import ImageProcessor
from trt_openvla_ros.policy.prompt import (
    check_vocabulary,
    prompt_style_of,
    PROMPT_STYLES,
    Prompter,
)
from trt_openvla_ros.policy.reasoning import ACTION_TAG, ReasoningStream
from trt_openvla_ros.policy.views import Views
from trt_openvla_ros.safety.gate import MAX_FORCED_TOKENS

_log = logging.getLogger(__name__)

# The longest answer of Embodied-CoT's reference; its reasoning takes about 350 tokens.
MAX_NEW_TOKENS = 1024
# With the id before it a draft has 32 rows, one of the sizes that CUDA captures. On tiny_ecot 15
# take a CPU as long, in 5 % more passes, and 63 save no more.
DRAFT_TOKENS = 31
# An instruction that every engine must have room for.
SHORT_INSTRUCTION = 'pick up the cup'


@dataclass(frozen=True)
class ModelSpec:
    """The form of a model's inputs, and the meaning of its answers.

    It is read before any engine is opened, so a wrong setting does not cost the minutes of
    loading.

    Attributes:
        checkpoint: Checkpoint of the model.
        views: Converter of images to the views of the vision towers.
        prompt_style: Key of PROMPT_STYLES.
        prompter: Converter of instructions to token ids.
        tokens: Converter of token ids to bins.
        statistics: Statistics that turn bins into units, by unnorm_key.
        unnorm_key: Data set whose statistics are applied if a prediction names none.
        max_new_tokens: Most tokens of an answer with reasoning.
        constrain: Whether ids are restricted to the action range once the action has begun.
        max_forced_tokens: Most tokens of an action that this restriction may change.
        draft_tokens: Most tokens of a draft; 0 for no drafts.
        keep_reasoning: Steps for which high-level reasoning is kept.
    """

    checkpoint: Checkpoint
    views: Views
    prompt_style: str
    prompter: Prompter
    tokens: ActionTokens
    statistics: Mapping[str, ActionStatistics]
    unnorm_key: str
    max_new_tokens: int
    constrain: bool
    max_forced_tokens: int
    draft_tokens: int
    keep_reasoning: int

    @classmethod
    def read(
        cls,
        checkpoint: Checkpoint,
        unnorm_key: str | None = None,
        prompt_style: str | None = None,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        constrain: bool = True,
        max_forced_tokens: int = MAX_FORCED_TOKENS,
        draft_tokens: int = DRAFT_TOKENS,
        keep_reasoning: int = 0,
        camera: CameraSteps | None = None,
    ) -> ModelSpec:
        """Read a specification; the arguments are those of `Policy.from_checkpoint`.

        But camera has the steps themselves; None takes those that the checkpoint tells.

        Raises:
            ConfigError: An argument or a file does not fit the checkpoint.
        """
        if max_new_tokens < 1:
            raise ConfigError(f'max_new_tokens is {max_new_tokens}; at least 1 is needed')
        for name, value in (('draft_tokens', draft_tokens), ('keep_reasoning', keep_reasoning)):
            if value < 0:
                raise ConfigError(f'{name} is {value}; at least 0 is needed')
        key = checkpoint.find_statistics(unnorm_key)[0]
        processor = ImageProcessor.from_config(
            checkpoint.preprocessor, checkpoint.path / PREPROCESSOR
        )
        _check_sizes(processor, checkpoint)
        tokenizer = Tokenizer(checkpoint.path)
        style, rule = prompt_style, 'the parameter prompt_style'
        if not style:
            style, rule = prompt_style_of(checkpoint.llm_backbone_id, checkpoint.norm_stats)
        if style not in PROMPT_STYLES:
            raise ConfigError(f'unknown prompt_style {style!r}; known: {", ".join(PROMPT_STYLES)}')
        _log.info('prompt style %s: %s', style, rule)
        check_vocabulary(tokenizer, checkpoint)
        return cls(
            checkpoint=checkpoint,
            views=Views(processor, camera or camera_steps(checkpoint)),
            prompt_style=style,
            prompter=Prompter(tokenizer, PROMPT_STYLES[style]),
            tokens=ActionTokens(tokenizer.vocab_size, checkpoint.action_bins),
            statistics=checkpoint.statistics,
            unnorm_key=key,
            max_new_tokens=max_new_tokens,
            constrain=constrain,
            max_forced_tokens=max_forced_tokens,
            draft_tokens=draft_tokens,
            keep_reasoning=keep_reasoning,
        )

    @property
    def lengths(self) -> Lengths:
        """Lengths of the prompt and of the answer."""
        _, ids = self.prompter(SHORT_INSTRUCTION)
        return Lengths(len(ids), self.decoding(self.statistics[self.unnorm_key]).max_new_tokens)

    def decoding(
        self,
        statistics: ActionStatistics,
        on_reasoning: Callable[[str], None] | None = None,
        drafter: Drafter | None = None,
        kept: Sequence[int] = (),
    ) -> Decoding:
        """Make the rules for generating an action.

        Args:
            statistics: Statistics of the action.
            on_reasoning: Function that gets the reasoning so far.
            drafter: Drafter of the answer.
            kept: Ids of the answer that stand behind the prompt already.
        """
        reasons, tokenizer = self.prompter.style.reasons, self.prompter.tokenizer
        stream = None
        if reasons and on_reasoning:
            tell = ReasoningStream(tokenizer.decode, on_reasoning)
            stream = (lambda ids: tell([*kept, *ids])) if kept else tell
        return Decoding(
            max_new_tokens=max(1, self.max_new_tokens - len(kept))
            if reasons
            else statistics.action_dim,
            eos_id=tokenizer.eos_id,
            actions=(self.tokens.first, self.tokens.vocab_size),
            action_dim=statistics.action_dim,
            action_begins=lambda ids: tokenizer.decode(ids).rstrip().endswith(ACTION_TAG),
            action_first=not reasons,
            constrain=self.constrain,
            drafter=drafter,
            on_ids=stream,
        )

    def describe(self, engines: Engines) -> Description:
        """Describe the policy that consists of this model and these engines."""
        checkpoint, style = self.checkpoint, self.prompter.style
        return Description(
            checkpoint=str(checkpoint.path.absolute()),
            engine=engines.name,
            dtype=str(engines.language.dtype).removeprefix('torch.'),
            device=str(engines.vision.device),
            unnorm_key=self.unnorm_key,
            statistics=self.statistics,
            prompt_style=self.prompt_style,
            prompt=style.template,
            reasons=style.reasons,
            special_tokens=self.prompter.tokenizer.special,
            llm_backbone=checkpoint.llm_backbone_id,
            vision_towers=tuple(tower.timm_id for tower in checkpoint.towers),
            image_tokens=checkpoint.image_tokens,
            preprocessor=checkpoint.preprocessor,
            camera=self.views.steps,
        )


def _check_sizes(processor: ImageProcessor, checkpoint: Checkpoint) -> None:
    prepared = [branch.geometry.crop for branch in processor.branches]
    wanted = [(tower.image_size, tower.image_size) for tower in checkpoint.towers]
    if prepared != wanted:
        raise ConfigError(
            f'{checkpoint.path}: preprocessor_config.json makes images of {prepared}, but the '
            f'vision towers of config.json want {wanted}'
        )
