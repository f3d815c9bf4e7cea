# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random tunnel addresses: from huge ranges, never derived from anything, never in sequence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address
from itertools import accumulate
from typing import Generic, TypeVar

from netaddr import AddrFormatError, IPNetwork, IPSet

from ..wireguard.errors import InvalidValue

DRAWS = 200
"""Draws before a range counts as full. At 90 % it takes 10 on average, and 200 fail once in 10^9 times."""

_RESTED_BITS = 64  # ranges larger than this are not rested: drawing one address twice is out of the question
# RFC 1918, RFC 6598; RFC 4193.
_PRIVATE = {4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"), 6: ("fc00::/7",)}


A = TypeVar("A", bound=IPv4Address | IPv6Address)


class AddressPool(Generic[A]):
    """The addresses of one family that may be drawn."""

    def __init__(self, family: type[A], ranges: Collection[str], reserved: Iterable[str]) -> None:
        """Of every range the network's first address and, for IPv4, its last are left out as well as
        ``reserved``. Raises InvalidValue.
        """
        self._family: type[A] = family
        version = 4 if issubclass(family, IPv4Address) else 6
        name = f"ipv{version}_ranges"
        usable, left_out = IPSet(), IPSet()
        for i, text in enumerate(ranges):
            network = _network(text, f"{name}[{i}]")
            if network.version != version:
                raise InvalidValue(f"{name}[{i}]", f"is not an IPv{version} network", "put it into the other list")
            if not any(network in IPNetwork(private) for private in _PRIVATE[version]):
                raise InvalidValue(
                    f"{name}[{i}]", "is not private", f"use a network inside {' or '.join(_PRIVATE[version])}"
                )
            usable.add(network)
            left_out.add(network.network)
            if version == 4:
                left_out.add(network[-1])
        for i, text in enumerate(reserved):
            network = _network(text, f"reserved[{i}]")
            if network.version == version:
                left_out.add(network)
        usable -= left_out
        if ranges and not usable:
            raise InvalidValue(name, "has no address that can be drawn", "give larger ranges, or reserve less")
        spans: list[tuple[int, int]] = sorted((int(span.first), int(span.last)) for span in usable.iter_ipranges())
        self._starts = [first for first, _ in spans]
        self._before = [0, *accumulate(last - first + 1 for first, last in spans)]
        self.size = self._before[-1]
        self.rests = self.size <= 1 << _RESTED_BITS

    def nth(self, n: int) -> A:
        """The ``n``-th address of the pool, from 0."""
        at = bisect_right(self._before, n) - 1
        return self._family(self._starts[at] + n - self._before[at])

    def draw(self, randbelow: Callable[[int], int]) -> A:
        """A random address of the pool; ``randbelow`` is ``secrets.randbelow``, or a test's."""
        return self.nth(randbelow(self.size))


def _network(text: str, field: str) -> IPNetwork:
    try:
        return IPNetwork(text)
    except (AddrFormatError, ValueError, TypeError):
        raise InvalidValue(field, "is not a network", 'write it like "10.0.0.0/8" or "fd00::/48"') from None
