# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of connection tracking that WireGuard's own packets made: each has a client's public address.

A gateway's firewall exempts the port; this finds what is there all the same, and removes it. The kernel picks them
out, because there may be millions of entries of the traffic inside the tunnel. Layout and constants:
include/uapi/linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_internals.h (CTA_FILTER_F_*, Linux 5.8; an older
kernel sends all, and what is not meant is left out here).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from .errors import KernelRefused
from .links import local_addresses
from .messages import NLM_F_ACK, NLM_F_DUMP
from .questions import NETFILTER, ask, attribute, attributes

_CONNTRACK = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_NEW, _GET, _DELETE = _CONNTRACK | 0, _CONNTRACK | 1, _CONNTRACK | 2  # IPCTNL_MSG_CT_*
_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25  # CTA_*
_IP, _PROTOCOL = 1, 2  # CTA_TUPLE_*
_V4_SOURCE, _V6_SOURCE = 1, 3  # CTA_IP_*
_NUMBER, _SOURCE_PORT = 1, 2  # CTA_PROTO_*
_WITH_NUMBER, _WITH_SOURCE_PORT = 1 << 3, 1 << 4  # CTA_FILTER_F_CTA_PROTO_*
_NESTED = 0x8000

_GENERIC = struct.Struct(">BxH")  # struct nfgenmsg: family, version, resource
_PORT = struct.Struct(">H")


def tracked(port: int) -> int:
    """How many entries there are of packets from or to a UDP port of this host. Raises KernelRefused."""
    return sum(1 for _entry in _entries(port))


def forget_tracked(port: int) -> int:
    """Remove them; returns how many there were. Raises KernelRefused."""
    removed = 0
    for family, found in _entries(port):
        named = b"".join(attribute(kind, found[kind]) for kind in (_ORIGINAL, _ZONE, _ID) if kind in found)
        with contextlib.suppress(_Gone):
            _delete(_GENERIC.pack(family, 0) + named)
            removed += 1
    return removed


class _Gone(Exception):
    """Its time was over."""


def _delete(body: bytes) -> None:
    try:
        ask(NETFILTER, _DELETE, body, _NEW, "forget a tracked connection", NLM_F_ACK)
    except KernelRefused as error:
        if error.errno == errno.ENOENT:
            raise _Gone from None
        raise


def _entries(port: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Family and attributes of each, once. It is told by the side that answers, so that it is found behind a
    redirected port as well: clients' own traffic to a port of that number elsewhere is not meant.
    """
    here = local_addresses()
    for family in (socket.AF_INET, socket.AF_INET6):
        seen: set[bytes] = set()
        for direction in (_ORIGINAL, _REPLY):
            for body in _dump(family, direction, port):
                found = attributes(body, _GENERIC.size)
                original = found[_ORIGINAL]
                if original not in seen and _is_from(found[direction], port, here):
                    seen.add(original)
                    yield family, found


def _dump(family: int, direction: int, port: int) -> list[bytes]:
    flags = struct.pack("=I", _WITH_NUMBER | _WITH_SOURCE_PORT)
    protocol = attribute(_NUMBER, bytes([socket.IPPROTO_UDP])) + attribute(_SOURCE_PORT, _PORT.pack(port))
    body = (
        _GENERIC.pack(family, 0)
        + attribute(direction | _NESTED, attribute(_PROTOCOL | _NESTED, protocol))
        + attribute(_FILTER | _NESTED, attribute(direction, flags))
    )
    return ask(NETFILTER, _GET, body, _NEW, "list tracked connections", NLM_F_DUMP)


def _is_from(direction: bytes, port: int, here: frozenset[bytes]) -> bool:
    of = attributes(direction)
    protocol, ip = attributes(of[_PROTOCOL]), attributes(of[_IP])
    return (
        protocol.get(_NUMBER) == bytes([socket.IPPROTO_UDP])
        and protocol.get(_SOURCE_PORT) == _PORT.pack(port)
        and (ip.get(_V4_SOURCE) or ip.get(_V6_SOURCE)) in here
    )
