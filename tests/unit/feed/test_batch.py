# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches: their bytes, and that what is not whole is refused."""

from __future__ import annotations

import struct

import pytest
from device_contract import PSK, A, B, ips
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import batch, events
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.batch import Batch, Draft
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.errors import DocumentRefused, NotGenuine
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.signing import (
    HEAD_BYTES,
    Signer,
    SigningKey,
    VerifyKeys,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.packed import record
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer

KEY = SigningKey(bytes(range(32)))
KEYS = VerifyKeys([KEY.verify_key()])
EPOCH = "6a02c1f0" + "5e" * 12


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Of peers of all shapes, with addresses of their own."""
    names = draw(st.lists(st.binary(min_size=32, max_size=32).map(PublicKey), unique=True, max_size=6))
    gone = draw(st.integers(0, len(names)))
    peers = tuple(
        Peer(
            name,
            draw(st.just(NO_PRESHARED_KEY) | st.binary(min_size=32, max_size=32).filter(any).map(PresharedKey)),
            0,
            ips(*[f"10.0.{n}.1/32"] * draw(st.booleans()), *[f"fd00::{n:x}/128"] * draw(st.booleans())),
        )
        for n, name in enumerate(names[gone:])
    )
    after = draw(st.integers(0, 2**40))
    revision = after + draw(st.integers(1, 100)) if names else after
    epoch = draw(st.binary(min_size=16, max_size=16)).hex()
    return Batch(epoch, after, revision, draw(st.integers(0, 2**64 - 1)), tuple(names[:gone]), peers)


def encoded(one: Batch, key: SigningKey = KEY) -> bytes:
    after, records = Position(one.epoch, one.after), [record(peer, "peer") for peer in one.peers]
    return batch.encode(Draft(after, one.position, one.made, one.removed, records), Signer(key))


def content_of(one: Batch) -> bytes:
    return encoded(one)[HEAD_BYTES:]


def refused(content: bytes) -> DocumentRefused:
    with pytest.raises(DocumentRefused) as caught:
        batch.decode(Signer(KEY).sealed(batch.MAGIC, content), KEYS)
    assert "the batch" in str(caught.value)
    return caught.value


@given(batches())
def test_a_batch_comes_back(one: Batch) -> None:
    assert batch.decode(encoded(one), KEYS) == one


def test_the_bytes_of_a_batch() -> None:
    one = Batch(EPOCH, 257, 258, 3, (A,), (Peer(B, PSK, 0, ips("10.0.0.1/32", "fd00::1/128")),))
    document = encoded(one)
    assert document[:8] == b"LETHEBT1"
    assert document[HEAD_BYTES:].hex() == (
        f"{EPOCH} 0000000000000101 0000000000000102 0000000000000003 00000002 80{A.hex()}"
        f"07{B.hex()}{PSK.hex()} 0a000001 fd000000000000000000000000000001".replace(" ", "")
    )
    assert one.position == Position(EPOCH, 258)
    assert not one.is_heartbeat


def test_a_heartbeat_leads_nowhere() -> None:
    one = batch.decode(encoded(Batch(EPOCH, 7, 7, 3, (), ())), KEYS)
    assert one.is_heartbeat
    assert one.position == Position(EPOCH, 7)


@given(batches(), st.integers(-60, 60).filter(bool))
def test_content_of_another_length_is_refused_though_it_is_signed(one: Batch, change: int) -> None:
    content = content_of(one)
    refused(content[:change] if change < 0 else content + bytes(change))


@given(st.integers(0, 3), st.lists(st.binary(min_size=33, max_size=85), max_size=3))
def test_any_signed_content_is_read_or_refused(count: int, records: list[bytes]) -> None:
    content = struct.pack(">16sQQQI", bytes(16), 1, 2, 3, count) + b"".join(records)
    told = ""
    try:
        read = batch.decode(Signer(KEY).sealed(batch.MAGIC, content), KEYS)
        assert len(read.removed) + len(read.peers) == count
    except DocumentRefused as error:
        told = told_by(error)
    assert not [each for each in records if repr(each)[2:20] in told]


def test_a_batch_that_leads_back_or_has_records_and_leads_nowhere_is_refused() -> None:
    refused(struct.pack(">16sQQQI", bytes(16), 3, 2, 0, 0))
    refused(struct.pack(">16sQQQI", bytes(16), 2, 2, 0, 1) + b"\x80" + A)


def test_a_key_or_an_address_twice_is_refused() -> None:
    head = struct.pack(">16sQQQI", bytes(16), 1, 5, 0, 2)
    refused(head + b"\x80" + A + b"\x80" + A)
    refused(head + b"\x80" + A + b"\x02" + A + bytes(4))
    refused(head + b"\x02" + A + bytes(4) + b"\x02" + B + bytes(4))


@pytest.mark.parametrize("has", [0x08, 0x81, 0xFF])
def test_parts_that_are_not_known_are_refused(has: int) -> None:
    refused(struct.pack(">16sQQQI", bytes(16), 1, 2, 0, 1) + bytes([has]) + bytes(100))


def test_a_batch_of_somebody_else_is_refused_and_not_shown() -> None:
    document = encoded(Batch(EPOCH, 1, 2, 0, (A,), ()), SigningKey(bytes(32)))
    with pytest.raises(NotGenuine) as caught:
        batch.decode(document, KEYS)
    assert repr(bytes(A))[2:20] not in told_by(caught.value)


def test_the_largest_batch_fits_into_an_event() -> None:
    peers = tuple(
        Peer(PublicKey(n.to_bytes(32, "big")), PSK, 0, ips(f"10.0.{n >> 8}.{n & 255}/32", f"fd00::{n:x}/128"))
        for n in range(batch.MOST_CHANGES)
    )
    event = events.encode(Position(EPOCH, 2**63 - 1), encoded(Batch(EPOCH, 0, 5000, 0, (), peers)))
    (read,) = events.Decoder().feed(event)
    assert batch.decode(read.document(), KEYS).peers == peers
