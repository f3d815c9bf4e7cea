# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics: numbers about requests and about the registry, without anybody's identity."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..figures import Figures
from ..history import Position

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_PREFIX = "lethe_registry"


class RequestMetrics:
    """Of the requests to one process."""

    def __init__(self, prefix: str) -> None:
        # When the first request of a kind came is nobody's business.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._requests = Counter(
            f"{prefix}_requests", "Requests answered.", ("route", "method", "status"), registry=self._process
        )
        self._seconds = Histogram(
            f"{prefix}_request_seconds",
            "Time until a request was answered.",
            ("route", "method"),
            registry=self._process,
            buckets=_SECONDS,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is a template, never a path."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)


class Metrics(RequestMetrics):
    """Of one process that serves the API."""

    def __init__(self) -> None:
        super().__init__(_PREFIX)
        self._removed = Counter(
            f"{_PREFIX}_housekeeping_removed",
            "Keys removed because they expired or their grace period ended.",
            registry=self._process,
        )
        self._tidied = Gauge(
            f"{_PREFIX}_housekeeping_timestamp_seconds", "When housekeeping last succeeded.", registry=self._process
        )

    def tidied(self, removed: int) -> None:
        """Housekeeping has removed so many keys."""
        self._removed.inc(removed)
        self._tidied.set(time.time())

    def text(self, standing: tuple[Position, Figures] | None) -> bytes:
        """In Prometheus' format; ``standing`` is None when the database does not answer."""
        registry = CollectorRegistry()
        registry.register(_Standing(standing))
        return generate_latest(self._process) + generate_latest(registry)


class _Standing(Collector):
    def __init__(self, standing: tuple[Position, Figures] | None) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        yield _gauge("database_up", "Whether the database answers.", int(self._standing is not None))
        if self._standing is None:
            return
        position, figures = self._standing
        yield _gauge("revision", "The number of the latest change.", position.revision)
        yield _gauge("horizon", "The latest change that is not retained any more.", position.horizon)
        yield _gauge("registrations", "Registered keys.", figures.registrations)
        yield _gauge("resting_addresses", "Released addresses that cannot be drawn yet.", figures.resting)
        yield _gauge("outbox_waiting", "Changes that wait for their revision.", figures.waiting_changes)
        yield _gauge("accounts", "Accounts.", figures.accounts, "state")
        yield _gauge("credentials", "Credentials.", figures.credentials, "kind")
        pools = figures.pools.items()
        yield _gauge("pool_size", "Addresses that can be drawn.", {name: pool.size for name, pool in pools}, "family")
        yield _gauge("pool_free", "Addresses neither used nor resting.", {name: p.free for name, p in pools}, "family")
        ratios = {name: pool.used_ratio for name, pool in pools}
        yield _gauge("pool_used_ratio", "Used or resting share of the addresses, 0 to 1.", ratios, "family")


def _gauge(name: str, text: str, value: float | dict[str, int] | dict[str, float], label: str = "") -> Metric:
    if not isinstance(value, dict):
        return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=[label])
    for key, number in value.items():
        family.add_metric([key], number)
    return family
