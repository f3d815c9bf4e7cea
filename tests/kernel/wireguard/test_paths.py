# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes to single addresses that a narrow path leaves behind; `ip` is the witness."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from namespaces import PORT, Namespace, ip, run, wait_until
from packet_too_big import tell

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.paths import forget_paths, kept_paths

HERE, NEAR, FAR = "2001:db8::1", "2001:db8::2", "2001:db8::3"


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def told_of(there: str) -> None:
    """A path is narrow, and the kernel has understood."""
    tell(HERE, there, PORT, 1300)
    wait_until(lambda: there in run("ip", "-6", "route", "show", "cache"), 10, "the kernel has a route")


@pytest.fixture(autouse=True)
def narrow() -> Iterator[None]:
    """A host that was told of two paths that they are narrow. Whose port is open, a router may tell of."""
    here = Namespace()
    with here:
        ip(
            "link add lan0 type veth peer name lan1",
            "addr add 192.0.2.1/24 dev lan0",
            f"addr add {HERE}/64 dev lan0 nodad",
            "link set lan0 up",
            "link set lan1 up",
        )
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as port:
            port.bind(("::", PORT))
            told_of(NEAR)
            run("sysctl", "net.ipv6.route.mtu_expires=60")
            told_of(FAR)
            yield
    here.close()


def test_they_are_found_with_the_time_that_they_have() -> None:
    kept = {path.address: path.seconds for path in kept_paths()}

    assert kept.keys() == {packed(NEAR), packed(FAR)}
    assert 590 < kept[packed(NEAR)] <= 600
    assert 50 < kept[packed(FAR)] <= 60


def test_those_to_one_address_are_removed_and_no_others() -> None:
    assert forget_paths({packed(NEAR), packed("192.0.2.2"), packed("2001:db8::4")}) == 1

    assert [path.address for path in kept_paths()] == [packed(FAR)]
    assert NEAR not in run("ip", "-6", "route", "show", "cache")
    assert "mtu 1300" not in run("ip", "-6", "route", "get", NEAR)
    assert "mtu 1300" in run("ip", "-6", "route", "get", FAR)
    assert forget_paths({packed(NEAR)}) == 0


def test_for_ipv4_they_are_found_as_soon_as_they_are_used() -> None:
    tell("192.0.2.1", "192.0.2.2", PORT, 1300)
    wait_until(lambda: "mtu 1300" in run("ip", "route", "get", "192.0.2.2"), 10, "the kernel has a route")
    assert packed("192.0.2.2") in {path.address for path in kept_paths()}
