# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-sent events, in whatever pieces they come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import events
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.errors import DocumentRefused
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.events import Decoder, Event
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position

POSITION = Position("6a02c1f0" + "5e" * 12, 258)


def read(stream: bytes, *cuts: int) -> list[Event]:
    decoder = Decoder()
    edges = [0, *sorted(cuts), len(stream)]
    return [event for start, end in pairwise(edges) for event in decoder.feed(stream[start:end])]


def test_the_bytes_of_an_event() -> None:
    assert events.encode(POSITION, b"\xff\xfe\xfd!") == (
        b"id: 6a02c1f05e5e5e5e5e5e5e5e5e5e5e5e.258\nevent: batch\ndata: //79IQ==\n\n"
    )


@given(st.lists(st.binary(max_size=50), max_size=4), st.lists(st.integers(0, 400)))
def test_what_was_encoded_is_read_in_any_pieces(documents: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(events.encode(POSITION, document) for document in documents)
    found = read(stream, *(cut for cut in cuts if cut <= len(stream)))
    assert [event.document() for event in found] == documents
    assert {(event.id, event.kind) for event in found} <= {(POSITION.text, events.BATCH)}


@given(st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 80)))
def test_what_the_standard_allows_is_read(end: str, cuts: list[int]) -> None:
    lines = [": a comment", "id:1", "data: one", "data:two", "retry: 7", "strange", "", "", "event: x", "data", "", "."]
    stream = end.join(lines).encode()
    assert read(stream, *(cut for cut in cuts if cut <= len(stream))) == [
        Event("1", "message", b"one\ntwo"),
        Event("1", "x", b""),
    ]


def test_an_event_that_did_not_end_is_none() -> None:
    assert read(events.encode(POSITION, b"1")[:-1]) == []


@pytest.mark.parametrize(
    "stream", [b"data: " + b"x" * events.LARGEST, b"data: xxxxxxxxx\n" * (events.LARGEST // 10 + 1), b":" * (2 << 20)]
)
def test_an_event_without_end_is_given_up(stream: bytes) -> None:
    decoder = Decoder()
    pieces = [stream[start : start + 65536] for start in range(0, len(stream), 65536)]
    with pytest.raises(DocumentRefused, match="more than 1048576 bytes"):
        list(map(decoder.feed, pieces))


@pytest.mark.parametrize("data", [b"secret!", b"secre", b"\xff\xff\xff\xff"])
def test_data_that_is_not_base64_is_refused_and_not_shown(data: bytes) -> None:
    (event,) = read(b"data: " + data + b"\n\n")
    with pytest.raises(DocumentRefused) as caught:
        event.document()
    assert "secre" not in told_by(caught.value)
