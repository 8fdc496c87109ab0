"""A camera image on its way to the policy.

H, W: size of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np


class Frame:
    """An image message, and what was made of it before its step began.

    Attributes:
        message: The message.
    """

    def __init__(self, message: Any, convert: Callable[[Any], np.ndarray]) -> None:
        """Keep a message as it came, and the function that makes [H, W, 3] uint8 RGB of it."""
        self.message = message
        self._convert = convert
        self._lock = Lock()
        self._image: np.ndarray | None = None
        self._prepared: Any = None
        self._error: Exception | None = None

    def prepare(self, prepare: Callable[[np.ndarray], Any]) -> None:
        """Do ahead what a step does with the image before it needs the engine.

        An error is kept for `open`: nobody wants to know it if the frame never gets its step.

        Args:
            prepare: Function from [H, W, 3] uint8 RGB to what the policy predicts from.
        """
        with self._lock:
            try:
                self._image = self._convert(self.message)
                self._prepared = prepare(self._image)
            except Exception as error:  # noqa: BLE001 - raised again by open
                self._error = error

    def open(self) -> tuple[np.ndarray, Any]:
        """Give the image [H, W, 3] uint8 RGB, and what the policy shall predict from.

        Waits for a `prepare` that has begun. If none has, the policy gets the image itself.

        Raises:
            Exception: What `prepare` met, or the conversion of the message.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._image is None:
                self._image = self._convert(self.message)
            return self._image, self._image if self._prepared is None else self._prepared
