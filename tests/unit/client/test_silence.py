# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a gateway has ceased to answer, by the kernel's counters, looked at every second."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.silence import PATIENCE, Heard

KEEPALIVE, DATA, INITIATION, RESPONSE = 32, 96, 148, 92  # bytes on the wire
EVERY = 25  # seconds between keepalives

Event = tuple[int, int, int]  # second, bytes received, bytes sent


def silent_at(events: Iterable[Event], seconds: int = 400) -> int | None:
    """The second at which it is silence, if it is."""
    happening: dict[int, tuple[int, int]] = {}
    for second, received, sent in events:
        before = happening.get(second, (0, 0))
        happening[second] = (before[0] + received, before[1] + sent)
    received = sent = 1000
    heard = Heard(0, received, sent)
    for second in range(seconds):
        more = happening.get(second, (0, 0))
        received, sent = received + more[0], sent + more[1]
        heard = heard.after(second, received, sent, EVERY)
        if heard.is_silence(second):
            return second
    return None


def keepalives(begin: int, end: int = 400) -> list[Event]:
    return [(second, 0, KEEPALIVE) for second in range(begin, end, EVERY)]


@pytest.mark.parametrize("first", range(EVERY))
def test_keepalives_that_nobody_answers_are_no_silence(first: int) -> None:
    assert silent_at(keepalives(first)) is None


@pytest.mark.parametrize("first", range(0, EVERY, 6))
def test_keepalives_after_an_answer_to_what_was_heard_last_are_none_either(first: int) -> None:
    assert silent_at([(0, DATA, 0), (10, 0, KEEPALIVE), *keepalives(10 + first)]) is None


def test_data_that_is_answered_with_a_keepalive_is_none() -> None:
    assert silent_at((second, KEEPALIVE if second % 10 == 9 else 0, DATA) for second in range(400)) is None


def test_data_without_an_answer_is_silence() -> None:
    assert silent_at((second, 0, DATA) for second in range(100)) == PATIENCE


def test_one_packet_without_an_answer_is_silence_once_the_kernel_asks_in_vain() -> None:
    events = [(5, 0, DATA), *((second, 0, INITIATION) for second in range(20, 400, 5))]
    assert silent_at(events) == 5 + PATIENCE


def test_one_packet_that_was_lost_is_none() -> None:
    """The kernel begins a handshake 15 s later; the first initiation may be lost as well."""
    assert silent_at([(5, 0, DATA), (20, 0, INITIATION), (25, RESPONSE, INITIATION), *keepalives(26)]) is None


def test_without_traffic_it_is_noticed_when_the_session_is_to_be_renewed() -> None:
    renewal = [(second, 0, INITIATION) for second in range(125, 400, 5)]
    assert silent_at([*keepalives(0, 125), *renewal]) == 125 + PATIENCE


def test_a_peer_that_was_made_anew_and_a_clock_that_was_set_back_begin_anew() -> None:
    asked = Heard(100, 1000, 1000).after(101, 1000, 5000, EVERY)
    assert asked.asked_at == 101
    assert asked.after(200, 0, 148, EVERY) == Heard(200, 0, 148)
    assert asked.after(50, 1000, 5000, EVERY) == Heard(50, 1000, 5000)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 1500)), max_size=50))
def test_whoever_answers_each_thing_within_ten_seconds_is_never_silent(sent: list[tuple[int, int]]) -> None:
    answers = [(second + 10, KEEPALIVE, 0) for second, _bytes in sent]
    assert silent_at([*((second, 0, length) for second, length in sent), *answers, *keepalives(3)], 320) is None
