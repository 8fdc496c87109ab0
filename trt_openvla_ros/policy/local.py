"""The local policy: the one place that knows the order of the parts of a prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
import time

import numpy as np

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.contracts import Prediction, PreparedImage, Transcript
from trt_openvla_ros.engines.base import computing, Engines
from trt_openvla_ros.engines.memory import free_memory
from trt_openvla_ros.engines.registry import open_engines
from trt_openvla_ros.errors import ConfigError, EngineError
from trt_openvla_ros.policy.camera import camera_steps, CameraSettings
from trt_openvla_ros.policy.images import refuse_unused
from trt_openvla_ros.policy.memory import Memory
from trt_openvla_ros.policy.reasoning import parse_fields, split_answer
from trt_openvla_ros.policy.spec import (
    DRAFT_TOKENS,
    MAX_NEW_TOKENS,
    ModelSpec,
    SHORT_INSTRUCTION,
)
from trt_openvla_ros.safety.gate import admit, MAX_FORCED_TOKENS
from trt_openvla_ros.timings import Timings


class Policy:
    """An OpenVLA-family model in this process. It has the protocol `contracts.BasePolicy`.

    Attributes:
        spec: Specification of the model.
        description: Description of the policy.
        engines: Engines of the model; None once the policy is closed.
    """

    def __init__(self, spec: ModelSpec, engines: Engines) -> None:
        """Join a model with its engines and test that it sees; from_checkpoint is the usual way.

        Args:
            spec: Specification of the model.
            engines: Engines of the same model; the policy closes them, even if the test fails.

        Raises:
            EngineError: The self-test found broken logits, or that the image does not matter.
        """
        self.spec = spec
        self.engines: Engines | None = engines
        tokenizer = spec.prompter.tokenizer
        self._memory = Memory(tokenizer, spec.draft_tokens, spec.keep_reasoning)
        try:
            self.description = spec.describe(engines)
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
        max_forced_tokens: int = MAX_FORCED_TOKENS,
        vision_engine: str | None = None,
        weights: str | None = None,
        draft_tokens: int = DRAFT_TOKENS,
        keep_reasoning: int = 0,
        camera: CameraSettings | None = None,
    ) -> Policy:
        """Load a checkpoint in the released Hugging Face format, or an artifact of the pipeline.

        Args:
            path: Directory ('~' is your home), or a Hub id if there is a network. An artifact runs
                its quantised language model.
            unnorm_key: Data set whose statistics turn bins into units, unless a prediction names
                another; may be None if the checkpoint has only one.
            engine: Backend of the language model: 'torch' or 'tensorrt_llm'.
            device: Torch device name; None takes a GPU if there is one, else the CPU.
            dtype: Torch dtype name; None is bfloat16 on GPUs and float32 on CPUs.
            prompt_style: Style of the prompt, a key of `policy.prompt.PROMPT_STYLES`; None lets
                the checkpoint decide.
            max_new_tokens: Most tokens of an answer with reasoning.
            constrain: Whether ids are restricted to the action range once the action has begun.
            max_forced_tokens: Most tokens of an action that this restriction may change; if it
                changed more, or all, there is no action.
            vision_engine: Backend of the vision encoder: 'torch' or 'tensorrt'. None takes
                tensorrt for engine tensorrt_llm with an artifact that has a vision engine, else
                torch.
            weights: Format in which the torch engine holds the language model's weights:
                'bfloat16', 'fp8', 'int8' or 'int4'; None takes them as they are stored.
            draft_tokens: Most tokens of the previous answer that one pass tries for the next; 0
                for none. Other engines than torch try none.
            keep_reasoning: Steps for which a reasoning model keeps what it wrote before MOVE
                REASONING, instead of writing it anew.
            camera: What is done to an image before the checkpoint's processor; None lets the
                checkpoint decide.

        Raises:
            ConfigError: The checkpoint or an argument cannot be used.
            EngineError: The backend cannot be used, or it fails the self-test.
        """
        if keep_reasoning and engine != 'torch':
            raise ConfigError(
                f'keep_reasoning is {keep_reasoning}, which needs longer prompts than engine '
                f'{engine!r} is built for; set keep_reasoning to 0, or engine to torch'
            )
        checkpoint = Checkpoint.open(path)
        spec = ModelSpec.read(
            checkpoint,
            unnorm_key,
            prompt_style,
            max_new_tokens=max_new_tokens,
            constrain=constrain,
            max_forced_tokens=max_forced_tokens,
            draft_tokens=draft_tokens,
            keep_reasoning=keep_reasoning,
            camera=camera_steps(checkpoint, camera),
        )
        engines = open_engines(
            checkpoint, spec.lengths, engine, vision_engine, device, dtype, weights
        )
        return cls(spec, engines)

    def check(
        self, instruction: str, unnorm_key: str | None = None, *, verbatim: bool = False
    ) -> None:
        """Raise InputError or ConfigError if an instruction or a key cannot be used."""
        self.description.find(unnorm_key)
        self.spec.prompter(instruction, verbatim)

    def prepare(self, image: np.ndarray) -> np.ndarray | PreparedImage:
        """Resize an image, which takes most of the time that a prediction spends on the CPU."""
        return PreparedImage(self.spec.views(image))

    def preview(self, image: np.ndarray | PreparedImage) -> np.ndarray:
        """Give the image as the model sees it: [S, S, 3] uint8 RGB, before normalising."""
        if isinstance(image, PreparedImage):
            return image.views[0]
        return self.spec.views.preview(image)

    def close(self) -> None:
        """Free the engines' memory; the policy cannot predict any more."""
        if self.engines is not None:
            self.engines.close()
            self.engines = None
        free_memory()

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
        """Predict one control step; see `contracts.BasePolicy.predict`."""
        if self.engines is None:
            raise EngineError('the policy is closed; load it again')
        refuse_unused(wrist_images, state)
        spec, engines = self.spec, self.engines
        start = time.perf_counter()
        unnorm_key, statistics = self.description.find(unnorm_key)
        prompt, ids = spec.prompter(instruction, verbatim)
        kept = self._memory.begin((prompt, unnorm_key))
        prepared = image if isinstance(image, PreparedImage) else self.prepare(image)
        preprocessed = time.perf_counter()
        with computing():
            embeddings = engines.vision.encode(prepared.views)
            decoding = spec.decoding(statistics, on_reasoning, self._memory.drafter, kept)
            generation = engines.language.generate([*ids, *kept], embeddings, decoding)
        answer = [*kept, *generation.ids]
        tokenizer = spec.prompter.tokenizer
        reasoning, action_ids = split_answer(
            answer,
            tokenizer.eos_id,
            statistics.action_dim,
            tokenizer.decode,
            spec.prompter.style.reasons,
        )
        normalised = spec.tokens.decode(action_ids)
        prediction = Prediction(
            actions=statistics.unnormalise(normalised)[None],
            normalised_actions=normalised[None],
            action_ids=action_ids,
            generated_ids=np.asarray(answer, np.int64),
            reasoning=reasoning,
            prompt=prompt,
            unnorm_key=unnorm_key,
            reasoning_fields=parse_fields(reasoning),
            out_of_range=generation.out_of_range,
            passes=generation.passes,
            transcript=self._transcribe(ids, answer),
            timings=Timings(
                preprocess=preprocessed - start,
                vision=engines.vision.encode_time,
                prefill=generation.prefill_time,
                decode=generation.decode_time,
                total=time.perf_counter() - start,
            ),
        )
        admit(prediction, self.description, spec.max_forced_tokens)
        self._memory.end(answer)
        return prediction

    def _transcribe(self, prompt: list[int], answer: list[int]) -> Transcript:
        tokenizer = self.spec.prompter.tokenizer
        # Image positions get TensorRT-LLM's virtual ids, which follow the vocabulary's rows.
        rows = self.spec.checkpoint.llm.vocab_size
        image = range(rows, rows + self.description.image_tokens)
        written = [i for i in answer if i != tokenizer.eos_id]
        ids = [prompt[0], *image, *prompt[1:], *written]
        text = tokenizer.decode([i for i in ids if i < tokenizer.vocab_size])
        return Transcript(np.asarray(ids, np.int64), text)

    def _self_test(self) -> None:
        """Refuse a policy that does not see, and let the engine prepare for requests.

        Wrong versions of libraries once gave the model no image.
        """
        vision, language = self.engines.vision, self.engines.language
        _, ids = self.spec.prompter(SHORT_INSTRUCTION)
        height, width = 48, 64
        ramp = np.linspace(0, 255, width, dtype=np.uint8)
        first = np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy()
        # Without the steps of the camera, whose region may lie outside.
        views = [self.spec.views.processor(image) for image in (first, 255 - first)]
        with computing():
            embeddings = [vision.encode(view) for view in views]
            logits = [language.first_logits(ids, e) for e in embeddings]
        if len(embeddings[0]) != self.description.image_tokens:
            raise EngineError(
                f'self-test: an image has {len(embeddings[0])} embeddings, and its patches are '
                f'{self.description.image_tokens}; the vision engine is of another model'
            )
        if not np.isfinite(logits).all():
            raise EngineError(
                'self-test: the logits are not finite; the weights are broken or the dtype is '
                'too narrow (try dtype float32)'
            )
        if bool((embeddings[0] == embeddings[1]).all()):
            raise EngineError('self-test: two different images have the same image embeddings')
        if np.array_equal(*logits):
            raise EngineError('self-test: two different images lead to the same logits')
        if hasattr(language, 'prepare'):
            statistics = self.description.find(None)[1]
            decoding = self.spec.decoding(statistics, drafter=self._memory.drafter)
            with computing():
                language.prepare(ids, embeddings[0], decoding)
