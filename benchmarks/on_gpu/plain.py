"""Our engines without captured graphs, to compare both ways on one device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from trt_openvla_ros.engines.torch import passes


@contextmanager
def calls_of(captured: bool) -> Iterator[None]:
    """Let passes that run inside for the first time be captured, or be called plainly for good."""
    if captured:
        yield
    else:
        with mock.patch.object(passes, 'captured', lambda run, _device: run):
            yield
