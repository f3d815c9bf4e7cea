# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Purging real sessions and real ghosts in a real kernel; wg says what is left of them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import made_up
import pytest
from namespaces import PORT, Client, in_child, in_the_lab, ip, run, wait_until, wg_show
from packet_too_big import tell

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs, Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.clock import ClockReading, read_clocks
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PresharedKey, PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.purge import Figures
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.purge_run import purge
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.reconcile import remove_peer

from .conftest import Gateway

PSK = PresharedKey.from_text(made_up.key(0, "preshared"))
ENDPOINT = Endpoint.from_text("192.0.2.1:1234")
Purge = Callable[..., Figures]


def in_seconds(seconds: float) -> ClockReading:
    """What the clocks will show in so long."""
    now = read_clocks()
    later = round(seconds * 1e9)
    return ClockReading(now.realtime + later, now.boottime + later)


@pytest.fixture
def run_purge(device: KernelDevice, tmp_path: Path) -> Purge:
    """A run; ``later``: as if it were so many seconds later."""

    def run(later: float = 0, **options: object) -> Figures:
        return purge(device, state_directory=tmp_path / "purge", now=in_seconds(later), **options)  # type: ignore[arg-type]

    return run


def ghost(client: Client) -> None:
    """The client's first message arrives and the answer to it does not: the kernel has an endpoint without a
    handshake.
    """
    client.hears_nothing()
    client.calls()
    name = client.public_key.text
    wait_until(lambda: wg_show()[name].endpoint != "(none)", 15, "the gateway has heard the client")
    assert wg_show()[name].handshake == 0
    assert wg_show()[name].sent > 0, "the gateway has answered"


def test_an_idle_peer_is_forgotten_and_its_session_recovers_by_itself(gateway: Gateway, run_purge: Purge) -> None:
    client = gateway.add_client(PSK, keepalive=0)
    assert client.speaks()
    before = wg_show()[client.public_key.text]
    assert before.endpoint.startswith(client.outer + ":")
    assert before.handshake > 0
    assert run_purge(170).purged == 0
    assert wg_show()[client.public_key.text] == before

    figures = run_purge(185)

    assert (figures.peers, figures.idle, figures.ghosts, figures.oldest_endpoint_age) == (1, 1, 0, None)
    after = wg_show()[client.public_key.text]
    assert after.forgotten
    assert after.configuration == before.configuration
    # The client's session is gone at the gateway; it finds out by itself (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT).
    assert client.speaks(30)
    assert wg_show()[client.public_key.text].endpoint.startswith(client.outer + ":")


def _is_narrow(there: str) -> bool:
    return there in run("ip", "-6", "route", "show", "cache")


def test_a_narrow_path_is_forgotten_together_with_the_peer_behind_it(device: KernelDevice, run_purge: Purge) -> None:
    device.configure(listen_port=PORT)
    ip(
        "link add lan0 type veth peer name lan1",
        "addr add 2001:db8::1/64 dev lan0 nodad",
        *(f"link set {name} up" for name in ("lan0", "lan1", "wg0")),
    )
    behind, other = "2001:db8::2", "2001:db8::3"
    device.apply(
        Plan(added=[Peer(PublicKey.from_text(made_up.key(1)), endpoint=Endpoint.from_text(f"[{behind}]:1234"))])
    )
    for there in (behind, other):
        tell("2001:db8::1", there, PORT, 1300)
        wait_until(partial(_is_narrow, there), 10, "the kernel has a route")
    run_purge()

    assert run_purge(180).ghosts == 1

    assert not _is_narrow(behind)
    assert _is_narrow(other)


def test_a_purge_keeps_a_preshared_key_all_allowed_ips_and_a_keepalive(device: KernelDevice, run_purge: Purge) -> None:
    many = AllowedIPs.from_texts([f"10.{n >> 8}.{n & 255}.0/24" for n in range(1000)] + ["fd00::/48", "::/0"])
    peers = [
        Peer(PublicKey.from_text(made_up.key(1)), PSK, 25, many, ENDPOINT),
        Peer(PublicKey.from_text(made_up.key(2)), endpoint=ENDPOINT),
    ]
    device.apply(Plan(added=peers))
    before = {name: one.configuration for name, one in wg_show().items()}
    assert run_purge().waiting_ghosts == 2
    assert run_purge(180).ghosts == 2
    assert {name: one.configuration for name, one in wg_show().items()} == before
    assert all(one.forgotten for one in wg_show().values())


