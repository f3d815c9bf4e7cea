# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packed peers: the file, and comparing what it holds with a dump."""

from __future__ import annotations

import struct
from pathlib import Path

import netlink_tree as tree
import pytest
import strategies
from device_contract import ENDPOINT, PSK, A, B, ips
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import dumps
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.inventory import peers_from_file
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.packed import MAGIC, PackedPeers, pack
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import (
    Configuration,
    Peer,
    PeerState,
)


@st.composite
def packable(draw: st.DrawFn) -> dict[PublicKey, Peer]:
    """Peers of one shape, with single addresses of their own."""
    has_key, has_v4, has_v6 = (draw(st.booleans()) for _ in range(3))
    names = draw(st.lists(strategies.public_keys, unique=True, max_size=8))
    secrets = st.binary(min_size=32, max_size=32).filter(any).map(PresharedKey)
    return {
        name: Peer(
            name,
            draw(secrets) if has_key else NO_PRESHARED_KEY,
            0,
            ips(*[f"10.0.{n}.1/32"] * has_v4, *[f"fd00::{n:x}/128"] * has_v6),
        )
        for n, name in enumerate(names)
    }


@given(packable())
def test_packing_and_unpacking_gives_the_same_peers(fleet: dict[PublicKey, Peer]) -> None:
    packed = PackedPeers(pack(fleet))
    assert dict(packed) == fleet
    assert list(packed) == list(fleet)
    assert len(packed) == len(fleet)
    assert all(name in packed and packed[name] == peer for name, peer in fleet.items())
    assert packed.configurations == {name: Configuration.of(peer) for name, peer in fleet.items()}


def test_the_bytes_of_a_packed_file() -> None:
    data = pack({A: Peer(A, PSK, 0, ips("10.0.0.1/32", "fd00::1/128"))})
    assert data == b"LETHEPP1" + struct.pack(">II", 7, 1) + A + PSK + bytes([10, 0, 0, 1]) + bytes.fromhex(
        "fd" + "00" * 14 + "01"
    )


def test_a_packed_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "peers"
    path.write_bytes(pack({A: Peer(A, PSK, 0, ips("10.0.0.1/32"))}))
    assert dict(peers_from_file(path)) == {A: Peer(A, PSK, 0, ips("10.0.0.1/32"))}


@given(packable().filter(bool), st.integers(-60, 60).filter(bool))
def test_a_file_that_was_cut_off_or_has_more_than_it_says_is_refused(fleet: dict[PublicKey, Peer], change: int) -> None:
    data = pack(fleet)
    wrong = data[:change] if change < 0 else data + bytes(change)
    with pytest.raises(InvalidValue) as caught:
        PackedPeers(wrong, "/run/peers")
    assert str(caught.value).startswith("/run/peers: ")
    assert next(iter(fleet)).hex()[:16] not in told_by(caught.value)


@pytest.mark.parametrize("has", [8, 0x80000000, 0xFFFFFFFF])
def test_parts_that_are_not_known_are_refused(has: int) -> None:
    with pytest.raises(InvalidValue):
        PackedPeers(MAGIC + struct.pack(">II", has, 0))


def test_a_key_or_an_address_twice_is_refused() -> None:
    one = Peer(A, PSK, 0, ips("10.0.0.1/32", "fd00::1/128"))
    for other in (
        one._replace(allowed_ips=ips("10.0.0.2/32", "fd00::2/128")),
        Peer(B, PSK, 0, ips("10.0.0.1/32", "fd00::2/128")),
        Peer(B, PSK, 0, ips("10.0.0.2/32", "fd00::1/128")),
    ):
        data = pack({A: one, PublicKey(bytes(32)): other})
        with pytest.raises(InvalidValue, match="twice"):
            PackedPeers(data)


