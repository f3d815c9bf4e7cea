# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics of the feed: numbers about streams, nobody's identity."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, generate_latest

from ..api.metrics import RequestMetrics

_PREFIX = "lethe_feed"


class FeedMetrics(RequestMetrics):
    """Of one process."""

    def __init__(self) -> None:
        super().__init__(_PREFIX)
        registry = self._process
        self.streams = Gauge(f"{_PREFIX}_streams", "Connections that follow, and are up to date.", registry=registry)
        self.revision = Gauge(f"{_PREFIX}_revision", "Where the streams stand.", registry=registry)
        self.database_up = Gauge(f"{_PREFIX}_database_up", "Whether the change log can be read.", registry=registry)
        self._batches = Counter(f"{_PREFIX}_batches", "Batches and heartbeats sent to all streams.", registry=registry)
        self._deliveries = Counter(f"{_PREFIX}_deliveries", "The same, for each stream.", registry=registry)
        self._bytes = Counter(f"{_PREFIX}_delivered_bytes", "Bytes of these deliveries.", registry=registry)
        self._cut_off = Counter(f"{_PREFIX}_cut_off", "Streams that were ended here.", ("why",), registry=registry)
        self.snapshots = Counter(f"{_PREFIX}_snapshots_built", "Snapshots that were built.", registry=registry)

    def delivered(self, streams: int, size: int) -> None:
        """A batch of this size in bytes went to so many streams."""
        self._batches.inc()
        self._deliveries.inc(streams)
        self._bytes.inc(streams * size)

    def cut_off(self, why: str) -> None:
        self._cut_off.labels(why).inc()

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._process)
