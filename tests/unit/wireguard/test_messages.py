# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The codec against an independent one (tests/netlink_tree.py) and pyroute2's."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import netlink_tree as tree
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import dumps, messages
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs, Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    PresharedKey,
    PrivateKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer, PeerState

REMOVE_ME, REPLACE_ALLOWED_IPS, UPDATE_ONLY = 1, 2, 4
KEY = PublicKey(bytes(range(32)))


def expected(peer: Peer, flags: int) -> dict[str, object]:
    """What the independent reader should find of a whole peer."""
    fields: dict[str, object] = {
        "public_key": peer.public_key,
        "flags": flags,
        "preshared_key": peer.preshared_key,
        "keepalive": peer.persistent_keepalive,
    }
    if peer.endpoint is not None:
        fields["endpoint"] = peer.endpoint
    if peer.allowed_ips:
        fields["allowed_ips"] = peer.allowed_ips.texts
    return fields


@given(strategies.peers)
def test_a_peer_is_whole_and_replaces_its_allowed_ips(peer: Peer) -> None:
    assert tree.peers_of(b"".join(messages.encode_peer(peer))) == [expected(peer, REPLACE_ALLOWED_IPS)]


@given(strategies.peers)
def test_a_reinstatement_removes_first_and_is_one_piece(peer: Peer) -> None:
    (piece,) = messages.encode_reinstatement(peer)
    removal, whole = tree.peers_of(piece)
    assert removal == {"public_key": peer.public_key, "flags": REMOVE_ME}
    assert whole == expected(peer, REPLACE_ALLOWED_IPS)


@given(
    strategies.public_keys,
    st.none() | strategies.preshared_keys,
    st.none() | strategies.keepalives,
    st.none() | strategies.endpoints,
    st.none() | strategies.allowed_ips,
    st.booleans(),
)
def test_an_update_sends_what_is_given_and_never_makes_a_peer(
    public_key: PublicKey,
    preshared_key: PresharedKey | None,
    keepalive: int | None,
    endpoint: Endpoint | None,
    allowed_ips: AllowedIPs | None,
    keep: bool,
) -> None:
    pieces = messages.encode_update(
        public_key,
        preshared_key=preshared_key,
        persistent_keepalive=keepalive,
        endpoint=endpoint,
        allowed_ips=allowed_ips,
        keep_other_allowed_ips=keep,
    )
    given_fields = {
        "preshared_key": preshared_key,
        "keepalive": keepalive,
        "endpoint": endpoint,
        "allowed_ips": allowed_ips.texts if allowed_ips else None,
    }
    replaces = REPLACE_ALLOWED_IPS if allowed_ips is not None and not keep else 0
    assert tree.peers_of(b"".join(pieces)) == [
        {
            "public_key": public_key,
            "flags": UPDATE_ONLY | replaces,
            **{name: value for name, value in given_fields.items() if value is not None},
        }
    ]


def many(count: int, version: int) -> AllowedIPs:
    if version == 4:
        return AllowedIPs.from_texts([f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in range(count)])
    return AllowedIPs.from_texts([f"fd00::{n:x}/128" for n in range(count)])


@pytest.mark.parametrize(("count", "version"), [(1624, 6), (1625, 6), (1626, 6), (2321, 4), (2322, 4), (9000, 4)])
@pytest.mark.parametrize("operation", ["peer", "update", "extension", "reinstatement"])
def test_any_number_of_allowed_ips_fits_into_messages(count: int, version: int, operation: str) -> None:
    allowed_ips = many(count, version)
    peer = Peer(KEY, PresharedKey(bytes(range(32))), 25, allowed_ips, Endpoint.from_text("[2001:db8::1]:1"))
    pieces = {
        "peer": lambda: messages.encode_peer(peer),
        "update": lambda: messages.encode_update(KEY, allowed_ips=allowed_ips, preshared_key=peer.preshared_key),
        "extension": lambda: messages.encode_update(KEY, allowed_ips=allowed_ips, keep_other_allowed_ips=True),
        "reinstatement": lambda: messages.encode_reinstatement(peer),
    }[operation]()
    assert (len(pieces) > 1) == (len(allowed_ips) > messages.MESSAGE_BYTES - 512)
    assert max(map(len, pieces)) + 4 <= messages.MESSAGE_BYTES
    first, *further = [found for piece in pieces for found in tree.peers_of(piece) if found["flags"] != REMOVE_ME]
    assert (
        first["flags"]
        == {
            "peer": REPLACE_ALLOWED_IPS,
            "update": UPDATE_ONLY | REPLACE_ALLOWED_IPS,
            "extension": UPDATE_ONLY,
            "reinstatement": REPLACE_ALLOWED_IPS,
        }[operation]
    )
    # What follows must neither take away what the first brought nor bring back a peer that was removed meanwhile.
    assert all(found["flags"] == UPDATE_ONLY for found in further)
    assert [ip for found in (first, *further) for ip in found["allowed_ips"]] == allowed_ips.texts


