"""Counters and times of a server, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
    Histogram,
    Info,
    ProcessCollector,
)

from trt_openvla_ros.timings import Timings

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One server's numbers, in a registry of their own."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        prefix = 'trt_openvla'
        self._requests = Counter(
            f'{prefix}_requests', 'Requests by dialect and HTTP status; openpi messages too.',
            ('dialect', 'status'), registry=self.registry,
        )  # fmt: skip
        self._left = Counter(
            f'{prefix}_left', 'Requests without an answer: full, superseded, timeout, abandoned.',
            ('reason',), registry=self.registry,
        )  # fmt: skip
        self._parts = Histogram(
            f'{prefix}_part_seconds', 'Time of answered requests by part.',
            ('part',), buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._out_of_range = Counter(
            f'{prefix}_out_of_range_tokens', 'Forced tokens in the actions that were sent.',
            registry=self.registry,
        )  # fmt: skip
        self._refused = Counter(
            f'{prefix}_output_errors', 'Answers of the policy that were no action.',
            registry=self.registry,
        )  # fmt: skip
        self._inside = Gauge(
            f'{prefix}_inside', 'Requests that are being received, waiting or being computed.',
            registry=self.registry,
        )  # fmt: skip
        self._waiting = Gauge(
            f'{prefix}_waiting', 'Requests that wait for the policy.', registry=self.registry
        )
        self._info = Info(prefix, 'Facts about the served policy.', registry=self.registry)

    def describe(self, facts: dict[str, str]) -> None:
        """Set the facts about the served policy."""
        self._info.info(facts)

    def watch(self, inside: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Read these two numbers at each request for the metrics."""
        self._inside.set_function(inside)
        self._waiting.set_function(waiting)

    def answered(self, dialect: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(dialect, str(status)).inc()

    def left(self, reason: str) -> None:
        """Count a request that left the queue without an answer."""
        self._left.labels(reason).inc()

    def refused(self) -> None:
        """Count an answer of the policy that was no action."""
        self._refused.inc()

    def predicted(self, timings: Timings, out_of_range: int) -> None:
        """Add the timings [s] of a request that was answered."""
        self._out_of_range.inc(out_of_range)
        for part, seconds in timings.items():
            self._parts.labels(part).observe(seconds)

    def text(self) -> bytes:
        """Write all numbers in Prometheus's text format."""
        return generate_latest(self.registry)
