# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of large interfaces: peers that straddle messages, and peers that change while they are read."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator

import pytest
from namespaces import in_child, run

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import dumps, messages
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import DumpInterrupted
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PresharedKey, PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.netlink import (
    Interrupted,
    WireGuardSocket,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Configuration, Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan


def peers(count: int, allowed_ips: int = 2, first: int = 0) -> list[Peer]:
    """Made-up peers. The interface has no private key, so that they cost the kernel no mathematics."""
    return [
        Peer(
            PublicKey((n + 1).to_bytes(32, "big")),
            PresharedKey((n + 7).to_bytes(32, "big")),
            n % 3,
            AllowedIPs.from_texts(
                [
                    f"10.{n >> 4}.{(n & 15) << 4 | i >> 8}.{i & 255}/32" if i % 2 else f"fd00:{n:x}::{i:x}/128"
                    for i in range(allowed_ips if n % 50 else 8 * allowed_ips)
                ]
            ),
        )
        for n in range(first, first + count)
    ]


def bodies(name: str) -> list[bytes]:
    with WireGuardSocket(name) as kernel:
        return list(kernel.dump())


@pytest.mark.parametrize(("count", "allowed_ips"), [(3000, 2), (400, 30), (3, 500)])
def test_peers_that_straddle_messages_are_read_whole(device: KernelDevice, count: int, allowed_ips: int) -> None:
    wanted = peers(count, allowed_ips)
    device.apply(Plan(added=wanted))

    found = device.read(list)

    parts = [state.public_key for body in bodies("wg0") for state in dumps.peer_states([body])]
    assert len(parts) > len(set(parts)), "no peer straddled two messages: the test shows nothing"
    assert {Peer(*state[:4]) for state in found} == set(wanted)
    assert len(found) == count
    shown = {}
    for line in run("wg", "show", "wg0", "allowed-ips").splitlines():
        name, allowed = line.split("\t")
        shown[name] = allowed.split()
    assert {state.public_key.text: state.allowed_ips.texts for state in found} == shown


def test_peers_that_straddle_messages_compare_whole(device: KernelDevice) -> None:
    wanted = peers(1500, 5)
    device.apply(Plan(added=wanted))
    expected: dict[bytes, bytes] = {peer.public_key: Configuration.of(peer) for peer in wanted}
    changed = wanted[777]
    expected[changed.public_key] = Configuration.of(changed._replace(allowed_ips=AllowedIPs(changed.allowed_ips[:-40])))

    differing, left = device.compare(expected, lambda states, left: (list(states), left))

    # Decoded are the changed one and the last of each message; all are as they are.
    assert changed.public_key in left
    assert {state.public_key for state in differing} == left.keys()
    assert {Peer(*state[:4]) for state in differing} < set(wanted)
    assert len(differing) < 60


class Swapping:
    """Writes to an interface so that after every message it has the same number of peers: some leave and as many
    come, in one message. A dump that shows another number is not of one state.
    """

    COUNT = 900  # several messages of a dump
    SOME = 40

    def __init__(self, device: KernelDevice) -> None:
        everyone = peers(self.COUNT + self.SOME)
        device.apply(Plan(added=everyone[: self.COUNT]))
        self._interface = device.name
        self._messages = itertools.cycle(self._rounds(everyone))
        begin = time.perf_counter()
        device.read(lambda states: sum(1 for _ in states))
        self._dump_time = time.perf_counter() - begin
        self._dice = random.Random(0)

    def _rounds(self, everyone: list[Peer]) -> Iterator[bytes]:
        """Each removes a window of peers and adds those that were missing, first or last in the kernel's list."""
        windows = [everyone[at : at + self.SOME] for at in range(0, len(everyone) - self.SOME + 1, self.SOME)]
        missing = everyone[self.COUNT :]
        for window in [*windows[::-1][1:], everyone[self.COUNT :]]:
            yield b"".join(
                [*(messages.encode_removal(peer.public_key) for peer in window)]
                + [piece for peer in missing for piece in messages.encode_peer(peer)]
            )
            missing = window

    def __call__(self) -> None:
        with WireGuardSocket(self._interface) as kernel:
            kernel.set("swap", peers=next(self._messages))
        # Some dumps are to come through and some are not.
        time.sleep(self._dump_time * self._dice.choice([0, 1, 4]))


def test_a_dump_is_of_one_state_or_not_given(device: KernelDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = 0
    dump = WireGuardSocket.dump

    def counting(self: WireGuardSocket) -> Iterator[bytes]:
        nonlocal interrupted
        try:
            yield from dump(self)
        except Interrupted:
            interrupted += 1
            raise

    monkeypatch.setattr(WireGuardSocket, "dump", counting)
    given = 0
    with in_child(Swapping(device)) as swapped:
        before = swapped()
        while interrupted < 15 or given < 5:
            try:
                names = device.read(lambda states: [state.public_key for state in states])
            except DumpInterrupted:
                continue
            given += 1
            assert len(names) == Swapping.COUNT
            assert len(set(names)) == Swapping.COUNT
        assert swapped() > before


def test_a_dump_that_ends_early_is_not_given(device: KernelDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer at which the dump stands is removed between two of its messages: the kernel ends it there."""
    wanted = peers(2000)
    device.apply(Plan(added=wanted))
    dump = WireGuardSocket.dump
    seen: list[list[bytes]] = []

    def emptied_meanwhile(self: WireGuardSocket) -> Iterator[bytes]:
        seen.append([])
        for body in dump(self):
            seen[-1].append(body)
            yield body
            if len(seen) == 1 and len(seen[0]) == 1:
                with WireGuardSocket("wg0") as other:
                    # All but those that the first two messages can hold.
                    gone = [messages.encode_removal(peer.public_key) for peer in wanted[:1900]]
                    other.set("interfere", peers=b"".join(gone[:950]))
                    other.set("interfere", peers=b"".join(gone[950:]))

    monkeypatch.setattr(WireGuardSocket, "dump", emptied_meanwhile)
    found = device.read(lambda states: [state.public_key for state in states])

    assert len(seen) == 2, "the first dump was not retried"
    early = {state.public_key for state in dumps.peer_states(seen[0])}
    assert not {peer.public_key for peer in wanted[1900:]} <= early, "the first dump did not end early"
    assert found == [peer.public_key for peer in wanted[1900:]]


def test_peers_that_never_stand_still_are_an_error(device: KernelDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    device.apply(Plan(added=peers(2000)))
    dump = WireGuardSocket.dump
    attempts = 0

    def changed_meanwhile(self: WireGuardSocket) -> Iterator[bytes]:
        nonlocal attempts
        attempts += 1
        for body in dump(self):
            yield body
            with WireGuardSocket("wg0") as other:
                other.set("interfere", fwmark=attempts)

    monkeypatch.setattr(WireGuardSocket, "dump", changed_meanwhile)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(DumpInterrupted, match=f"wg0 kept changing while they were read .{20} attempts"):
        device.read(lambda states: sum(1 for _ in states))
    assert attempts == 20


def test_a_dump_that_is_left_unfinished_does_no_harm(device: KernelDevice) -> None:
    device.apply(Plan(added=peers(2000)))
    for _ in range(50):
        assert device.read(lambda states: next(states).public_key) == PublicKey((1).to_bytes(32, "big"))
        device.settings()
    assert device.read(lambda states: sum(1 for _ in states)) == 2000
