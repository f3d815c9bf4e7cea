# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of connection tracking, with `conntrack` as the witness."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from namespaces import PORT, Namespace, ip, run

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.tracking import forget_tracked, tracked

# Whoever asks for the state of a connection makes the kernel track them; one port leads to WireGuard's.
RULES = f"""table inet t {{
    chain state {{ type filter hook input priority filter; ct state established accept; }}
    chain other {{ type nat hook prerouting priority dstnat; udp dport 443 redirect to :{PORT}; }}
}}"""


@pytest.fixture
def client() -> Iterator[Namespace]:
    """A host with a link to this one, whose WireGuard port is open: a socket is all that it takes."""
    here, there = Namespace(), Namespace()
    with here:
        ip(
            f"link add lan0 type veth peer name lan0 netns {there.path}",
            "addr add 192.0.2.1/24 dev lan0",
            "addr add 2001:db8::1/64 dev lan0 nodad",
            "link set lan0 up",
        )
        with there:
            ip("addr add 192.0.2.2/24 dev lan0", "addr add 2001:db8::2/64 dev lan0 nodad", "link set lan0 up")
        run("nft", RULES)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as port:
            port.bind(("::", PORT))
            yield there
    there.close()
    here.close()


def send(address: str, port: int, source: int = 0) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        if source:
            sender.bind(("", source))
        sender.sendto(b"hello", (address, port))


def test_entries_of_the_port_are_found_and_removed_and_no_others(client: Namespace) -> None:
    with client:
        send("192.0.2.1", PORT)
        send("2001:db8::1", PORT)
        send("192.0.2.1", 443)  # which leads there
        send("192.0.2.1", 53)
        send("192.0.2.1", 9999, source=PORT)  # another port of that number

    assert (tracked(PORT), tracked(53)) == (3, 1)
    assert forget_tracked(PORT) == 3

    left = run("conntrack", "-L") + run("conntrack", "-L", "-f", "ipv6")
    assert left.count("\n") == 2
    assert "dport=53 " in left
    assert "dport=9999 " in left
    assert (tracked(PORT), forget_tracked(PORT)) == (0, 0)


def test_what_is_sent_first_from_here_is_found(client: Namespace) -> None:
    send("192.0.2.2", 7777, source=PORT + 1)
    assert (tracked(PORT + 1), tracked(7777)) == (1, 0)


def test_nothing_is_found_where_nothing_is_tracked(client: Namespace) -> None:
    run("nft", "flush", "ruleset")
    with client:
        send("192.0.2.1", PORT)
    assert tracked(PORT) == 0
