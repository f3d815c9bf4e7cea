# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics of the feed: numbers about streams, nobody's identity."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..api.metrics import RequestMetrics

_PREFIX = "lethe_feed"


class FeedMetrics(RequestMetrics, Collector):
    """Of one process. What changes with each batch is a plain number until somebody asks for it: Prometheus' own take
    as long as several deliveries.
    """

    def __init__(self) -> None:
        super().__init__(_PREFIX)
        registry = self._process
        self.streams = 0
        self.revision = 0
        self._database_up = False
        self._batches = self._deliveries = self._bytes = 0
        self._cut_off = Counter(f"{_PREFIX}_cut_off", "Streams that were ended here.", ("why",), registry=registry)
        self.snapshots = Counter(f"{_PREFIX}_snapshots_built", "Snapshots that were built.", registry=registry)
        registry.register(self)

    def reachable(self, reachable: bool) -> None:
        """Whether the change log can be read now."""
        self._database_up = reachable

    def delivered(self, streams: int, size: int) -> None:
        """A batch of this size in bytes went to so many streams."""
        self._batches += 1
        self._deliveries += streams
        self._bytes += streams * size

    def cut_off(self, why: str) -> None:
        self._cut_off.labels(why).inc()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("streams", "Connections that follow, and are up to date.", self.streams)
        yield _gauge("revision", "Where the streams stand.", self.revision)
        yield _gauge("database_up", "Whether the change log can be read.", self._database_up)
        yield _counter("batches", "Batches and heartbeats sent to all streams.", self._batches)
        yield _counter("deliveries", "The same, for each stream.", self._deliveries)
        yield _counter("delivered_bytes", "Bytes of these deliveries.", self._bytes)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._process)


def _gauge(name: str, text: str, value: int) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)
