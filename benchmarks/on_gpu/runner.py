"""What every row of the benchmark can do: predict, and time the parts of a prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
import time
from typing import Any

import numpy as np
import torch

PARTS = ('preprocess', 'upload', 'vision', 'prefill', 'token', 'action')
# The time of a token is measured over an answer of at most this length, so a long one is not run
# twice.
_TOKENS = 33


class Runner(ABC):
    """A model that is loaded, and the request that is put to it.

    Attributes:
        device: Device that computes.
        passes: Number of passes of the language model in the last answer.
        whole: Whether the time of a token needs whole answers, because tokens differ.
    """

    device: torch.device
    passes: int = 0
    whole: bool = False

    @abstractmethod
    def predict(self, image: np.ndarray) -> list[int]:
        """Map a picture [H, W, 3] uint8 in the host's memory to an action there, and its ids."""

    @abstractmethod
    def preprocess(self, image: np.ndarray) -> Any:
        """Prepare a picture on the host."""

    @abstractmethod
    def upload(self, pixels: Any) -> Any:
        """Bring it to the device."""

    @abstractmethod
    def vision(self, pixels: Any) -> torch.Tensor:
        """Bring it to the device, and compute [N, D] image embeddings."""

    @abstractmethod
    def generate(self, embeddings: torch.Tensor, count: int) -> list[int]:
        """Write that many tokens, and wait for them."""

    @abstractmethod
    def first_logits(self, image: np.ndarray) -> np.ndarray:
        """Give the [V] float32 logits of the first token."""

    def close(self) -> None:
        """Forget the model, so that its memory can be freed."""
        self.__dict__.clear()

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def time(self, image: np.ndarray) -> tuple[float, list[int]]:
        """Predict once; give the time [s] and the ids."""
        self.wait()
        begin = time.perf_counter()
        ids = self.predict(image)
        return time.perf_counter() - begin, ids

    def time_parts(self, image: np.ndarray, length: int) -> dict[str, float]:
        """Time each part by itself, with a wait behind it.

        Args:
            image: The picture.
            length: Tokens of a whole answer.

        Returns:
            Times by part [s]. 'prefill' is an answer of one token; 'token' is the rest of an
            answer, for each of its tokens.
        """
        count = length if self.whole else min(length, _TOKENS)
        marks = [time.perf_counter()]

        def mark() -> None:
            self.wait()
            marks.append(time.perf_counter())

        self.wait()
        marks[0] = time.perf_counter()
        pixels = self.preprocess(image)
        mark()
        self.upload(pixels)
        mark()
        embeddings = self.vision(pixels)
        mark()
        self.generate(embeddings, 1)
        mark()
        self.generate(embeddings, count)
        mark()
        preprocess, upload, vision, prefill, answer = np.diff(marks).tolist()
        return {
            'preprocess': preprocess,
            'upload': upload,
            'vision': max(vision - upload, 0.0),
            'prefill': prefill,
            'token': max(answer - prefill, 0.0) / max(count - 1, 1),
        }