@given(
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.text("abcwg0123456789-.", min_size=1, max_size=15),
    st.none() | st.binary(min_size=32, max_size=32).map(PrivateKey),
    st.none() | st.integers(0, 65535),
    st.none() | st.integers(0, 2**32 - 1),
    st.booleans(),
    st.lists(strategies.peers, max_size=4),
)
def test_a_message_is_what_the_independent_reader_and_pyroute2_take_it_for(
    family: int,
    sequence: int,
    name: str,
    private_key: PrivateKey | None,
    listen_port: int | None,
    fwmark: int | None,
    replace_peers: bool,
    peers: list[Peer],
) -> None:
    from pyroute2.netlink.generic.wireguard import wgmsg

    data = messages.set_device(
        family,
        sequence,
        name,
        private_key=private_key,
        listen_port=listen_port,
        fwmark=fwmark,
        replace_peers=replace_peers,
        peers=b"".join(piece for peer in peers for piece in messages.encode_peer(peer)),
    )
    found = tree.request(data)
    assert found[1:6] == (family, 0x5, sequence, 1, 1)
    assert found.device["ifname"] == name.encode() + b"\0"
    assert found.device.get("private_key") == private_key
    assert found.device.get("listen_port") == (None if listen_port is None else listen_port.to_bytes(2, "little"))
    assert found.device.get("fwmark") == (None if fwmark is None else fwmark.to_bytes(4, "little"))
    assert found.device.get("flags") == (b"\1\0\0\0" if replace_peers else None)
    assert found.device.get("peers", []) == [expected(peer, REPLACE_ALLOWED_IPS) for peer in peers]

    other = wgmsg(data)
    other.decode()
    assert (other["cmd"], other["version"]) == (1, 1)
    assert other.get_attr("WGDEVICE_A_IFNAME") == name
    assert other.get_attr("WGDEVICE_A_LISTEN_PORT") == listen_port
    assert other.get_attr("WGDEVICE_A_FWMARK") == fwmark
    for peer, theirs in zip(peers, other.get_attr("WGDEVICE_A_PEERS") or [], strict=True):
        assert theirs.get_attr("WGPEER_A_PUBLIC_KEY").decode() == peer.public_key.text
        assert theirs.get_attr("WGPEER_A_PRESHARED_KEY").decode() == peer.preshared_key.text
        assert theirs.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") == peer.persistent_keepalive
        assert [ip["addr"] for ip in theirs.get_attr("WGPEER_A_ALLOWEDIPS") or []] == peer.allowed_ips.texts


# --- dumps --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def general_path_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dumps, "_fixed_peer", lambda *_: None)
        patch.setattr(dumps, "_is_row", lambda *_: False)
        yield


@contextlib.contextmanager
def fast_path_only() -> Iterator[None]:
    def refuse(*_: object) -> PeerState:
        raise AssertionError("not in the fixed layout")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dumps, "_any_peer", refuse)
        yield


@given(strategies.dumps)
def test_a_dump_in_the_kernels_layout_is_read_by_the_fast_path(states: list[PeerState]) -> None:
    with fast_path_only():
        assert list(dumps.peer_states(tree.dump(states))) == states


@given(strategies.dumps)
def test_the_general_path_reads_the_same(states: list[PeerState]) -> None:
    with general_path_only():
        assert list(dumps.peer_states(tree.dump(states))) == states


