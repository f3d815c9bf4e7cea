# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The purge policy: tables for its edges, and a simulated gateway whose clock is set at will."""

from __future__ import annotations

import itertools
import json
from typing import NamedTuple

import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs, Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.clock import ClockReading
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PresharedKey, PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer, PeerState
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.purge import (
    Figures,
    Memory,
    Selection,
    idle_after_from,
    select,
)

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND  # wall-clock time at boot, where no test sets it
KEY = PublicKey(bytes(range(32)))
PSK = PresharedKey(b"p" * 32)
IPS = AllowedIPs.from_texts(["10.0.0.1/32", "fd00::1/128"])
HERE, THERE = Endpoint.from_text("192.0.2.1:1234"), Endpoint.from_text("192.0.2.1:1235")
NEVER = 0


def clock(seconds: float, offset: int = WALL) -> ClockReading:
    """So long after boot."""
    boottime = round(seconds * SECOND)
    return ClockReading(boottime + offset, boottime)


def stamp(seconds: float, offset: int = WALL) -> int:
    return clock(seconds, offset).realtime


def state(handshake: int = NEVER, endpoint: Endpoint | None = HERE, public_key: PublicKey = KEY) -> PeerState:
    return PeerState(public_key, PSK, 25, IPS, endpoint, handshake, 100, 200)


def purged(selection: Selection) -> bool:
    return bool(selection.peers)


def runs(states: list[PeerState], *times: float, memory: Memory | None = None, **options: int) -> list[bool]:
    """Whether each of several runs purges anything; nothing happens between them."""
    memory, outcome = memory or Memory(), []
    for seconds in times:
        selection = select(states, memory, clock(seconds), **options)
        memory = selection.memory
        outcome.append(purged(selection))
    return outcome


# --- idle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "due"), [(0, False), (179.999, False), (180, False), (180.000000001, True), (181, True), (100_000, True)]
)
def test_a_peer_is_idle_after_180_seconds_without_a_handshake(age: float, due: bool) -> None:
    assert purged(select([state(stamp(200_000 - age))], Memory(), clock(200_000))) == due


def test_the_time_after_which_a_peer_is_idle_can_be_longer() -> None:
    assert runs([state(stamp(100))], 400, 401, idle_after=300) == [False, True]


@pytest.mark.parametrize("value", [179, 0, -1])
def test_a_time_below_the_session_limit_is_refused(value: int) -> None:
    with pytest.raises(InvalidValue, match=f"^idle_after: is {value} s"):
        idle_after_from(value)
    assert idle_after_from(180) == 180


@given(st.lists(strategies.peer_states, unique_by=lambda one: one.public_key, min_size=1))
def test_a_purged_peer_keeps_its_configuration_and_loses_the_rest(states: list[PeerState]) -> None:
    memory = select(states, Memory(), clock(10_000)).memory
    selection = select(states, memory, clock(20_000))
    known = [one for one in states if one.handshake or one.endpoint is not None]
    assert [peer.public_key for peer in selection.peers] == [one.public_key for one in known]
    for peer, before in zip(selection.peers, known, strict=True):
        assert peer == Peer(*before[:4], endpoint=None)


def test_a_peer_of_which_the_kernel_knows_nothing_is_left_alone() -> None:
    assert runs([state(NEVER, endpoint=None)], 0, 1000, 5000) == [False] * 3


@pytest.mark.parametrize("handshake", [NEVER, stamp(0)], ids=["ghost", "idle"])
def test_an_exempt_peer_is_left_alone_and_not_counted_as_an_endpoint(handshake: int) -> None:
    memory = Memory()
    for seconds in (1000, 2000):
        selection = select([state(handshake)], memory, clock(seconds), exempt={KEY})
        memory = selection.memory
        assert not purged(selection)
        assert selection.figures == Figures(peers=1)
        assert memory.sightings == {}


# --- ghosts -------------------------------------------------------------------------------------------


def test_a_ghost_is_purged_when_it_has_been_seen_for_180_seconds() -> None:
    assert runs([state()], 1000, 1015, 1179.9, 1180) == [False, False, False, True]


def test_a_ghost_is_counted_from_its_first_sighting_and_not_from_boot() -> None:
    """A peer that has just been added, or is in the middle of its handshake, is not purged."""
    assert runs([state()], 50_000, 50_001) == [False, False]


