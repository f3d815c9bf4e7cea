# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers about a registry, none about anybody in it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import func, select

from . import accounts, credentials, history
from .schema import registrations
from .store import Transaction

_log = logging.getLogger(__name__)

TIGHT = 0.8
"""Share of a family's addresses, used or resting, from which on the operator is warned: a draw still finds a free one
at the fifth try.
"""
_SHARE = 20
"""Counting ten million rows takes seconds: the figures are kept for as many times the time that they took."""


class PoolFigures(NamedTuple):
    """The addresses of one family."""

    size: int  # that can be drawn
    used: int  # registered, or resting

    @property
    def free(self) -> int:
        return max(0, self.size - self.used)

    @property
    def used_ratio(self) -> float:
        """From 0 to 1; 0 for a family without addresses."""
        return min(1.0, self.used / self.size) if self.size else 0.0

    @property
    def is_tight(self) -> bool:
        """Whether it is time to give the family another range."""
        return self.used_ratio >= TIGHT

    def as_dict(self) -> dict[str, int | float]:
        """For JSON. Numbers of IPv6 addresses may exceed what a double holds exactly."""
        return {"size": self.size, "used": self.used, "free": self.free, "used_ratio": self.used_ratio}


class Figures(NamedTuple):
    registrations: int
    accounts: dict[str, int]  # by state
    credentials: dict[str, int]  # by kind
    resting: int
    waiting_changes: int
    pools: dict[str, PoolFigures]  # by family

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "pools": {family: pool.as_dict() for family, pool in self.pools.items()}}


def count(tx: Transaction) -> Figures:
    """Look into the database."""
    counts = history.counts(tx)
    with_ipv4, with_ipv6 = tx.connection.execute(
        select(func.count(registrations.c.ipv4), func.count(registrations.c.ipv6))
    ).one()
    environment = tx.environment
    pools = {
        # Of an address that rests nobody knows the family any more: it counts for each that rests any.
        family: PoolFigures(pool.size, used + (counts["resting"] if pool.rests else 0))
        for family, pool, used in (("ipv4", environment.ipv4, with_ipv4), ("ipv6", environment.ipv6, with_ipv6))
    }
    return Figures(
        counts["registrations"],
        accounts.count_by_state(tx),
        credentials.count_by_kind(tx),
        counts["resting"],
        counts["waiting_changes"],
        pools,
    )


class Counter:
    """Counts, but never spends more than a small share of the time on it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: Figures | None = None
        self._good_until = 0.0

    def figures(self, tx: Transaction) -> Figures:
        """The figures, at most as old as ``_SHARE`` times the time it takes to count."""
        with self._lock:
            begun = self._clock()
            if self._latest is None or begun >= self._good_until:
                self._latest = count(tx)
                ended = self._clock()
                self._good_until = ended + _SHARE * (ended - begun)
            return self._latest


class Watch:
    """Warns of a family whose addresses run out, when that begins and whenever the registry starts."""

    def __init__(self) -> None:
        self._tight: set[str] = set()

    def look_at(self, figures: Figures) -> None:
        tight = {family for family, pool in figures.pools.items() if pool.is_tight}
        for family in sorted(tight - self._tight):
            _log.warning(
                "%.0f %% of the %s tunnel addresses are used or rest; before they run out add a range to %s_ranges, "
                "or lower address_rest_days",
                100 * figures.pools[family].used_ratio, family, family,
            )  # fmt: skip
        self._tight = tight