def test_a_ghost_is_forgotten_180_seconds_after_it_was_first_seen(gateway: Gateway, run_purge: Purge) -> None:
    client = gateway.add_client(PSK)
    ghost(client)
    figures = run_purge()
    assert (figures.ghosts, figures.waiting_ghosts) == (0, 1)
    assert run_purge(175).waiting_ghosts == 1
    figures = run_purge(182)
    assert (figures.ghosts, figures.waiting_ghosts, figures.oldest_endpoint_age) == (1, 0, None)
    assert wg_show()[client.public_key.text].forgotten
    client.hears_again()
    assert client.speaks(15)


def test_a_ghost_that_is_heard_again_is_not_purged(gateway: Gateway, run_purge: Purge) -> None:
    client = gateway.add_client()
    ghost(client)
    run_purge()
    client.hears_again()
    assert client.speaks(15)
    figures = run_purge(170)
    assert (figures.purged, figures.waiting_ghosts) == (0, 0)
    assert wg_show()[client.public_key.text].handshake > 0


def test_a_live_peer_is_untouched_while_others_are_purged(gateway: Gateway, run_purge: Purge) -> None:
    live, idle, haunting = (gateway.add_client(PSK) for _ in range(3))
    assert idle.speaks()
    ghost(haunting)
    run_purge()
    # Two seconds that decide: the idle one is a little older than the limit, the live one a little younger.
    time.sleep(2)
    assert live.speaks()
    before = wg_show()[live.public_key.text]
    (handshake,) = gateway.device.read(lambda found: [s.handshake for s in found if s.public_key == live.public_key])

    figures = run_purge(179.5 - (time.time() - handshake / 1e9))

    assert (figures.idle, figures.ghosts) == (1, 1)
    after = wg_show()
    assert after[idle.public_key.text].forgotten
    assert after[haunting.public_key.text].forgotten
    assert after[live.public_key.text] == before
    assert live.speaks()
    assert wg_show()[live.public_key.text].handshake == before.handshake, "the session was renewed"


def test_an_exempt_peer_keeps_its_endpoint(device: KernelDevice, run_purge: Purge) -> None:
    site = PublicKey.from_text(made_up.key(1))
    device.apply(Plan(added=[Peer(site, endpoint=ENDPOINT)]))
    for later in (0, 200, 400):
        assert run_purge(later, exempt={site}).purged == 0
    assert wg_show()[site.text].endpoint == "192.0.2.1:1234"


def test_check_mode_says_what_a_run_would_do_and_does_nothing(device: KernelDevice, run_purge: Purge) -> None:
    device.apply(Plan(added=[Peer(PublicKey.from_text(made_up.key(1)), endpoint=ENDPOINT)]))
    run_purge()
    before = wg_show()
    assert run_purge(200, check=True).ghosts == 1
    assert wg_show() == before
    assert run_purge(200).ghosts == 1


# --- the clock is set ---------------------------------------------------------------------------------


@pytest.fixture
def set_clock(gateway: Gateway) -> Iterator[Callable[[float], None]]:
    """Steps the wall clock of the machine by seconds."""
    assert in_the_lab(), "this is not one of our machines: its clock is not set"
    stepped = 0.0

    def step(seconds: float) -> None:
        nonlocal stepped
        stepped += seconds
        time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)

    yield step
    step(-stepped)


@pytest.mark.parametrize("step", [-7200, -100, 100, 7200])
def test_a_set_clock_neither_purges_a_live_session_nor_spares_an_idle_one(
    gateway: Gateway, run_purge: Purge, set_clock: Callable[[float], None], step: int
) -> None:
    client = gateway.add_client()
    assert client.speaks()
    run_purge()
    before = wg_show()[client.public_key.text]
    set_clock(step)
    assert run_purge().purged == 0
    assert run_purge(175).purged == 0
    assert wg_show()[client.public_key.text] == before
    assert client.speaks(), "the session lives"
    # Stepped back by less than the limit the handshake may be from before or after the step: the later one counts.
    spared = 100 if step == -100 else 0
    assert run_purge(185 + spared).idle == 1
    assert wg_show()[client.public_key.text].forgotten


