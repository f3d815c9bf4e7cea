# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket: the only file that talks to the kernel's ``wireguard`` generic netlink family.

Finding the family takes one request, made here: importing pyroute2 for it would cost a purge run more
than all the rest of its work.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

from . import messages
from .errors import InterfaceNotFound, KernelRefused, KernelWithoutWireGuard, NotWireGuard, PermissionMissing
from .peers import DeviceSettings

# Receive buffers of 32 KiB and more let the kernel send messages of that size: a third of the cost of
# 4 KiB ones (netlink_dump(), net/netlink/af_netlink.c). Never smaller than the largest message.
_RECEIVE_BYTES = 64 * 1024
_ACKNOWLEDGEMENT_BYTES = 4096

# linux/netlink.h; not in Python's socket module.
_NETLINK_GENERIC, _SOL_NETLINK, _NETLINK_CAP_ACK = 16, 270, 10


class Interrupted(Exception):
    """The kernel says that peers changed while a dump was read: what came is not one state."""


class WireGuardSocket:
    """A connection to the kernel for one interface. Use it in a ``with`` block."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
        try:
            # An error's answer need not repeat our message, which holds keys.
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.bind((0, 0))
            self._family = self._find_family()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> WireGuardSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _find_family(self) -> int:
        self._sequence += 1
        self._socket.send(messages.get_family(self._sequence))
        for message in messages.split(self._socket.recv(_ACKNOWLEDGEMENT_BYTES)):
            if message.type == messages.NLMSG_ERROR:
                raise KernelWithoutWireGuard
            return messages.family_id(message.body)
        raise KernelWithoutWireGuard

    def set(self, what: str, **settings: Any) -> None:
        """Send one WG_CMD_SET_DEVICE and wait for the kernel's answer.

        ``settings`` as in messages.set_device; ``what`` is what the error says was refused. Raises
        KernelRefused, InterfaceNotFound, NotWireGuard or PermissionMissing.
        """
        self._sequence += 1
        self._socket.send(messages.set_device(self._family, self._sequence, self._interface, **settings))
        while True:
            for message in messages.split(self._socket.recv(_ACKNOWLEDGEMENT_BYTES)):
                if message.type == messages.NLMSG_ERROR and message.sequence == self._sequence:
                    error = messages.error_of(message.body)
                    if error:
                        raise _explained(self._interface, error, what)
                    return

    def dump(self) -> Iterator[bytes]:
        """The bodies of one dump's messages. Only once for a socket; it may be left unfinished.

        Raises Interrupted when the dump is not of one state, and otherwise as ``set`` does.
        """
        self._sequence += 1
        self._socket.send(messages.get_device(self._family, self._sequence, self._interface))
        buffer = bytearray(_RECEIVE_BYTES)
        view = memoryview(buffer)
        interrupted = False
        while True:
            size = self._socket.recv_into(buffer, 0, socket.MSG_TRUNC)
            if size > len(buffer):
                raise KernelRefused("list the peers", errno.EMSGSIZE)
            for message in messages.split(bytes(view[:size])):
                # The last message too can carry the flag: when the peer at which the dump stood was
                # removed, the kernel ends it early.
                interrupted = interrupted or bool(message.flags & messages.NLM_F_DUMP_INTR)
                if message.type in (messages.NLMSG_DONE, messages.NLMSG_ERROR):
                    error = messages.error_of(message.body)
                    if error:
                        raise _explained(self._interface, error, "list the peers")
                    if interrupted:
                        raise Interrupted
                    return
                yield message.body

    def settings(self) -> DeviceSettings:
        """The interface's own settings: the first message of a dump has them; the rest is not read."""
        for body in self.dump():
            return messages.device_settings(body)
        raise InterfaceNotFound(self._interface)


def _explained(interface: str, error: int, what: str) -> Exception:
    if error == errno.ENODEV:
        return InterfaceNotFound(interface)
    if error == errno.EOPNOTSUPP:
        return NotWireGuard(interface)
    if error in (errno.EPERM, errno.EACCES):
        return PermissionMissing(f"{what} of {interface}")
    if error == errno.ENOMEM:
        return KernelRefused(
            what,
            error,
            f"an interface takes at most 1,048,576 peers, and each takes 2 KB of kernel memory ({os.uname().release})",
        )
    return KernelRefused(what, error)
