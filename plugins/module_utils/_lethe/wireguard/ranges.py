# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranges that tunnel addresses come from, and what in them is not for clients."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from .addresses import AllowedIP
from .errors import InvalidValue, MissingLibrary


class TunnelRanges:
    """A set of networks less a set of excluded ones; answers whether an allowed IP lies wholly inside.

    An inventory with one wrong line, like ``0.0.0.0/0``, would send a whole fleet's traffic to one client;
    with ranges it is refused.
    """

    def __init__(self, ranges: Iterable[Any], exclude: Iterable[Any] = ()) -> None:
        """Raises InvalidValue for what is not a network, MissingLibrary without netaddr."""
        try:
            from netaddr import IPSet
        except ImportError:
            raise MissingLibrary("netaddr", "check tunnel ranges") from None
        allowed = IPSet(_networks(ranges, "tunnel_ranges")) - IPSet(_networks(exclude, "exclude"))
        spans = sorted((span.version, int(span.first), int(span.last)) for span in allowed.iter_ipranges())
        self._starts = [(version, first) for version, first, _ in spans]
        self._ends = [last for _, _, last in spans]

    def __contains__(self, allowed_ip: AllowedIP) -> bool:
        bits = len(allowed_ip.address) * 8
        version = 4 if bits == 32 else 6
        first = int.from_bytes(allowed_ip.address, "big")
        at = bisect_right(self._starts, (version, first)) - 1
        if at < 0 or self._starts[at][0] != version:
            return False
        return first + (1 << (bits - allowed_ip.prefix)) - 1 <= self._ends[at]


def _networks(texts: Iterable[Any], field: str) -> list[Any]:
    from netaddr import AddrFormatError, IPNetwork

    networks = []
    for i, text in enumerate(texts):
        try:
            networks.append(IPNetwork(text).cidr)
        except (AddrFormatError, ValueError, TypeError):
            raise InvalidValue(
                f"{field}[{i}]", "is not a network", 'write it like "10.0.0.0/8" or "fd00::/48"'
            ) from None
    return networks
