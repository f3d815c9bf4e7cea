# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots: their bytes, and that what is not whole is refused."""

from __future__ import annotations

import struct

import pytest
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import snapshot
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.errors import DocumentRefused, NotGenuine
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.signing import (
    HEAD_BYTES,
    Signer,
    SigningKey,
    VerifyKeys,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.snapshot import Snapshot

KEY = SigningKey(bytes(range(32)))
KEYS = VerifyKeys([KEY.verify_key()])
EPOCH = "6a02c1f0" + "5e" * 12

snapshots = st.builds(
    Snapshot,
    st.builds(Position, st.binary(min_size=16, max_size=16).map(bytes.hex), st.integers(0, 2**63 - 1)),
    st.integers(0, 2**64 - 1),
    st.lists(st.binary(max_size=100), max_size=3).map(tuple),
)


def content_of(snapshot_: Snapshot) -> bytes:
    return snapshot.encode(snapshot_, Signer(KEY))[HEAD_BYTES:]


@given(snapshots)
def test_a_snapshot_comes_back(given_: Snapshot) -> None:
    assert snapshot.decode(snapshot.encode(given_, Signer(KEY)), KEYS) == given_


def test_the_bytes_of_a_snapshot() -> None:
    document = snapshot.encode(Snapshot(Position(EPOCH, 258), 3, (b"one", b"")), Signer(KEY))
    assert document[:8] == b"LETHESN1"
    assert document[HEAD_BYTES:].hex() == (
        f"{EPOCH} 0000000000000102 0000000000000003 00000002 0000000000000003 6f6e65 0000000000000000".replace(" ", "")
    )


@given(snapshots, st.integers(-60, 60).filter(bool))
def test_content_of_another_length_is_refused_though_it_is_signed(given_: Snapshot, change: int) -> None:
    content = content_of(given_)
    wrong = content[:change] if change < 0 else content + bytes(change)
    with pytest.raises(DocumentRefused) as caught:
        snapshot.decode(Signer(KEY).sealed(snapshot.MAGIC, wrong), KEYS)
    assert "the snapshot" in str(caught.value)


@given(st.binary(max_size=200))
def test_any_signed_content_is_read_or_refused(content: bytes) -> None:
    try:
        read = snapshot.decode(Signer(KEY).sealed(snapshot.MAGIC, content), KEYS)
    except DocumentRefused:
        return
    assert content_of(read) == content


def test_more_blocks_than_there_could_be_are_refused_at_once() -> None:
    content = struct.pack(">16sQQI", bytes(16), 1, 1, 2**32 - 1)
    with pytest.raises(DocumentRefused):
        snapshot.decode(Signer(KEY).sealed(snapshot.MAGIC, content), KEYS)


def test_a_batch_is_no_snapshot_and_a_refusal_shows_nothing() -> None:
    document = Signer(KEY).sealed(b"LETHEBT1", content_of(Snapshot(Position(EPOCH, 1), 1, (b"secret",))))
    with pytest.raises(NotGenuine) as caught:
        snapshot.decode(document, KEYS)
    assert "secret" not in told_by(caught.value)