@given(strategies.fleet_dumps, st.sets(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=3))
def test_a_fleets_dump_is_read_alike_by_rows_and_one_by_one(
    states: list[PeerState], cuts: set[tuple[int, int]]
) -> None:
    bodies = tree.dump(states, cuts)
    assert list(dumps.peer_states(bodies)) == states
    given = list(dumps.heard_peer_states(bodies))
    assert len(given) == len(states)
    known = [state for state in given if state is not None]
    assert all(state in states for state in known)
    assert all(state in known for state in states if state.endpoint or state.handshake)


def test_rows_are_really_read_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    state = PeerState(
        PublicKey(bytes(32)), PresharedKey(bytes(32)), 0, AllowedIPs.from_texts(["10.0.0.1/32"]), None, 0, 1, 2
    )
    states = [state._replace(public_key=PublicKey(bytes([n]) * 32)) for n in range(50)]
    alone: list[int] = []
    fixed = dumps._fixed_peer
    monkeypatch.setattr(dumps, "_fixed_peer", lambda *peer: alone.append(1) or fixed(*peer))
    assert list(dumps.peer_states(tree.dump(states))) == states
    assert len(alone) == 1, "the last may go on in another message"


@given(strategies.dumps, st.integers())
def test_another_order_padding_and_unknown_attributes_change_nothing(states: list[PeerState], seed: int) -> None:
    assert list(dumps.peer_states(tree.dump(states, seed=seed))) == states


@pytest.mark.parametrize("padded", [(), (8, 7), (7,)], ids=["aligned", "both counters", "the second counter"])
@given(strategies.dumps)
def test_counters_padded_as_kernels_do_it_are_read_by_the_fast_path(
    padded: tuple[int, ...], states: list[PeerState]
) -> None:
    """nla_need_padding_for_64bit(), include/net/netlink.h: an empty attribute before a counter."""

    def pad(parts: list[bytes]) -> bytes:
        padding = tree.attribute(0, b"")
        kinds = [tree.attributes(part)[0][0] for part in parts]
        return b"".join(padding + part if kind in padded else part for kind, part in zip(kinds, parts, strict=True))

    peers = [
        tree.attribute(tree.NESTED, pad(tree.head(state)) + tree.allowed_ips(state.allowed_ips.texts))
        for state in states
    ]
    with fast_path_only():
        assert list(dumps.peer_states([tree.body(peers)])) == states


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_peer_divided_at_any_one_point_is_whole_again(count: int, seed: int | None) -> None:
    texts = [f"10.0.0.{n}/32" if n % 2 else f"fd00::{n}/128" for n in range(count)]
    template = PeerState(KEY, PresharedKey(b"p" * 32), 25, AllowedIPs.from_texts(texts), None, 3_000_000_007, 5, 9)
    states = [template._replace(public_key=PublicKey(bytes([n]) * 32)) for n in range(3)]
    for peer in range(3):
        for at in range(count + 2):
            assert list(dumps.peer_states(tree.dump(states, {(peer, at)}, seed))) == states


@given(strategies.dumps, st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7))), st.none() | st.integers())
def test_peers_divided_anywhere_and_often_are_whole_again(
    states: list[PeerState], cuts: set[tuple[int, int]], seed: int | None
) -> None:
    assert list(dumps.peer_states(tree.dump(states, cuts, seed))) == states


def test_a_continuation_without_allowed_ips_changes_nothing() -> None:
    """What the kernel sends when allowed IPs changed between two messages of a dump (get_peer())."""
    state = PeerState(KEY, PresharedKey(b"p" * 32), 25, AllowedIPs.from_texts(["10.0.0.1/32"]), None, 0, 0, 0)
    only_key = tree.body([tree.attribute(tree.NESTED, tree.attribute(1, KEY))])
    assert list(dumps.peer_states([*tree.dump([state]), only_key])) == [state]