def test_a_roaming_ghost_is_counted_from_when_it_came_to_where_it_is() -> None:
    memory = Memory()
    for seconds, endpoint, due in ((0, HERE, False), (100, THERE, False), (200, THERE, False), (281, THERE, True)):
        selection = select([state(endpoint=endpoint)], memory, clock(seconds))
        memory = selection.memory
        assert purged(selection) == due


def test_a_ghost_that_returns_to_an_earlier_endpoint_is_counted_anew() -> None:
    memory = Memory()
    for seconds, endpoint in ((0, HERE), (100, THERE), (200, HERE), (300, HERE)):
        selection = select([state(endpoint=endpoint)], memory, clock(seconds))
        memory = selection.memory
        assert not purged(selection)


def test_a_ghost_that_completes_its_handshake_is_a_ghost_no_more() -> None:
    memory = select([state()], Memory(), clock(0)).memory
    selection = select([state(stamp(190))], memory, clock(200))
    assert not purged(selection)
    assert selection.memory.sightings == {}


def test_a_ghost_is_forgotten_with_the_run_that_purges_it() -> None:
    memory = select([state()], Memory(), clock(0)).memory
    assert len(memory.sightings) == 1
    assert select([state()], memory, clock(200)).memory.sightings == {}


def test_memory_of_another_boot_is_not_used() -> None:
    before = select([state()], Memory(), clock(5000)).memory
    selection = select([state()], before, clock(10))
    assert not purged(selection)
    assert selection.memory.salt != before.salt
    assert runs([state()], 10, 189, 190, memory=before) == [False, False, True]


def test_suspend_counts_as_time() -> None:
    """CLOCK_BOOTTIME goes on: what was alive before is idle afterwards, also a ghost."""
    states = [state(stamp(990)), state(public_key=PublicKey(b"g" * 32))]
    memory = select(states, Memory(), clock(1000)).memory
    selection = select(states, memory, clock(1000 + 8 * 3600))
    assert (selection.figures.idle, selection.figures.ghosts) == (1, 1)


# --- the clock is set ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-86400 * 365, -3600, -200, -170, -20, -1, 1, 20, 170, 200, 3600, 86400 * 365])
def test_a_step_of_the_clock_neither_purges_a_live_session_nor_spares_an_idle_one(step: int) -> None:
    """Both with one handshake before the step and none after it."""
    after = WALL + step * SECOND
    alive, idle = state(stamp(1190)), state(stamp(1021), public_key=PublicKey(b"i" * 32))
    memory = select([alive, idle], Memory(), clock(1200)).memory
    first = select([alive, idle], memory, clock(1215, after))
    assert alive.public_key not in {peer.public_key for peer in first.peers}
    memory, purged_at = first.memory, None
    for seconds in range(1230, 3000, 15):
        selection = select([alive], memory, clock(seconds, after))
        memory = selection.memory
        if purged(selection):
            purged_at = seconds
            break
    assert purged_at is not None
    assert 1190 + 180 < purged_at <= 1190 + 180 + 15 + 180


@pytest.mark.parametrize("step", [-60, -14, -9, -1, 1, 9, 14, 60])
@pytest.mark.parametrize("handshake", [1201, 1209, 1211, 1214])
def test_a_handshake_between_the_same_two_looks_as_the_step_is_not_read_as_older(step: int, handshake: int) -> None:
    """The looks are at 1200 and 1215 s, the step is at 1210 s: which came first, nobody knows."""
    after = WALL + step * SECOND
    states = [state(stamp(handshake, WALL if handshake < 1210 else after))]
    memory = select([], Memory(), clock(1200)).memory
    seconds = 1215
    while not purged(selection := select(states, memory, clock(seconds, after))):
        memory = selection.memory
        seconds += 1
    assert handshake + 180 < seconds <= handshake + 180 + 62


def test_a_session_renewed_after_a_step_is_read_by_the_new_clock() -> None:
    after = WALL - 3600 * SECOND
    memory = select([state(stamp(990))], Memory(), clock(1000)).memory
    memory = select([state(stamp(1010, after))], memory, clock(1015, after)).memory
    assert not purged(select([state(stamp(1010, after))], memory, clock(1190, after)))
    assert purged(select([state(stamp(1010, after))], memory, clock(1191, after)))


def test_a_handshake_from_before_the_clock_was_first_set_is_timed_from_its_sighting() -> None:
    """A machine without a battery for its clock boots in 1970 and is set before the first run."""
    assert runs([state(stamp(20, offset=0))], 30, 45, 209, 210) == [False, False, False, True]


def test_a_handshake_from_the_future_is_timed_from_its_sighting() -> None:
    assert runs([state(stamp(90_000))], 1000, 1179, 1180) == [False, False, True]


