# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the kernel over netlink, without any library: one request, all answers.

Layout: include/uapi/linux/netlink.h. WireGuard's own family has netlink.py, which is made for very many peers.
"""

from __future__ import annotations

import errno
import socket
import struct

from .errors import KernelRefused
from .messages import NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, error_of, split

ROUTING, NETFILTER = 0, 12  # NETLINK_ROUTE, NETLINK_NETFILTER

_RECEIVE_BYTES = 64 * 1024
_ATTEMPTS = 20
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr


def ask(family: int, request: int, body: bytes, answer: int, what: str, flags: int = 0) -> list[bytes]:
    """The bodies of all answers to one request; a dump is asked for again when it is not of one state.

    Raises KernelRefused.
    """
    message = _HEADER.pack(_HEADER.size + len(body), request, NLM_F_REQUEST | flags, 1, 0) + body
    for _attempt in range(_ATTEMPTS):
        answers = _answers(family, message, answer, what, dump=flags & NLM_F_DUMP == NLM_F_DUMP)
        if answers is not None:
            return answers
    raise KernelRefused(what, errno.EAGAIN)


def _answers(family: int, message: bytes, answer: int, what: str, *, dump: bool) -> list[bytes] | None:
    """None when the kernel says that the state changed meanwhile."""
    answers: list[bytes] = []
    interrupted = False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) as kernel:
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


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute with its header, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """The payload of each attribute by its type. Raises ValueError if one is longer than the message."""
    found = {}
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            raise ValueError("netlink attribute with a wrong length")
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found
