# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a network link: two requests to the kernel's routing family.

Made here and not through pyroute2, which changes links: looking must work where only Python is, and importing
pyroute2 costs most of a second. Layout and constants: include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from .errors import KernelRefused
from .messages import NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, error_of, split

Address = IPv4Interface | IPv6Interface

_NETLINK_ROUTE = 0
_RECEIVE_BYTES = 64 * 1024
_ATTEMPTS = 20

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 4, 18, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP = 0x1  # linux/if.h
_SCOPE_LINK = 253  # RT_SCOPE_LINK: addresses that the kernel gives by itself

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
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
    wanted = _ATTRIBUTE.pack(4 + len(label), _IFLA_IFNAME) + label + bytes(-len(label) % 4)
    try:
        (body,) = _ask(_RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0) + wanted, _RTM_NEWLINK, f"look at {name}")
    except KernelRefused as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    _family, _type, index, flags, _change = _LINK.unpack_from(body)
    found = _attributes(body, _LINK.size)
    kind = _attributes(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
    return Link(
        index=index,
        kind=kind.rstrip(b"\0").decode("ascii", "replace"),
        up=bool(flags & _IFF_UP),
        mtu=int.from_bytes(found[_IFLA_MTU], sys.byteorder),
        addresses=tuple(_addresses(index, name)),
    )


def _addresses(index: int, name: str) -> Iterator[Address]:
    bodies = _ask(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), _RTM_NEWADDR, f"list the addresses of {name}", NLM_F_DUMP)
    for body in bodies:
        _family, prefix, _flags, scope, of = _ADDRESS.unpack_from(body)
        if of == index and scope != _SCOPE_LINK:
            found = _attributes(body, _ADDRESS.size)
            # Only IPv4 has both, and there the other one is the far end of a point-to-point link.
            yield ip_interface((found.get(_IFA_LOCAL) or found[_IFA_ADDRESS], prefix))


def _ask(request: int, body: bytes, answer: int, what: str, flags: int = 0) -> list[bytes]:
    """The bodies of all answers to one request; of a dump, once more when it is not of one state."""
    message = _HEADER.pack(_HEADER.size + len(body), request, NLM_F_REQUEST | flags, 1, 0) + body
    for _attempt in range(_ATTEMPTS):
        answers = _answers(message, answer, what, dump=bool(flags & NLM_F_DUMP))
        if answers is not None:
            return answers
    raise KernelRefused(what, errno.EAGAIN)


def _answers(message: bytes, answer: int, what: str, *, dump: bool) -> list[bytes] | None:
    """None when the kernel says that the state changed meanwhile."""
    answers: list[bytes] = []
    interrupted = False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        kernel.send(message)
        while True:
            for part in split(kernel.recv(_RECEIVE_BYTES)):
                interrupted = interrupted or bool(part.flags & NLM_F_DUMP_INTR)
                if part.type in (NLMSG_ERROR, NLMSG_DONE):
                    if error := error_of(part.body):
                        raise KernelRefused(what, error)
                    return None if interrupted else answers
                if part.type == answer:
                    answers.append(part.body)
            if answers and not dump:
                return answers


def _attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """The payload of each attribute by its type. Raises ValueError if one is longer than the message."""
    found = {}
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            raise ValueError("netlink attribute with a wrong length")
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found