def test_the_interfaces_own_attributes_may_come_again() -> None:
    """The kernel repeats them while the first peer is not through (wg_get_device_dump())."""
    state = PeerState(
        KEY, PresharedKey(b"p" * 32), 25, AllowedIPs.from_texts(["10.0.0.1/32", "10.0.0.2/32"]), None, 0, 0, 0
    )
    device = tree.attribute(2, b"wg0\0") + tree.attribute(3, b"k" * 32) + tree.attribute(6, b"\1\2")
    bodies = [tree.GENL_HEADER + device + body[4:] for body in tree.dump([state], {(0, 1)})]
    assert list(dumps.peer_states(bodies)) == [state]


def test_an_interface_without_peers_has_none() -> None:
    assert list(dumps.peer_states([tree.GENL_HEADER + tree.attribute(2, b"wg0\0")])) == []
    assert list(dumps.peer_states([])) == []


def test_an_interface_without_a_private_key_has_no_public_key() -> None:
    settings = messages.device_settings(tree.GENL_HEADER + tree.attribute(2, b"wg0\0") + tree.attribute(6, b"\1\2"))
    assert settings == (None, 0x201, 0)


# --- damage -------------------------------------------------------------------------------------------


def read_all(body: bytes) -> None:
    """Read everything there is to read, also lazily."""
    messages.device_settings(body)
    for state in dumps.peer_states([body]):
        _ = state.allowed_ips.texts
        _ = state.endpoint and state.endpoint.text


@given(strategies.dumps.filter(bool), st.integers(0, 2**32), st.none() | st.integers(), st.booleans())
def test_a_truncated_dump_is_read_or_a_value_error(
    states: list[PeerState], cut: int, seed: int | None, general: bool
) -> None:
    (body,) = tree.dump(states, seed=seed)
    with general_path_only() if general else contextlib.nullcontext(), contextlib.suppress(ValueError):
        read_all(body[: cut % len(body)])


@given(strategies.dumps.filter(bool), st.integers(), st.integers(1, 4), st.booleans())
def test_a_damaged_dump_is_read_or_a_value_error(
    states: list[PeerState], seed: int, damages: int, general: bool
) -> None:
    chance = random.Random(seed)
    (body,) = tree.dump(states, seed=seed if general else None)
    damaged = bytearray(body)
    for _ in range(damages):
        damaged[chance.randrange(len(damaged))] = chance.choice([0, 1, 3, 4, 5, 20, 28, 40, 128, 255])
    with contextlib.suppress(ValueError):
        read_all(bytes(damaged))


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 15, 17, 31, 33])
def test_an_attribute_of_a_wrong_size_is_read_or_a_value_error(kind: int, size: int) -> None:
    state = PeerState(KEY, PresharedKey(b"p" * 32), 25, AllowedIPs.from_texts(["10.0.0.1/32"]), None, 0, 0, 0)
    wrong = tree.attribute(kind, bytes(size))
    for parts in ([wrong], [*tree.head(state), wrong], [tree.attribute(1, KEY), wrong]):
        with contextlib.suppress(ValueError):
            read_all(tree.body([tree.attribute(tree.NESTED, b"".join(parts))]))


@given(st.binary(max_size=200))
def test_garbage_is_read_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_all(data)
    with contextlib.suppress(ValueError):
        for message in messages.split(data):
            messages.error_of(message.body)
            messages.family_id(message.body)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.binary(max_size=30)), max_size=5))
def test_a_datagram_is_split_into_the_messages_in_it(parts: list[tuple[int, int, bytes]]) -> None:
    import struct

    datagram = b""
    for kind, flags, body in parts:
        datagram += struct.pack("=IHHII", 16 + len(body), kind, flags, 3, 77) + body + bytes(-len(body) % 4)
    assert list(messages.split(datagram)) == [(kind, flags, 3, body) for kind, flags, body in parts]


@given(st.binary(min_size=1, max_size=30), st.integers(1, 45))
def test_a_message_that_lost_its_end_is_noticed(body: bytes, cut: int) -> None:
    import struct

    datagram = struct.pack("=IHHII", 16 + len(body), 28, 2, 3, 0) + body
    with pytest.raises(ValueError, match="wrong length") if 0 < cut <= len(body) else contextlib.nullcontext():
        list(messages.split(datagram[: max(0, len(datagram) - cut)]))
