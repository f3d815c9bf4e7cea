# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the bound nothing on a gateway knows the address of a client that left, however it left.

Each client has an address that nothing else has. All of them come and go side by side, and the gateway is searched
twice: while they are there, which proves the search, and after the bound.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from fleet.fleet import BOUND, Fleet
from fleet.gateway import INTERFACE, Gateway
from fleet.hosts import CHECKOUT
from fleet.memory import physical_memory
from fleet.traces import PYTHON, Address, Traces, recognisable
from fleet.traveller import Link, Traveller, cut_off, router

# A second of the timer's accuracy, and a run of the purge under emulation. The ghost was seen before it left.
WAIT = BOUND + 12  # seconds

SILENT, INITIATING, ROAMING, NARROW, REVOKED = "silent", "initiating", "roaming", "narrow", "revoked"
CASES = (SILENT, INITIATING, ROAMING, NARROW, REVOKED)
BEFORE_ROAMING = "before roaming"
DECOY = "decoy"  # an address of nobody, which is put where it can be found
AGENT_UNIT = CHECKOUT / "roles/key_sync/templates/lethe-key-sync.service.j2"
# What lives on in it would be seen in memory of "python"; the decoy is in that of "python3".
_READ = f"""
import pathlib, signal
from lethe.wireguard.device import KernelDevice
KernelDevice({INTERFACE!r}).compare({{}}, lambda differing, left: sum(1 for each in differing))
pathlib.Path("/run/lethe-reader").touch()
signal.pause()
"""
# Looked for only from outside, and connected after the first search: who looks at peers inside leaves traces in memory.
UNSEEN = {"unseen4": 4, "unseen6": 6}


@dataclass(frozen=True)
class Story:
    """What was seen when."""

    present: Traces
    narrow_route: bool  # to the client behind a smaller MTU
    roamed_to: str | None  # the endpoint after the change of networks
    roaming_address: Address  # the one after it
    revoked_key: str
    keys_left: list[str]  # the gateway's peers after the revocation
    departed: Traces
    # In the machine's memory, for those that nobody looked for inside: how often, by what the memory is used for.
    memory: dict[str, dict[str, dict[str, int]]]


def links() -> dict[str, Link]:
    return {
        SILENT: Link(recognisable(4)),
        INITIATING: Link(recognisable(6), deaf=True),
        ROAMING: Link(recognisable(4)),
        NARROW: Link(recognisable(6), mtu=1300),
        REVOKED: Link(recognisable(4)),
        **{name: Link(recognisable(version)) for name, version in UNSEEN.items()},
    }


@contextmanager
def admitted(gateway: Gateway, travellers: list[Traveller]) -> Iterator[None]:
    """The gateway has them as peers, like the others of its peers file."""
    peers = travellers[0].host.run(
        "".join(
            f"echo [Peer]; echo PublicKey=$(wg pubkey </run/{each.name}.key); echo AllowedIPs={each.ipv4}/32;"
            f" echo PresharedKey=$(cat /run/{each.name}.psk);"
            for each in travellers
        )
    )
    gateway.host.run(f"wg addconf {INTERFACE} /dev/stdin <<'PEERS'\n{peers}\nPEERS")
    keys = re.findall("PublicKey=(.*)", peers)
    try:
        yield
    finally:
        gateway.host.run("".join(f"wg set {INTERFACE} peer {key} remove;" for key in keys))


@contextmanager
def planted(gateway: Gateway, address: Address) -> Iterator[None]:
    """An address is in a process's memory, a file, the journal, a route and the connection tracking."""
    hold = f"import time; held = bytes.fromhex('{address.packed.hex()}'); time.sleep(600)"
    gateway.host.run(f"""set -e
        systemd-run --quiet --unit=lethe-decoy /usr/bin/python3 -c {shlex.quote(hold)}
        echo {address} >/var/tmp/decoy
        logger --tag decoy 'from {address}'
        ip route add {address} dev lo
        conntrack -I -s {address} -d 192.0.2.9 -p udp --sport 1 --dport 2 --timeout 600 >/dev/null
    """)
    try:
        yield
    finally:
        gateway.host.run(f"""
            systemctl stop lethe-decoy
            rm /var/tmp/decoy
            ip route del {address}
            conntrack -D -s {address} >/dev/null
        """)


@contextmanager
def reader(gateway: Gateway) -> Iterator[None]:
    """A process of Lethe that has read the peers, in the environment of the agent, which does so every few minutes, and
    lives on.
    """
    (environment,) = re.findall("^Environment=(.*)$", AGENT_UNIT.read_text(), re.MULTILINE)
    settings = " ".join(f"--setenv={each}" for each in environment.split())
    gateway.host.run(f"systemd-run --quiet --unit=lethe-reader {settings} {PYTHON} -c {shlex.quote(_READ)}")
    gateway.host.run("timeout 60 sh -c 'until test -e /run/lethe-reader; do sleep 0.2; done'")
    try:
        yield
    finally:
        gateway.host.run("systemctl stop lethe-reader; rm /run/lethe-reader")


