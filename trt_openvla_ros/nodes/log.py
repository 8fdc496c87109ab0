"""What the rooms without ROS log, in the log of a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node

_PACKAGE = __package__.partition('.')[0]


@contextmanager
def package_log(node: Node) -> Iterator[None]:
    """Let a node say what this package logs in the body, so that it is on /rosout too."""
    log, handler = logging.getLogger(_PACKAGE), _Teller(node.get_logger())
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _Teller(logging.Handler):
    def __init__(self, log: RcutilsLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        # A line for each, because rclpy allows a line of code one severity only.
        if record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        else:
            self._log.info(text)
