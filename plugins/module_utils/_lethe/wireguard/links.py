# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a network link: two requests to the kernel's routing family.

Made here and not through pyroute2, which changes links: looking must work where only Python is, and importing
pyroute2 costs most of a second. Layout and constants: include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from .errors import KernelRefused
from .messages import NLM_F_DUMP
from .questions import ROUTING, ask, attribute, attributes

Address = IPv4Interface | IPv6Interface

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 4, 18, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP = 0x1  # linux/if.h
_SCOPE_LINK = 253  # RT_SCOPE_LINK: addresses that the kernel gives by itself

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, hardware type, index, flags, change mask
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index


@dataclass(frozen=True, slots=True)
class Link:
    """A network link of this process's network namespace."""

    index: int
    kind: str  # "wireguard", "veth", ...; empty for hardware
    up: bool
    mtu: int  # bytes
    addresses: tuple[Address, ...]  # without those that the kernel gives by itself


def read_link(name: str) -> Link | None:
    """The link of that name, or None if there is none. Raises KernelRefused."""
    label = name.encode() + b"\0"
    request = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, label)
    try:
        (body,) = ask(ROUTING, _RTM_GETLINK, request, _RTM_NEWLINK, f"look at {name}")
    except KernelRefused as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    _family, _type, index, flags, _change = _LINK.unpack_from(body)
    found = attributes(body, _LINK.size)
    kind = attributes(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
    return Link(
        index=index,
        kind=kind.rstrip(b"\0").decode("ascii", "replace"),
        up=bool(flags & _IFF_UP),
        mtu=int.from_bytes(found[_IFLA_MTU], sys.byteorder),
        addresses=tuple(_addresses(index, name)),
    )


def local_addresses() -> frozenset[bytes]:
    """All addresses of this host, 4 or 16 bytes each. Raises KernelRefused."""
    return frozenset(address.packed for _index, _scope, address in _all_addresses("list the addresses"))


def _addresses(index: int, name: str) -> Iterator[Address]:
    for of, scope, address in _all_addresses(f"list the addresses of {name}"):
        if of == index and scope != _SCOPE_LINK:
            yield address


def _all_addresses(what: str) -> Iterator[tuple[int, int, Address]]:
    """Index of the link, scope and address of each."""
    for body in ask(ROUTING, _RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), _RTM_NEWADDR, what, NLM_F_DUMP):
        _family, prefix, _flags, scope, index = _ADDRESS.unpack_from(body)
        found = attributes(body, _ADDRESS.size)
        # Only IPv4 has both, and there the other one is the far end of a point-to-point link.
        yield index, scope, ip_interface((found.get(_IFA_LOCAL) or found[_IFA_ADDRESS], prefix))
