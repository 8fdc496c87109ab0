"""The bytes that all requests together may hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trt_openvla_ros.serving.refusal import Refusal


class Budget:
    """Hands out bytes, and gets them back. All methods belong to the event loop's thread.

    Attributes:
        limit: Bytes that may be held at once.
        held: Bytes that are held now.
    """

    def __init__(self, limit: int) -> None:
        """Start with nothing held."""
        self.limit, self.held = limit, 0

    @contextmanager
    def hold(self, size: int, share: float = 1.0) -> Iterator[None]:
        """Hold bytes for the body of a with statement.

        Args:
            size: Number of bytes.
            share: Part of the limit beyond which these bytes are not given.

        Raises:
            Refusal: So many bytes are not free.
        """
        if self.held + size > share * self.limit:
            raise Refusal(
                503,
                f'the requests in the server hold {self.held} of {self.limit} bytes, and '
                f'this one needs {size}; try again later (max_memory)',
                1,
            )
        self.held += size
        try:
            yield
        finally:
            self.held -= size