@pytest.mark.parametrize(
    "peer",
    [
        Peer(B, PSK, 25, ips("10.0.0.2/32")),
        Peer(B, NO_PRESHARED_KEY, 0, ips("10.0.0.2/32")),
        Peer(B, PSK, 0, ips("10.0.0.0/24")),
        Peer(B, PSK, 0, ips("10.0.0.2/32", "10.0.0.3/32")),
        Peer(B, PSK, 0, ips("fd00::1/128")),
        Peer(B, PSK, 0, ips()),
        Peer(B, PSK, 0, ips("10.0.0.2/32"), ENDPOINT),
    ],
    ids=["keepalive", "no preshared key", "network", "two of one kind", "other family", "no address", "endpoint"],
)
def test_a_peer_of_another_shape_is_refused_by_its_place(peer: Peer) -> None:
    with pytest.raises(InvalidValue) as caught:
        pack({A: Peer(A, PSK, 0, ips("10.0.0.1/32")), B: peer})
    assert caught.value.field == "peers[1]"


def test_addresses_are_kept_in_the_order_of_the_file() -> None:
    """IPv4 first, as a file has them: for a peer that listed IPv6 first this is no change (plan.py)."""
    (peer,) = PackedPeers(pack({A: Peer(A, PSK, 0, ips("fd00::1/128", "10.0.0.1/32"))})).values()
    assert peer.allowed_ips.texts == ["10.0.0.1/32", "fd00::1/128"]


# --- comparing with a dump ----------------------------------------------------------------------------


@given(
    strategies.dumps | strategies.fleet_dumps,
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7))),
    st.none() | st.integers(),
    st.randoms(use_true_random=False),
)
def test_comparing_a_dump_leaves_out_peers_as_expected_and_nothing_else(
    states: list[PeerState], cuts: set[tuple[int, int]], seed: int | None, dice: object
) -> None:
    expected: dict[bytes, bytes] = {}
    for n, state in enumerate(states):
        if dice.random() < 0.7:  # type: ignore[attr-defined]
            other = state._replace(persistent_keepalive=state.persistent_keepalive ^ 1) if n % 3 == 2 else state
            expected[state.public_key] = Configuration.of(other)
    expected[b"missing".ljust(32)] = b"x" * 40
    left = dict(expected)
    given_states = list(dumps.differing_peer_states(tree.dump(states, cuts, seed), left))
    by_key = {state.public_key: state for state in states}
    # What is given is whole and true.
    assert all(state == by_key[state.public_key] for state in given_states)
    # What is not given is as expected, and taken out of what is left.
    for name in by_key.keys() - {state.public_key for state in given_states}:
        assert expected[name] == Configuration.of(by_key[name])
        assert name not in left
    # What is given is still left, if it was expected at all.
    assert left.keys() == expected.keys() - (by_key.keys() - {state.public_key for state in given_states})


def test_most_peers_as_expected_are_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [
        PeerState(PublicKey(bytes([n]) * 32), PSK, 0, ips(f"10.0.0.{n}/32", f"fd00::{n}/128"), endpoint, 5, 6, 7)
        for n, endpoint in enumerate([None, ENDPOINT] * 10)
    ]
    decoded: list[int] = []
    fixed = dumps._fixed_peer
    monkeypatch.setattr(dumps, "_fixed_peer", lambda *peer: decoded.append(1) or fixed(*peer))
    expected: dict[bytes, bytes] = {state.public_key: Configuration.of(state) for state in states}
    given = list(dumps.differing_peer_states(tree.dump(states), expected))
    assert len(given) == 1, "the last may go on in another message"
    assert len(decoded) == 1


def test_printing_a_configuration_does_not_show_it() -> None:
    assert repr(Configuration.of(Peer(A, PSK))) == "<Configuration>"
    assert f"{Configuration.of(Peer(A, PSK))}" == "<Configuration>"


def test_peers_never_heard_from_are_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = {3: (ENDPOINT, 0), 7: (None, 5), 8: (ENDPOINT, 6)}
    states = [
        PeerState(PublicKey(bytes([n]) * 32), PSK, 0, ips(f"10.0.0.{n}/32"), *heard.get(n, (None, 0)), 0, 0)
        for n in range(12)
    ]
    decoded: list[int] = []
    fixed = dumps._fixed_peer
    monkeypatch.setattr(dumps, "_fixed_peer", lambda *peer: decoded.append(1) or fixed(*peer))
    given = list(dumps.heard_peer_states(tree.dump(states)))
    assert len(given) == len(states)
    assert [state for state in given if state is not None] == [states[3], states[7], states[8], states[11]]
    assert len(decoded) == 3, "one is in a row; the last may go on in another message"