def test_a_handshake_during_the_run_is_new() -> None:
    """The clocks are read before the peers."""
    selection = select([state(stamp(1000.7))], Memory(), clock(1000))
    assert not purged(selection)
    assert selection.figures.oldest_endpoint_age == 0
    assert selection.memory.sightings == {}


class World(NamedTuple):
    """A gateway with one peer: when it is looked at, when the clock is set and when handshakes are completed."""

    looks: list[float]  # seconds after boot, ascending
    steps: list[tuple[float, float]]  # when, by how many seconds
    handshakes: list[float]

    def offset(self, seconds: float) -> int:
        return WALL + sum(round(step * SECOND) for when, step in self.steps if when <= seconds)


_step_sizes = st.one_of(st.floats(0.2, 400), st.floats(-400, -0.2), st.sampled_from([3600.0, -3600.0, 1e8, -1e8]))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    first = 1000.0
    intervals = draw(st.lists(st.floats(1, 60), min_size=3, max_size=60))
    looks = list(itertools.accumulate(intervals, initial=first))
    steps = []
    # At most one between two looks, and none before the first: what nobody saw cannot be known.
    for i in sorted(draw(st.sets(st.integers(0, len(looks) - 2), max_size=3))):
        when = looks[i] + draw(st.floats(0.01, 0.99)) * (looks[i + 1] - looks[i])
        steps.append((when, draw(_step_sizes)))
    close = st.sampled_from([when for when, _ in steps] or [first]).flatmap(
        lambda when: st.floats(when - 90, when + 90)
    )
    handshakes = sorted(draw(st.lists(st.floats(first - 500, looks[-1]) | close, min_size=1, max_size=8)))
    return World(looks, steps, handshakes)


@settings(max_examples=200)
@given(worlds())
def test_however_the_clock_is_set_no_live_session_is_purged(world: World) -> None:
    memory = Memory()
    forgotten: set[float] = set()
    for now in world.looks:
        completed = [when for when in world.handshakes if when <= now and when not in forgotten]
        handshake = stamp(completed[-1], world.offset(completed[-1])) if completed else NEVER
        present = state(handshake, HERE if completed else None)
        selection = select([present], memory, clock(now, world.offset(now)))
        memory = selection.memory
        if purged(selection):
            assert now - completed[-1] >= 180 - 1e-6, f"purged {now - completed[-1]} s after its handshake"
            forgotten.update(completed)


@settings(max_examples=200)
@given(worlds(), st.integers(0, 3))
def test_however_the_clock_is_set_no_idle_peer_is_spared_for_ever(world: World, moment: int) -> None:
    """One handshake and then silence: each step of the clock can add the limit once more, nothing can add more."""
    looks = list(itertools.accumulate(itertools.repeat(15.0, 150), initial=world.looks[-1] + 15))
    latest = world.looks[min(moment, len(world.looks) - 1)]
    handshake = stamp(latest, world.offset(latest))
    memory = Memory()
    for now in [*(look for look in world.looks if look >= latest), *looks]:
        selection = select([state(handshake)], memory, clock(now, world.offset(now)))
        memory = selection.memory
        if purged(selection):
            break
    else:
        pytest.fail("never purged")
    assert now - latest <= (1 + len(world.steps)) * (2 * 180 + 60) + 60


def test_what_is_remembered_of_steps_does_not_grow() -> None:
    memory = Memory()
    for n in range(500):
        memory = select([], memory, clock(1000 + 15 * n, WALL + n * SECOND)).memory
    assert len(memory.segments) <= 180 // 15 + 2


def test_slewing_is_no_step() -> None:
    """The clock is corrected by half a millisecond a second, for an hour."""
    memory = Memory()
    for n in range(240):
        seconds = 1000 + 15 * n
        memory = select([], memory, clock(seconds, WALL + n * 7_500_000)).memory
    assert len(memory.segments) == 1
    assert not purged(
        select([state(stamp(seconds - 178, WALL + n * 7_500_000))], memory, clock(seconds, memory.segments[0].offset))
    )


# --- figures ------------------------------------------------------------------------------------------


def test_the_figures_count_what_there_is() -> None:
    def named(n: int, handshake: int, endpoint: Endpoint | None = HERE) -> PeerState:
        return state(handshake, endpoint, PublicKey(bytes([n]) * 32))

    states = [
        named(1, NEVER, None), named(2, stamp(990)), named(3, stamp(900)), named(4, stamp(700)), named(5, stamp(600)),
        named(6, NEVER), named(7, NEVER, THERE),
    ]  # fmt: skip
    memory = select([states[5]], Memory(), clock(800)).memory
    figures = select(states, memory, clock(1000)).figures
    assert figures == Figures(peers=7, idle=2, ghosts=1, waiting_ghosts=1, oldest_endpoint_age=100)
    assert figures.purged == 3


