"""Our engines without captured graphs, to compare both ways on one device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
from unittest import mock

from trt_openvla_ros.engines.torch import passes, vision


@contextmanager
def calls_of(captured: bool) -> Iterator[None]:
    """Let passes that run inside for the first time be captured, or be called plainly for good."""
    with ExitStack() as stack:
        for module in (passes, vision):
            if not captured and hasattr(module, 'captured'):
                plain = mock.patch.object(module, 'captured', lambda run, *_: run)
                stack.enter_context(plain)
        yield
