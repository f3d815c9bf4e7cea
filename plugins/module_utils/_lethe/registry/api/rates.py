# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much each may ask: by credential, and those without a valid one by a hash of where they come from.

A peer's address is hashed under a key that lives for minutes and only in memory; it is never logged or stored.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import time
from collections.abc import Callable

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from ...wireguard.errors import InvalidValue
from ..settings import ServerSettings
from .problems import RateLimited

_PEER_KEY_LIFE = 600.0  # seconds
_KNOWN = 100_000  # credentials that are remembered as valid
_IPV6_SITE = 64  # bits that one subscriber has all addresses of


class Rates:
    """Used by the event loop alone. A credential that was valid before is not held up by strangers, be they
    behind the same proxy or a flood from everywhere.
    """

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises InvalidValue."""
        self._clock = clock
        self._limiter = FixedWindowRateLimiter(_Windows(clock))
        self._by_kind = {kind: _rate(settings, f"{kind}_rate") for kind in ("client", "operator", "gateway")}
        self._stranger = _rate(settings, "stranger_rate")
        self._strangers = _rate(settings, "strangers_rate")
        self._known: dict[bytes, None] = {}
        self._peer_key = b""
        self._peer_key_until = -math.inf

    def admit(self, kind: str, credential: bytes, peer: str) -> None:
        """Let a request with a well-formed credential (its keyed hash) be tried. Raises RateLimited."""
        if credential not in self._known:
            for item, name in ((self._stranger, self._hashed(peer)), (self._strangers, "all")):
                if not self._limiter.test(item, "stranger", name):
                    raise self._exceeded(item, "stranger", name)
        item = self._by_kind[kind]
        name = credential.hex()
        if not self._limiter.hit(item, kind, name):
            raise self._exceeded(item, kind, name)

    def accepted(self, credential: bytes) -> None:
        """The credential was valid."""
        self._known.pop(credential, None)
        self._known[credential] = None
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    def refused(self, credential: bytes | None, peer: str) -> None:
        """The credential was not valid, or there was none. Raises RateLimited if the peer does that too often."""
        if credential is not None:
            self._known.pop(credential, None)
        for item, name in ((self._stranger, self._hashed(peer)), (self._strangers, "all")):
            if not self._limiter.hit(item, "stranger", name):
                raise self._exceeded(item, "stranger", name)

    def _exceeded(self, item: RateLimitItem, *names: str) -> RateLimited:
        reset = self._limiter.get_window_stats(item, *names).reset_time
        return RateLimited(max(1, math.ceil(reset - self._clock())))

    def _hashed(self, peer: str) -> str:
        now = self._clock()
        if now >= self._peer_key_until:
            self._peer_key = secrets.token_bytes(32)
            self._peer_key_until = now + _PEER_KEY_LIFE
        try:
            address = ipaddress.ip_address(peer)
            site = address.packed if address.version == 4 else address.packed[: _IPV6_SITE // 8]
        except ValueError:
            site = b""  # a socket without addresses
        return hashlib.blake2b(site, key=self._peer_key, digest_size=16).hexdigest()


def _rate(settings: ServerSettings, name: str) -> RateLimitItem:
    try:
        return parse(getattr(settings, name))
    except ValueError:
        raise InvalidValue(f"{settings.name}.{name}", "is not a rate", 'write it like "60/minute"') from None


class _Windows(Storage):
    """Counters in memory. The library's own starts a thread every 10 ms that walks over all of them; here they
    are in two generations, and the older one is dropped as a whole.
    """

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._young: dict[str, tuple[int, float]] = {}  # key: count, end of its window
        self._old: dict[str, tuple[int, float]] = {}
        self._generation = 0.0  # seconds: as long as the longest window
        self._turn_at = 0.0

    @property
    def base_exceptions(self) -> type[Exception]:
        return KeyError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = self._clock()
        self._generation = max(self._generation, expiry)
        if now >= self._turn_at:
            self._old, self._young = self._young, {}
            self._turn_at = now + self._generation
        count, until = self._look(key)
        if now >= until:
            count, until = 0, now + expiry
        self._young[key] = (count + amount, until)
        return count + amount

    def get(self, key: str) -> int:
        count, until = self._look(key)
        return count if self._clock() < until else 0

    def get_expiry(self, key: str) -> float:
        return self._look(key)[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._young) + len(self._old)
        self._young.clear()
        self._old.clear()
        return count

    def clear(self, key: str) -> None:
        self._young.pop(key, None)
        self._old.pop(key, None)

    def _look(self, key: str) -> tuple[int, float]:
        return self._young.get(key) or self._old.get(key) or (0, -math.inf)