def test_the_oldest_endpoint_may_be_a_ghosts() -> None:
    memory = select([state()], Memory(), clock(800)).memory
    assert select([state()], memory, clock(900)).figures.oldest_endpoint_age == 100


def test_without_an_endpoint_there_is_no_oldest() -> None:
    assert select([state(NEVER, None), state(stamp(0))], Memory(), clock(1000)).figures.oldest_endpoint_age is None


def test_a_sentence_has_the_figures_and_nothing_else() -> None:
    assert Figures(7, 2, 1, 4, 99.6, 0.0123, 0.004).sentence() == (
        "7 peers, 3 purged (2 idle, 1 ghosts), 4 ghosts waiting, oldest endpoint 100 s, took 12 ms, longest lock 4 ms"
    )
    assert "oldest endpoint none" in Figures().sentence()


# --- memory -------------------------------------------------------------------------------------------


def remembered(states: list[PeerState]) -> Memory:
    """After a step and two runs."""
    first = select(states, Memory(), clock(1000))
    return select(states, first.memory, clock(1015, WALL + SECOND)).memory


@given(strategies.dumps)
def test_memory_survives_json(states: list[PeerState]) -> None:
    for memory in (Memory(), remembered(states)):
        assert Memory.from_json(json.loads(json.dumps(memory.as_json()))) == memory


@given(st.lists(strategies.peer_states.filter(lambda one: one.endpoint is not None), min_size=1, max_size=5))
def test_nothing_of_a_peer_is_in_what_is_remembered(states: list[PeerState]) -> None:
    ghosts = [one._replace(handshake=0) for one in states]
    text = json.dumps(remembered(ghosts).as_json())
    for one in ghosts:
        assert one.endpoint is not None
        for secret in (one.public_key, one.preshared_key, one.endpoint, *one.allowed_ips.nests()):
            raw = bytes(secret)
            assert raw.hex() not in text
            assert secret.hex()[:16] not in text or not any(raw[:8])
        assert one.public_key.text not in text
        assert one.endpoint.text.rpartition(":")[0] not in text


def test_the_same_ghost_has_another_name_on_another_gateway() -> None:
    """Names are keyed: two files cannot be compared, and a list of hashes made beforehand is of no use."""
    one, other = (select([state()], Memory(), clock(0)).memory for _ in range(2))
    assert one.sightings.keys() != other.sightings.keys()
    again = select([state()], one, clock(1)).memory
    assert again.sightings == one.sightings


def test_printing_the_memory_does_not_show_its_salt() -> None:
    memory = remembered([state()])
    assert memory.salt.hex() not in repr(memory)
    assert repr(memory.salt) not in repr(memory)


GOOD = remembered([state()]).as_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2), ("format", None), ("salt", ""), ("salt", "00"), ("salt", "xy" * 16), ("salt", None), ("salt", 7),
        ("last_run", "now"), ("last_run", [1]), ("last_run", 1.5), ("last_run", float("inf")),
        ("segments", None), ("segments", [[1, 2]]), ("segments", [["a", None, 1]]), ("segments", ["abc"]),
        ("segments", [[None, None, 1]]), ("segments", 5),
        ("sightings", None), ("sightings", ["a"]), ("sightings", {"a": "b"}), ("sightings", {"a": None}),
        ("figures", {"peers": "many"}), ("figures", {"unknown": 1}), ("figures", [1]), ("figures", {"peers": [1]}),
    ],
)  # fmt: skip
def test_what_is_not_a_memory_is_refused_with_an_error_that_is_expected(field: str, value: object) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Memory.from_json({**GOOD, field: value})


@pytest.mark.parametrize("document", [None, [], {}, "x", 5])
def test_what_is_not_even_an_object_is_refused(document: object) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Memory.from_json(document)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(st.fixed_dictionaries({}, optional={name: _json | st.just(GOOD[name]) for name in GOOD}))
def test_what_is_taken_as_a_memory_can_be_used(document: dict[str, object]) -> None:
    try:
        memory = Memory.from_json(document)
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    select([state(), state(stamp(900))], memory, clock(1000))
    if memory.figures:
        memory.figures.sentence()
