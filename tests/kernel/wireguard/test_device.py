# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's device keeps the contract that the one in memory keeps (tests/unit/wireguard/test_memory_device.py),
and wg sees the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from device_contract import *  # noqa: F403
from device_contract import ENDPOINT, ENDPOINT6, OTHER_PSK, PRIVATE, PSK, A, B, add, ips, states, update
from namespaces import Namespace, in_child, ip, run, wg_show

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import (
    InterfaceNotFound,
    KernelRefused,
    KernelWithoutWireGuard,
    NotWireGuard,
    PermissionMissing,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import PeerUpdate, Plan


def test_wg_sees_what_was_added_and_updated(device: KernelDevice) -> None:
    add(
        device,
        Peer(A, PSK, 25, ips("10.0.0.1/32", "fd00::1/128", "10.1.0.0/16"), ENDPOINT),
        Peer(B, OTHER_PSK, 0, ips("::/0"), ENDPOINT6),
    )
    update(device, PeerUpdate(B, persistent_keepalive=7, allowed_ips=ips("10.0.0.2/32"), keep_other_allowed_ips=True))
    assert wg_show() == {
        A.text: (PSK.text, "192.0.2.1:1234", {"10.0.0.1/32", "fd00::1/128", "10.1.0.0/16"}, 0, 0, 0, "25"),
        B.text: (OTHER_PSK.text, "[2001:db8::1]:1234", {"::/0", "10.0.0.2/32"}, 0, 0, 0, "7"),
    }


def test_wg_sees_the_settings(device: KernelDevice) -> None:
    device.configure(private_key=PRIVATE, listen_port=1234, fwmark=0x77)
    private, public, port, fwmark = run("wg", "show", "wg0", "dump").split()
    assert (private, public, port, fwmark) == (PRIVATE.text, PRIVATE.public_key().text, "1234", "0x77")


def test_a_link_of_another_kind_is_refused(namespace: Namespace) -> None:
    ip("link add wg0 type dummy")
    device = KernelDevice("wg0")
    for attempt in (device.settings, device.flush, lambda: states(device), lambda: device.reinstate([Peer(A)])):
        with pytest.raises(NotWireGuard):
            attempt()


def test_a_missing_interface_is_named(namespace: Namespace) -> None:
    device = KernelDevice("wg7")
    for attempt in (device.settings, device.flush, lambda: states(device), lambda: device.reinstate([Peer(A)])):
        with pytest.raises(InterfaceNotFound, match="wg7"):
            attempt()


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As nobody, in what is checked for sending netlink messages."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_without_the_capability_the_error_says_so(device: KernelDevice) -> None:
    for attempt in (device.settings, device.flush, lambda: states(device), lambda: device.reinstate([Peer(A)])):
        with unprivileged(), pytest.raises(PermissionMissing, match="CAP_NET_ADMIN is needed"):
            attempt()


def test_an_error_in_the_middle_names_no_peer_and_the_next_run_heals(device: KernelDevice) -> None:
    names = [PublicKey(bytes([n + 1]) * 32) for n in range(5)]
    good = [Peer(name, PSK, 0, ips(f"10.0.0.{n}/32")) for n, name in enumerate(names)]
    prefix_33 = ips("10.0.0.9/32").replace(b"\x03\x00\x20", b"\x03\x00\x21")
    bad = good[2]._replace(allowed_ips=type(good[2].allowed_ips)(prefix_33))
    with pytest.raises(
        KernelRefused, match=r"refused to reinstate peers that it has deleted: Invalid argument \(EINVAL\)"
    ) as caught:
        device.reinstate([*good[:2], bad, *good[3:]])
    assert PSK.text not in repr(caught.value)
    assert names[2].text not in repr(caught.value)
    shown = wg_show()
    # Before the fault: applied. The faulty one: without what was wrong. After it: not looked at.
    assert [shown[name.text].allowed_ips for name in names if name.text in shown] == [
        {"10.0.0.0/32"},
        {"10.0.0.1/32"},
        set(),
    ]
    device.reinstate(good)
    assert [wg_show()[name.text].allowed_ips for name in names] == [{f"10.0.0.{n}/32"} for n in range(5)]


def test_another_process_can_write_at_the_same_time(device: KernelDevice) -> None:
    """Answers go to the socket that asked."""
    other = Plan(added=[Peer(B)])
    with in_child(lambda: device.apply(other)):
        for n in range(50):
            device.apply(Plan(updated=[PeerUpdate(A, persistent_keepalive=n)], added=[Peer(A)]))
    assert states(device).keys() == {A, B}


@pytest.fixture
def no_module() -> Iterator[None]:
    """A kernel without WireGuard, that does not load it when it is asked for either."""
    if not Path("/sys/module/wireguard/initstate").exists():
        pytest.skip("WireGuard is built into this kernel (tests/bench/uml): it cannot be unloaded")
    helper = Path("/proc/sys/kernel/modprobe")
    before = helper.read_text(encoding="ascii")
    run("rmmod", "wireguard")
    helper.write_text("/bin/false\n", encoding="ascii")
    yield
    helper.write_text(before, encoding="ascii")
    run("modprobe", "wireguard")


@pytest.mark.usefixtures("no_module")
def test_a_kernel_without_wireguard_is_said_to_be_one() -> None:
    with pytest.raises(KernelWithoutWireGuard, match="modprobe wireguard"):
        KernelDevice("wg0").settings()
