# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit asks the kernel, where there is something to be found. `ip` and `tc` make it."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
from collections.abc import Iterator

import pytest
from namespaces import PORT, Namespace, ip, run, wait_until
from packet_too_big import tell

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.kernel import Kernel

KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])

# bpf(2), include/uapi/linux/bpf.h: two instructions that let every packet pass
_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)
_PROG_LOAD, _PROG_ATTACH, _LINK_CREATE = 5, 8, 28
_SCHED_CLS, _XDP = 3, 6
_AT_TCX_INGRESS, _AT_XDP = 46, 37
_PASS = struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0)


@pytest.fixture(autouse=True)
def lan() -> Iterator[int]:
    """A link of a host of its own, whose WireGuard port is open; its index."""
    here = Namespace()
    with here:
        ip(
            "link add lan0 type veth peer name lan1",
            "addr add 192.0.2.1/24 dev lan0",
            "addr add 2001:db8::1/64 dev lan0 nodad",
            "link set lan0 up",
            "link set lan1 up",
        )
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as port:
            port.bind(("::", PORT))
            yield socket.if_nametoindex("lan0")
    here.close()


def bpf(command: int, attributes: bytes) -> int:
    """The descriptor that bpf(2) returns."""
    given = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(_BPF, command, given, 128)
    assert result >= 0, os.strerror(ctypes.get_errno())
    return int(result)


def program(kind: int) -> int:
    code, licence = ctypes.create_string_buffer(_PASS, len(_PASS)), ctypes.create_string_buffer(b"GPL")
    return bpf(_PROG_LOAD, struct.pack("=IIQQ", kind, 2, ctypes.addressof(code), ctypes.addressof(licence)))


def tc(command: str, *more: str) -> None:
    run("tc", *command.split(), *more)


def test_a_host_in_order_has_none_of_it() -> None:
    tc("qdisc add dev lan0 clsact")
    assert Kernel().kept_routes() == []
    assert Kernel().programs() == []


def test_a_route_that_a_narrow_path_left_is_found() -> None:
    tell("2001:db8::1", "2001:db8::2", PORT, 1300)
    wait_until(Kernel().kept_routes, 10, "the kernel has a route")
    (seconds,) = Kernel().kept_routes()
    assert 590 < seconds <= 600


def test_a_program_in_a_links_driver_is_found(lan: int) -> None:
    link = bpf(_LINK_CREATE, struct.pack("=IIII", program(_XDP), lan, _AT_XDP, 0))
    assert Kernel().programs() == ["XDP"]
    os.close(link)
    assert Kernel().programs() == []


@pytest.mark.skipif(KERNEL < (6, 6), reason="Linux 6.6 can hang programs on a link itself")
def test_a_program_on_a_link_itself_is_found(lan: int) -> None:
    bpf(_PROG_ATTACH, struct.pack("=IIII", lan, program(_SCHED_CLS), _AT_TCX_INGRESS, 0))
    assert Kernel().programs() == ["tcx"]


@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_a_mirror_is_found_and_a_filter_that_drops_is_none(side: str) -> None:
    tc("qdisc add dev lan0 clsact")
    tc(f"filter add dev lan0 {side} matchall action drop")
    assert Kernel().programs() == []

    tc(f"filter add dev lan0 {side} matchall action mirred egress mirror dev lan1")
    assert Kernel().programs() == ["tc"]


def test_a_program_of_a_queue_is_found() -> None:
    tc("qdisc add dev lan0 root handle 1: prio")
    tc("filter add dev lan0 parent 1: bpf bytecode", "1,6 0 0 4294967295,")
    assert Kernel().programs() == ["tc"]
