"""Our policy on the torch engines: eager or captured, in each format, with and without drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from on_gpu.models import Model
from on_gpu.runner import Runner
from trt_openvla_ros.engines.base import Decoding, Engines
from trt_openvla_ros.engines.torch.language import TorchLanguage
from trt_openvla_ros.engines.torch.vision import TorchVision
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.reasoning import split_answer


class KnownAnswer:
    """A drafter that knows the answer, and is wrong in a share of its tokens.

    It has the protocol `Drafter` of the engines.
    """

    def __init__(self, answer: Sequence[int], accepted: float, seed: int = 0) -> None:
        """Draw which tokens are wrong.

        Args:
            answer: Token ids of the answer.
            accepted: Share of the drafted tokens that are right.
            seed: Seed of the draw.
        """
        wrong = np.random.default_rng(seed).random(len(answer)) >= accepted
        # The next id is a token that the answer does not have at this place.
        self._draft = [id_ + int(bad) for id_, bad in zip(answer, wrong, strict=True)]

    def propose(self, ids: Sequence[int]) -> list[int]:
        """Give what follows the ids so far."""
        return self._draft[len(ids) :]


class Ours(Runner):
    """Our policy, with engines that hold the random model."""

    def __init__(
        self,
        model: Model,
        vision: TorchVision,
        language: TorchLanguage,
        device: torch.device,
        drafter: KnownAnswer | None = None,
    ) -> None:
        """Join the model with its engines, which other rows may share.

        Args:
            model: The model and its request.
            vision: Engine of its towers.
            language: Engine of its language model.
            device: Device that computes.
            drafter: Drafter; None for no drafts.
        """
        self.device, self._model, self._drafter = device, model, drafter
        self.whole = drafter is not None
        self._policy = Policy(model.spec, Engines(vision, language, 'torch'))

    @property
    def _decoding(self) -> Decoding:
        spec = self._model.spec
        decoding = spec.decoding(spec.statistics[spec.unnorm_key])
        return replace(decoding, drafter=self._drafter) if self._drafter else decoding

    def predict(self, image: np.ndarray) -> list[int]:
        """Map a picture to an action: by Policy.predict, or by its steps if there are drafts."""
        if self._drafter is None:
            made = self._policy.predict(image, self._model.prompt, verbatim=True)
            self.passes = getattr(made, 'passes', 0) or len(made.generated_ids)
            return made.generated_ids.tolist()
        spec = self._model.spec
        statistics = spec.statistics[spec.unnorm_key]
        _, prompt = spec.prompter(self._model.prompt, verbatim=True)
        embeddings = self.vision(self.preprocess(image))
        ids = self._generate(embeddings, self._decoding, prompt)
        tokenizer, reasons = spec.prompter.tokenizer, spec.prompter.style.reasons
        _, action = split_answer(
            ids, tokenizer.eos_id, statistics.action_dim, tokenizer.decode, reasons
        )
        statistics.unnormalise(spec.tokens.decode(action))
        return ids

    def preprocess(self, image: np.ndarray) -> Any:
        """Prepare a picture on the host."""
        return self._model.spec.views(image)

    def upload(self, pixels: np.ndarray) -> torch.Tensor:
        """Bring it to the device, as the vision engine does."""
        return torch.from_numpy(pixels).to(self.device)

    def vision(self, pixels: Any) -> torch.Tensor:
        """Compute [N, D] image embeddings."""
        return self._policy.engines.vision.encode(pixels)

    def generate(self, embeddings: torch.Tensor, count: int) -> list[int]:
        """Write that many tokens."""
        decoding = replace(self._decoding, max_new_tokens=count)
        return self._generate(embeddings, decoding, self._model.ids)

    def first_logits(self, image: np.ndarray) -> np.ndarray:
        """Give the [V] float32 logits of the first token."""
        embeddings = self.vision(self.preprocess(image))
        return self._policy.engines.language.first_logits(self._model.ids, embeddings)

    def _generate(
        self, embeddings: torch.Tensor, decoding: Decoding, prompt: list[int]
    ) -> list[int]:
        made = self._policy.engines.language.generate(prompt, embeddings, decoding)
        self.passes = getattr(made, 'passes', 0) or len(made.ids)
        return made.ids