@pytest.fixture(scope="module")
def story(fleet: Fleet) -> Story:
    gateway, host = fleet.gateways[0], fleet.alice.host
    since, public_key = float(gateway.host.run("date +%s")), gateway.public_key()
    travellers = {
        name: Traveller(name, host, number, link=link) for number, (name, link) in enumerate(links().items(), 100)
    }
    addresses = {name: travellers[name].link.address for name in CASES}
    unseen = {name: travellers[name].link.address for name in UNSEEN}

    def connect(*names: str) -> None:
        for name in names:
            travellers[name].know(gateway, public_key)
            if travellers[name].link.deaf:
                travellers[name].call(gateway)
            else:
                travellers[name].transfer(gateway)

    with ExitStack() as stack:
        aside = stack.enter_context(ThreadPoolExecutor())
        stack.enter_context(router(host))
        for traveller in travellers.values():
            traveller.create()
            stack.callback(traveller.remove)
        stack.enter_context(admitted(gateway, list(travellers.values())))
        connect(*CASES)
        kept_routes = gateway.host.run("ip -6 route show cache")
        stack.enter_context(reader(gateway))
        decoy = recognisable(4)
        with planted(gateway, decoy):
            present = Traces.on(gateway, {**addresses, DECOY: decoy}, since)

        roaming, revoked = travellers[ROAMING], travellers[REVOKED]
        addresses[BEFORE_ROAMING] = roaming.link.address
        addresses[ROAMING] = recognisable(4)
        roaming.move(addresses[ROAMING])
        roaming.transfer(gateway)
        roamed_to = gateway.endpoint(roaming.public_key)
        fleet.revoke(revoked)
        keys_left = gateway.peers()
        revoked.call(gateway)  # it is not told, and goes on
        connect(*UNSEEN)
        memory_present = aside.submit(physical_memory, gateway.host, unseen)
        cut_off(travellers.values())
        time.sleep(WAIT)

        memory_departed = aside.submit(physical_memory, gateway.host, unseen)
        departed = Traces.on(gateway, addresses, since)
    memory = {"present": memory_present.result(), "departed": memory_departed.result()}
    narrow_route = str(addresses[NARROW]) in kept_routes
    return Story(present, narrow_route, roamed_to, addresses[ROAMING], revoked.public_key, keys_left, departed, memory)


class TestWhileTheyAreThere:
    """What the search after the bound is worth."""

    @pytest.mark.parametrize("case", CASES)
    def test_the_search_finds_each(self, story: Story, case: str) -> None:
        assert {"WireGuard's netlink dump", "wg show all dump"} <= set(story.present.found[case])

    def test_the_kernel_keeps_a_route_to_who_is_behind_a_smaller_mtu(self, story: Story) -> None:
        assert story.narrow_route

    @pytest.mark.parametrize(
        "place",
        ["the file /var/tmp/decoy", "memory of python3", "journalctl --output=export --no-pager", "conntrack -L",
         "ip -4 route show table all", "the file /proc/self/net/route", "the file /proc/self/net/fib_trie"],
    )  # fmt: skip
    def test_the_search_finds_what_is_planted(self, story: Story, place: str) -> None:
        assert place in story.present.found[DECOY]

    def test_the_search_finds_it_in_the_journals_files(self, story: Story) -> None:
        assert [place for place in story.present.found[DECOY] if "/log/journal/" in place]

    def test_one_has_roamed_and_one_is_revoked(self, story: Story) -> None:
        assert (story.roamed_to or "").startswith(f"{story.roaming_address}:")
        assert story.revoked_key not in story.keys_left


class TestAfterTheBound:
    @pytest.mark.parametrize("case", [*CASES, BEFORE_ROAMING])
    def test_nothing_is_left(self, story: Story, case: str) -> None:
        assert story.departed.places >= story.present.places * 0.8
        assert story.departed.found[case] == ()

    @pytest.mark.parametrize("name", UNSEEN)
    def test_what_memory_still_has_is_reported(
        self, story: Story, name: str, record_property: Callable[[str, object], None]
    ) -> None:
        """From outside, with all of the machine's memory. What is in memory that is free again, nobody promises."""
        for when, seen in story.memory.items():
            record_property(when, seen[name])
            print(f"{name}, {when}: {seen[name]}")
        assert story.memory["present"][name]  # so it is found where it is
