# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks ask the kernel over netlink: only looks, and tells nothing but numbers and names of links."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterator

from ..wireguard.device import Device, KernelDevice
from ..wireguard.errors import KernelRefused
from ..wireguard.messages import NLM_F_DUMP
from ..wireguard.paths import kept_paths
from ..wireguard.questions import ROUTING, ask, attributes
from ..wireguard.tracking import tracked

# include/uapi/linux/rtnetlink.h, if_link.h, pkt_sched.h
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWQDISC, _RTM_GETQDISC, _RTM_NEWTFILTER, _RTM_GETTFILTER = 36, 38, 44, 46
_IFLA_IFNAME, _IFLA_XDP, _IFLA_XDP_ATTACHED = 3, 43, 2
_TCA_KIND, _TCA_OPTIONS = 1, 2
_CLSACT_SIDES = (0xFFFFFFF2, 0xFFFFFFF3)  # ingress, egress

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, hardware type, index, flags, change mask
_TRAFFIC = struct.Struct("=B3xiIII")  # struct tcmsg: family, index, handle, parent, info

# What makes a filter of tc more than one that sorts or drops: a program, or an action that copies packets elsewhere.
_COPYING_ACTIONS = (b"mirred\0", b"sample\0", b"bpf\0")

# bpf(2): its number by machine, BPF_PROG_QUERY, BPF_TCX_INGRESS and BPF_TCX_EGRESS (Linux 6.6).
_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_BPF_PROG_QUERY = 16
_TCX_SIDES = (46, 47)
_QUERY = struct.Struct("=IIIIQII40x")  # of union bpf_attr: index, side, flags, flags, ids, count, padding, ...
_COUNT_AT = 24


class Kernel:
    """The running one, in the network namespace of this process. All methods may raise KernelRefused."""

    def device(self, name: str) -> Device:
        """A WireGuard interface."""
        return KernelDevice(name)

    def tracked(self, port: int) -> int:
        """Entries of connection tracking that WireGuard's own packets made."""
        return tracked(port)

    def kept_routes(self) -> list[float]:
        """Of each route that the kernel has made for one address alone, as after "packet too big": the seconds for
        which it is going to be kept; infinity if that has no end.
        """
        return [path.seconds for path in kept_paths()]

    def programs(self) -> list[str]:
        """The kind of each program that is attached to a link, or copies its packets: XDP, tc, tcx."""
        found = []
        for index, attached_to_driver in self._links():
            found += ["XDP"] * attached_to_driver
            found += ["tcx"] * sum(_tcx_programs(index, side) for side in _TCX_SIDES)
        for index, parent in self._queues():
            request = _TRAFFIC.pack(0, index, 0, parent, 0)
            for body in ask(ROUTING, _RTM_GETTFILTER, request, _RTM_NEWTFILTER, "list tc filters", NLM_F_DUMP):
                found += ["tc"] * _copies(attributes(body, _TRAFFIC.size))
        return found

    def _links(self) -> Iterator[tuple[int, bool]]:
        """Index of each, and whether it has a program in its driver."""
        request = _LINK.pack(0, 0, 0, 0, 0)
        for body in ask(ROUTING, _RTM_GETLINK, request, _RTM_NEWLINK, "list links", NLM_F_DUMP):
            driver = attributes(attributes(body, _LINK.size).get(_IFLA_XDP, b""))
            yield _LINK.unpack_from(body)[2], driver.get(_IFLA_XDP_ATTACHED, b"\0") != b"\0"

    def _queues(self) -> Iterator[tuple[int, int]]:
        """Index of the link and where its filters hang, of each queueing discipline that can have some."""
        request = _TRAFFIC.pack(0, 0, 0, 0, 0)
        for body in ask(ROUTING, _RTM_GETQDISC, request, _RTM_NEWQDISC, "list queues", NLM_F_DUMP):
            _family, index, handle, _parent, _info = _TRAFFIC.unpack_from(body)
            kind = attributes(body, _TRAFFIC.size).get(_TCA_KIND, b"").rstrip(b"\0")
            if kind in (b"clsact", b"ingress"):
                for side in _CLSACT_SIDES[: 1 if kind == b"ingress" else 2]:
                    yield index, side
            elif handle:
                yield index, handle


def _copies(filter_: dict[int, bytes]) -> bool:
    """Actions lie at another place in each kind's options: their names are looked for wherever they are."""
    options = filter_.get(_TCA_OPTIONS)
    if options is None:
        return False  # only the head of a chain
    return filter_.get(_TCA_KIND, b"").rstrip(b"\0") == b"bpf" or any(name in options for name in _COPYING_ACTIONS)


def _tcx_programs(index: int, side: int) -> int:
    """Programs that hang on a link itself, which netlink does not tell of. None on kernels before 6.6."""
    number = _BPF.get(platform.machine())
    if number is None:
        raise KernelRefused("list programs on a link: their number of bpf(2) is not known here", errno.ENOSYS)
    query = ctypes.create_string_buffer(_QUERY.pack(index, side, 0, 0, 0, 0, 0), _QUERY.size)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, _BPF_PROG_QUERY, query, _QUERY.size) < 0:
        error = ctypes.get_errno()
        if error in (errno.EINVAL, errno.ENOSYS, errno.ENODEV):  # an older kernel, or one without; a link that is gone
            return 0
        raise KernelRefused("list programs on a link", error)
    (count,) = struct.unpack_from("=I", query, _COUNT_AT)
    return int(count)
