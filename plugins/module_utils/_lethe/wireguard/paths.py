# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes that the kernel makes for one address alone, when a router on the path to it has said "packet too big".

Such a route outlives the peer's endpoint: 600 s after the last such message, 60 s on a gateway (role gateway). So a
purge removes it together with the endpoint. That is IPv6 alone: WireGuard's IPv4 packets may be divided on their way,
no router has to say anything. Layout and constants: include/uapi/linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Set
from typing import NamedTuple

from .errors import KernelRefused
from .messages import NLM_F_ACK, NLM_F_DUMP
from .questions import ROUTING, ask, attributes

_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26  # RTM_*
_CLONED = 0x200  # RTM_F_CLONED
_DESTINATION, _CACHE_INFO = 1, 12  # RTA_*

_ROUTE = struct.Struct("=8BI")  # struct rtmsg: family, ..., flags
_CACHE = struct.Struct("=IIi")  # struct rta_cacheinfo: references, last use, expiry (in ticks of 10 ms), ...
_TICKS = 100  # USER_HZ
_IPV6_BYTES = 16


class Path(NamedTuple):
    """A route to one address."""

    address: bytes  # 4 or 16 bytes
    seconds: float  # for which it is going to be kept; infinity if that has no end
    message: bytes  # as the kernel describes it


def kept_paths(families: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)) -> Iterator[Path]:
    """All of them; for IPv4 those that have been used since. Raises KernelRefused."""
    for family in families:
        request = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, _CLONED)
        for body in ask(ROUTING, _GETROUTE, request, _NEWROUTE, "list routes to single addresses", NLM_F_DUMP):
            if _ROUTE.unpack_from(body)[-1] & _CLONED:
                found = attributes(body, _ROUTE.size)
                expires = _CACHE.unpack_from(found[_CACHE_INFO])[2] if _CACHE_INFO in found else 0
                yield Path(found.get(_DESTINATION, b""), expires / _TICKS if expires else float("inf"), body)


def forget_paths(addresses: Set[bytes]) -> int:
    """Remove those to these addresses (16 bytes each; of others there are none). Returns how many there were. Raises
    KernelRefused.
    """
    if not any(len(address) == _IPV6_BYTES for address in addresses):
        return 0
    removed = 0
    for path in kept_paths((socket.AF_INET6,)):
        if path.address in addresses:
            removed += _remove(path)
    return removed


def _remove(path: Path) -> bool:
    """Whether it was there yet."""
    try:
        ask(ROUTING, _DELROUTE, path.message, _NEWROUTE, "forget a route to a single address", NLM_F_ACK)
    except KernelRefused as error:
        if error.errno in (errno.ESRCH, errno.ENOENT):
            return False
        raise
    return True