# --- at the same time as others -----------------------------------------------------------------------


# Peers that fit into one message of a dump, which is of one moment then, however busy others are.
DUMP_IN_ONE = 120


def many_ghosts(count: int, first: int = 1) -> list[Peer]:
    return [
        Peer(PublicKey(n.to_bytes(32, "big")), PSK, 0, AllowedIPs.from_texts([f"10.1.{n >> 8}.{n & 255}/32"]), ENDPOINT)
        for n in range(first, first + count)
    ]


def test_at_no_moment_is_a_peer_missing(device: KernelDevice) -> None:
    """Peers are reinstated again and again while this process reads: every dump has all of them."""
    ghosts = many_ghosts(DUMP_IN_ONE)
    device.apply(Plan(added=ghosts))
    remote = [peer._replace(endpoint=None) for peer in ghosts]
    with in_child(lambda: device.reinstate(remote)) as rounds:
        begin, looks = rounds(), 0
        while looks < 50 or rounds() < begin + 10:
            names = device.read(lambda states: {state.public_key for state in states})
            assert len(names) == DUMP_IN_ONE
            looks += 1


def test_two_messages_would_be_seen_apart(device: KernelDevice) -> None:
    """The test above can fail: with the removal and the reinstatement in messages of their own it would."""
    ghosts = many_ghosts(DUMP_IN_ONE)
    device.apply(Plan(added=ghosts))

    def reinstate_in_two_messages() -> None:
        device.apply(Plan(removed=[peer.public_key for peer in ghosts], unchanged=1))
        device.apply(Plan(added=ghosts))

    with in_child(reinstate_in_two_messages):
        deadline = time.monotonic() + 60
        while device.read(lambda states: sum(1 for _ in states)) == DUMP_IN_ONE:
            assert time.monotonic() < deadline, "never seen apart"


def test_a_revoked_peer_never_comes_back(device: KernelDevice, run_purge: Purge) -> None:
    """One process purges all the time, this one revokes peer after peer; both hold the lock for it."""
    ghosts = many_ghosts(60)
    device.apply(Plan(added=ghosts))
    run_purge()

    def purge_all() -> None:
        # All are ghosts again, and old enough.
        with device.exclusive():
            present = device.read(lambda states: [state.public_key for state in states])
            device.apply(Plan(added=[peer for peer in ghosts if peer.public_key in present]))
        run_purge(0)
        run_purge(1000)

    revoked: set[PublicKey] = set()
    with in_child(purge_all) as rounds:
        begin = rounds()
        for peer in ghosts[:50]:
            assert remove_peer(device, peer.public_key).removed == [peer.public_key]
            revoked.add(peer.public_key)
            if len(revoked) % 10 == 0:
                wait_until(partial(lambda before: rounds() > before, rounds()), 60, "a whole round of purging")
                names = device.read(lambda states: {state.public_key for state in states})
                assert not names & revoked
                assert len(names) == 60 - len(revoked)
        assert rounds() >= begin + 5
    assert set(wg_show()) == {peer.public_key.text for peer in ghosts[50:]}


def test_without_the_lock_a_revoked_peer_would_come_back(device: KernelDevice) -> None:
    """What the lock is for: a purge that acts on a dump from before a revocation undoes it."""
    (peer,) = many_ghosts(1)
    device.apply(Plan(added=[peer]))
    old = device.read(lambda states: [Peer(*state[:4]) for state in states])
    remove_peer(device, peer.public_key)
    device.reinstate(old)
    assert peer.public_key.text in wg_show()


def test_a_purge_that_is_killed_leaves_no_peer_behind(device: KernelDevice, tmp_path: Path) -> None:
    ghosts = many_ghosts(400)
    device.apply(Plan(added=ghosts))
    remote = [peer._replace(endpoint=None) for peer in ghosts]
    for n in range(8):
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                while True:
                    device.reinstate(remote)
            os._exit(1)
        time.sleep(0.01 * (n + 1))
        os.kill(child, 9)
        os.waitpid(child, 0)
        assert device.read(lambda states: sum(1 for _ in states)) == 400
    assert not list(tmp_path.glob("**/*.tmp"))
