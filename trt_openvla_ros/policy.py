"""The policy: the one place that knows the order image, prompt, engines, ids, action."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import time

import numpy as np

from trt_openvla_ros.actions import ActionStatistics, ActionTokens, find_statistics
from trt_openvla_ros.checkpoint import Checkpoint
from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.engines import computing, free_memory, open_engines
from trt_openvla_ros.engines.base import Decoding, LanguageEngine, Lengths, VisionEngine
from trt_openvla_ros.errors import ConfigError, EngineError
from trt_openvla_ros.images import ImageProcessor
from trt_openvla_ros.prompt import (
    check_vocabulary,
    prompt_style_of,
    PROMPT_STYLES,
    Prompter,
    Tokenizer,
)
from trt_openvla_ros.reasoning import ACTION_TAG, parse_fields, ReasoningStream, split_answer

# The longest answer of Embodied-CoT's reference; its reasoning takes about 350 tokens.
MAX_NEW_TOKENS = 1024

_SHORT = 'pick up the cup'  # an instruction that every engine must have room for


class Policy:
    """An OpenVLA-family model: image and instruction in, action and reasoning out.

    Not safe for calls from two threads at once.

    Attributes:
        image_tokens: How many positions an image takes in the model's context.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        load_engines: Callable[[Lengths], tuple[VisionEngine, LanguageEngine]],
        *,
        unnorm_key: str | None,
        prompt_style: str | None,
        max_new_tokens: int,
        constrain: bool,
    ) -> None:
        """Put a policy together and test it; from_checkpoint is the usual way.

        Raises:
            ConfigError: An argument or a file does not fit the checkpoint.
            EngineError: The self-test found that the image does not matter.
        """
        if max_new_tokens < 1:
            raise ConfigError(f'max_new_tokens is {max_new_tokens}; at least 1 is needed')
        self.checkpoint = checkpoint
        self.max_new_tokens = max_new_tokens
        self.constrain = constrain
        self.processor = ImageProcessor.from_config(checkpoint.preprocessor)
        _check_sizes(self.processor, checkpoint)
        tokenizer = Tokenizer(checkpoint.path)
        style = prompt_style or prompt_style_of(
            checkpoint.llm_backbone_id, tuple(checkpoint.norm_stats)
        )
        if style not in PROMPT_STYLES:
            raise ConfigError(f'unknown prompt_style {style!r}; known: {", ".join(PROMPT_STYLES)}')
        self.prompter = Prompter(tokenizer, PROMPT_STYLES[style])
        check_vocabulary(tokenizer, checkpoint)
        self.tokens = ActionTokens(
            tokenizer.vocab_size, checkpoint.config.get('n_action_bins', 256)
        )
        self.set_unnorm_key(unnorm_key)
        # Last, because it takes minutes for large models and what stands above may refuse.
        _, ids = self.prompter(_SHORT)
        longest = self._decoding(self._normalisation[1]).max_new_tokens
        with computing():
            self.vision, self.language = load_engines(Lengths(len(ids), longest))
        try:
            self._self_test()
        except Exception:
            self.close()
            raise

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        unnorm_key: str | None = None,
        engine: str = 'torch',
        device: str | None = None,
        dtype: str | None = None,
        prompt_style: str | None = None,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        constrain: bool = True,
        vision_engine: str | None = None,
    ) -> Policy:
        """Load a checkpoint in the released Hugging Face layout, or an artifact of the pipeline.

        Args:
            path: Directory ('~' is your home), or a Hub id where a network exists. Of an
                artifact the quantised language model is used.
            unnorm_key: Data set whose statistics turn bins into units; may be left out when
                the checkpoint has one.
            engine: Backend of the language model; 'torch' or 'tensorrt_llm'.
            device: Torch device name; None takes a GPU where there is one.
            dtype: Torch dtype name; None is bfloat16 on GPUs and float32 on CPUs.
            prompt_style: 'openvla', 'vicuna' (Embodied-CoT) or 'vicuna_v01'; None decides
                from the checkpoint.
            max_new_tokens: Most tokens an answer with reasoning may have.
            constrain: Restrict ids to the action range once the action began.
            vision_engine: Backend of the vision encoder; 'torch' or 'tensorrt'. None is torch, or
                tensorrt where engine is tensorrt_llm and the artifact has such a vision engine.

        Raises:
            ConfigError: The checkpoint or an argument cannot be used.
            EngineError: The backend cannot be used, or the image does not matter to it.
        """
        checkpoint = Checkpoint.open(path)
        return cls(
            checkpoint,
            lambda lengths: open_engines(
                engine, checkpoint, device, dtype, lengths, vision_engine
            ),
            unnorm_key=unnorm_key,
            prompt_style=prompt_style,
            max_new_tokens=max_new_tokens,
            constrain=constrain,
        )

    def statistics(self, unnorm_key: str | None) -> tuple[str, ActionStatistics]:
        """Find the statistics of a data set; None is allowed when there is only one.

        Raises:
            ConfigError: There is no such key; the message lists all with their ranges.
        """
        return find_statistics(self.checkpoint.norm_stats, unnorm_key, self.checkpoint.path)

    def set_unnorm_key(self, unnorm_key: str | None) -> None:
        """Apply another data set's statistics from the next prediction on.

        Raises:
            ConfigError: There is no such key; nothing changes.
        """
        # One assignment, so that a prediction in another thread sees both or neither.
        self._normalisation = self.statistics(unnorm_key)

    @property
    def unnorm_key(self) -> str:
        """The data set whose statistics are applied."""
        return self._normalisation[0]

    @property
    def origin(self) -> dict[str, str]:
        """What computes the action and where: checkpoint (a directory), dtype, device."""
        return {
            'checkpoint': str(self.checkpoint.path.absolute()),
            'dtype': str(self.language.dtype).removeprefix('torch.'),
            'device': str(self.vision.device),
        }

    def check_instruction(self, instruction: str) -> None:
        """Raise InputError where an instruction cannot be used."""
        self.prompter(instruction)

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Give the [S, S, 3] uint8 RGB that the model sees of an image, before normalising."""
        return self.processor.preview(image)

    def close(self) -> None:
        """Free the engines' memory; the policy cannot predict any more."""
        for engine in (self.vision, self.language):
            if hasattr(engine, 'close'):
                engine.close()
        self.vision = self.language = None
        free_memory()

    def predict(
        self,
        image: np.ndarray,
        instruction: str,
        *,
        verbatim: bool = False,
        on_reasoning: Callable[[str], None] | None = None,
    ) -> Prediction:
        """Predict one control step.

        Args:
            image: [H, W, 3] uint8 RGB.
            instruction: What the user says, e.g. 'put the spoon on the towel'.
            verbatim: It is a whole prompt, which the model reads as it stands.
            on_reasoning: Told the reasoning so far whenever it has grown, token by token where
                the engine streams; never by models that do not reason.

        Raises:
            InputError: The image or instruction cannot be used.
            OutputError: What the model wrote is not an action.
            EngineError: The policy was closed.
            BrokenEngineError: An engine failed; the policy must be loaded again.
        """
        if self.language is None:
            raise EngineError('the policy is closed; load it again')
        start = time.perf_counter()
        unnorm_key, statistics = self._normalisation
        prompt, ids = self.prompter(instruction, verbatim)
        pixel_values = self.processor(image)
        preprocessed = time.perf_counter()
        with computing():
            embeddings = self.vision.encode(pixel_values)
            seen = time.perf_counter()
            decoding = self._decoding(statistics, on_reasoning)
            generation = self.language.generate(ids, embeddings, decoding)
        reasoning, action_ids = split_answer(
            generation.ids,
            self.prompter.tokenizer.eos_id,
            len(statistics.q01),
            self.prompter.tokenizer.decode,
            self.prompter.style.reasons,
        )
        normalised = self.tokens.decode(action_ids)
        return Prediction(
            action=statistics.unnormalise(normalised),
            normalised_action=normalised,
            action_ids=action_ids,
            generated_ids=np.asarray(generation.ids, np.int64),
            reasoning=reasoning,
            prompt=prompt,
            unnorm_key=unnorm_key,
            reasoning_fields=parse_fields(reasoning),
            out_of_range=generation.out_of_range,
            timings={
                'preprocess': preprocessed - start,
                'vision': seen - preprocessed,
                'prefill': generation.prefill_time,
                'decode': generation.decode_time,
                'total': time.perf_counter() - start,
            },
        )

    def _decoding(
        self,
        statistics: ActionStatistics,
        on_reasoning: Callable[[str], None] | None = None,
    ) -> Decoding:
        reasons = self.prompter.style.reasons
        tokenizer = self.prompter.tokenizer
        return Decoding(
            max_new_tokens=self.max_new_tokens if reasons else len(statistics.q01),
            eos_id=tokenizer.eos_id,
            actions=(self.tokens.first, self.tokens.vocab_size),
            action_dim=len(statistics.q01),
            action_begins=lambda ids: tokenizer.decode(ids).rstrip().endswith(ACTION_TAG),
            action_first=not reasons,
            constrain=self.constrain,
            on_ids=ReasoningStream(tokenizer.decode, on_reasoning)
            if reasons and on_reasoning
            else None,
        )

    def _self_test(self) -> None:
        """Refuse a policy that does not see: wrong library versions once fed it no image."""
        _, ids = self.prompter(_SHORT)
        height, width = 48, 64
        ramp = np.linspace(0, 255, width, dtype=np.uint8)
        first = np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy()
        images = [self.processor(image) for image in (first, 255 - first)]
        with computing():
            embeddings = [self.vision.encode(image) for image in images]
            logits = [self.language.first_logits(ids, e) for e in embeddings]
        self.image_tokens = len(embeddings[0])
        if not np.isfinite(logits).all():
            raise EngineError(
                'self-test: the logits are not finite; the weights are broken or the dtype is '
                'too narrow (try dtype float32)'
            )
        if bool((embeddings[0] == embeddings[1]).all()):
            raise EngineError('self-test: two different images have the same image embeddings')
        if np.array_equal(*logits):
            raise EngineError('self-test: two different images lead to the same logits')


def _check_sizes(processor: ImageProcessor, checkpoint: Checkpoint) -> None:
    prepared = [branch.geometry.crop for branch in processor.branches]
    wanted = [(tower.image_size, tower.image_size) for tower in checkpoint.towers]
    if prepared != wanted:
        raise ConfigError(
            f'{checkpoint.path}: preprocessor_config.json makes images of {prepared}, and the '
            f'vision towers of config.json want {wanted}'
        )
