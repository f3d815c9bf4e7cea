# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revisions, what is retained of the change log, the export, and the epoch."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest
from registry.fixtures import MakeRegistry
from registry.support import MONDAY, Follower, Registry, key, register
from sqlalchemy import text

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import (
    accounts,
    history,
    registrations,
    sequencer,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import KeyTaken, KeyUnknown
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.history import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import DAY
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Transaction


def test_a_new_history_has_an_epoch_and_no_changes(make_registry: MakeRegistry) -> None:
    registry = make_registry()
    position = registry.position()
    assert len(bytes.fromhex(position.epoch)) == 16
    assert position[1:] == (0, 0)
    assert registry.changes() == []


def test_each_change_has_the_next_revision(registry: Registry) -> None:
    registry.register("alice", key(1))
    registry.begin("alice", key(1), key(2))
    registry.confirm("alice", key(2))
    registry.suspend("alice")

    assert [change.revision for change in registry.changes()] == [1, 2, 3, 4]
    assert registry.position().revision == 4


def test_what_failed_uses_up_no_revision(registry: Registry) -> None:
    def fails(tx: Transaction) -> None:
        register(tx, "alice", key(1))
        raise KeyTaken

    for _ in range(3):
        with pytest.raises(KeyTaken):
            registry.store.write(fails)
    registry.register("alice", key(2))

    assert [(change.revision, change.public_key) for change in registry.changes()] == [(1, key(2))]


def test_the_log_is_retained_for_its_time_and_then_forgotten(make_registry: MakeRegistry) -> None:
    registry = make_registry(change_retention=3600)
    registry.create("alice")
    epoch = registry.position().epoch
    registry.register("alice", key(1))
    registry.clock.move(seconds=1800)
    registry.register("alice", key(2))

    registry.clock.move(seconds=1800)
    registry.tidy()
    assert registry.position() == Position(epoch, 2, 0)
    registry.clock.move(seconds=1)
    registry.tidy()
    assert registry.position() == Position(epoch, 2, 1)
    assert [change.revision for change in registry.changes(1)] == [2]
    registry.clock.move(seconds=1800)
    registry.tidy()
    assert registry.position() == Position(epoch, 2, 2)
    assert registry.changes() == []

    registry.delete("alice", key(1))
    assert registry.position() == Position(epoch, 3, 2)
    assert [change.revision for change in registry.changes(2)] == [3]


def test_what_is_retained_has_no_gap_when_times_are_out_of_order(make_registry: MakeRegistry) -> None:
    """A clock that was set back, or (PostgreSQL) a transaction that took its time."""
    registry = make_registry(change_retention=3600)
    registry.create("alice", 100)
    for n, seconds in enumerate((0, 100, -50, 20, 30)):
        registry.clock.move(seconds=seconds)
        registry.register("alice", key(n))
    registry.settle()

    registry.clock.move(seconds=3600 - 40)  # the third is past its time, the second and the fifth are not
    registry.tidy()

    assert [change.revision for change in registry.changes()] == [2, 3, 4, 5]
    assert registry.position().horizon == 1


def test_the_export_leaves_out_who_is_not_active(registry: Registry) -> None:
    for name, number in (("bob", 2), ("carol", 3)):
        registry.create(name)
        registry.register(name, key(number))
    registry.register("alice", key(1))
    registry.suspend("bob")
    registry.close_account("carol")

    assert set(registry.exported()) == {key(1)}


def test_the_export_streams_one_state_while_writers_go_on(make_registry: MakeRegistry) -> None:
    """More rows than are fetched at once; changes, and SQLite's checkpoints, happen meanwhile."""
    registry = make_registry(key_days=0)
    registry.create("alice", 100_000)
    registry.store.write(lambda tx: [register(tx, "alice", key(n)) for n in range(400)])
    before = set(registry.exported())

    def reads(tx: Transaction) -> tuple[set[object], Position]:
        portion = registrations._EXPORT_ROWS
        registrations._EXPORT_ROWS = 50
        try:
            rows = registrations.exported(tx)
            seen = {next(rows).public_key for _ in range(10)}
            for n in range(0, 400, 7):
                registry.revoke(key(n))
            registry.register("alice", key(5000))
            registry.tidy()
            seen |= {row.public_key for row in rows}
        finally:
            registrations._EXPORT_ROWS = portion
        return seen, history.position(tx)

    registry.settle()
    revision = registry.position().revision
    seen, position = registry.store.read(reads)

    assert seen == before
    assert position.revision == revision  # position and export are of one state
    follower = Follower(position, seen)
    follower.apply(registry.changes(revision))
    assert follower.keys == set(registry.exported()) != before


def test_replaying_from_any_retained_revision_gives_the_export(make_registry: MakeRegistry) -> None:
    registry = make_registry(change_retention=3600, device_limit=100)
    states: dict[int, set[object]] = {}

    def note() -> None:
        states[registry.position().revision] = set(registry.exported())

    registry.create("alice")
    registry.create("bob")
    steps: list[Callable[[], object]] = [
        lambda: registry.register("alice", key(1)),
        lambda: registry.register("bob", key(2)),
        lambda: registry.suspend("alice"),
        lambda: registry.begin("bob", key(2), key(3)),
        lambda: registry.resume("alice"),
        lambda: registry.confirm("bob", key(3)),
        lambda: registry.register("bob", key(4)),
        lambda: registry.close_account("bob"),
        lambda: registry.begin("alice", key(1), key(5)),
    ]
    for step in steps:
        note()
        step()
        registry.clock.move(seconds=600)
    registry.tidy()

    horizon = registry.position().horizon
    assert horizon > 0
    for revision, keys in states.items():
        if revision >= horizon:
            follower = Follower(Position("", revision, 0), keys)  # type: ignore[arg-type]
            follower.apply(registry.changes(revision))
            assert follower.keys == set(registry.exported())


def test_another_epoch_is_another_history(registry: Registry) -> None:
    registry.register("alice", key(1))
    before = registry.position()

    begun = registry.store.write(history.begin_epoch)

    assert begun > before.epoch
    assert registry.position() == before._replace(epoch=begun)


def test_two_registries_have_two_epochs() -> None:
    assert history.new_epoch(MONDAY) != history.new_epoch(MONDAY)


def test_epochs_are_in_the_order_in_which_they_began_also_when_the_clock_is_set_back() -> None:
    first = history.new_epoch(MONDAY)
    assert first.startswith(f"{MONDAY:08x}")
    assert len(bytes.fromhex(first)) == 16
    later = history.new_epoch(MONDAY + 1, first)
    for now in (0, MONDAY - DAY, MONDAY, MONDAY + 1):
        assert history.new_epoch(now, later, first) > later


def test_pruning_tells_how_much_went_and_then_finds_nothing(registry: Registry) -> None:
    registry.register("alice", key(1))
    registry.token("alice")
    registry.close_account("alice")
    registry.settle()
    registry.clock.move(days=8)

    # Two changes, one address (of the large IPv6 range none rests), a credential, an account.
    assert registry.store.write(lambda tx: history.prune(tx, 100)) == 5
    assert registry.store.write(lambda tx: history.prune(tx, 100)) == 0
    assert registry.store.read(history.counts) == {"registrations": 0, "resting": 0, "waiting_changes": 0}


def test_what_an_active_account_has_is_never_pruned(make_registry: MakeRegistry) -> None:
    registry = make_registry(key_days=0)
    registry.create("alice")
    registry.create("bob")
    registry.register("alice", key(1))
    registry.suspend("bob")
    token = registry.token("alice")
    registry.clock.move(days=1000)

    registry.tidy()

    assert set(registry.exported()) == {key(1)}
    assert registry.state("bob") == "suspended"
    assert token


@pytest.mark.parametrize("database", ["postgresql"])
def test_changes_wait_until_they_are_committed_and_then_come_in_that_order(make_registry: MakeRegistry) -> None:
    """The first to write is the last to commit. A number drawn in the transaction would have it come first, after
    a reader has seen the second.
    """
    registry = make_registry()
    for name in ("alice", "bob"):
        registry.create(name)
    with registry.store.engine.begin() as connection:
        slow = Transaction(connection, registry.store.environment, int(registry.clock.now))
        register(slow, "alice", key(1))
        registry.register("bob", key(2))

        assert [(change.revision, change.public_key) for change in registry.changes()] == [(1, key(2))]
    assert [(change.revision, change.public_key) for change in registry.changes(1)] == [(2, key(1))]


@pytest.mark.parametrize("database", ["postgresql"])
def test_revisions_are_given_in_portions(registry: Registry) -> None:
    registry.create("bob", 100)
    for n in range(10):
        registry.register("bob", key(n))
    with registry.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert [sequencer.stamp(connection, 4) for _ in range(4)] == [4, 8, 10, None]

    assert [change.public_key for change in registry.changes()] == [key(n) for n in range(10)]
    assert registry.store.read(history.counts)["waiting_changes"] == 0


@pytest.mark.parametrize("database", ["postgresql"])
def test_listeners_hear_of_each_portion(registry: Registry) -> None:
    with registry.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"LISTEN {sequencer.CHANNEL}"))
        registry.register("alice", key(1))
        registry.register("alice", key(2))
        registry.settle()
        driver = connection.connection.driver_connection
        assert driver is not None
        assert [note.payload for note in driver.notifies(timeout=60, stop_after=1)] == ["2"]


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_removal_that_gets_its_revision_between_two_looks_is_seen(
    registry: Registry, interpose: Callable[..., None]
) -> None:
    """It moves from the outbox to the log: whoever looks into both in the wrong order sees it in neither."""
    registry.register("alice", key(1))
    registry.settle()
    registry.clock.move(days=2)
    registry.tidy()  # its addition is forgotten
    registry.revoke(key(1))
    seen = []

    def settle_between() -> None:
        seen.append(True)
        registry.settle()

    interpose(registry, after=("FROM changes", "FROM outbox"), do=settle_between)
    with pytest.raises(KeyTaken):
        registry.register("alice", key(1))
    assert seen


@pytest.mark.parametrize("database", ["postgresql"])
def test_revoking_waits_for_a_rotation_that_begins(make_registry: MakeRegistry) -> None:
    registry = make_registry()
    registry.create("alice")
    registry.register("alice", key(1))
    with registry.store.engine.begin() as connection:
        tx = Transaction(connection, registry.store.environment, int(registry.clock.now))
        owner = registry.hash("alice")
        accounts.open_account(tx, owner)
        registrations.begin_rotation(tx, owner, key(1), key(2))
        revoking = registry.store.submit(lambda tx: registrations.revoke(tx, key(1)))
        wait_until_blocked(registry)

    assert revoking.result(30)
    assert registry.exported() == {}


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_key_that_is_being_removed_cannot_be_rotated_any_more(make_registry: MakeRegistry) -> None:
    """Or its successor would name, as long as it lives, a key that is gone."""
    registry = make_registry(key_days=1)
    registry.create("alice")
    registry.register("alice", key(1))
    registry.clock.move(days=2)
    with registry.store.engine.begin() as connection:
        tx = Transaction(connection, registry.store.environment, int(registry.clock.now))
        assert registrations.remove_due(tx, 10) == 1
        owner = registry.hash("alice")
        beginning = registry.store.submit(lambda tx: registrations.begin_rotation(tx, owner, key(1), key(2)))
        wait_until_blocked(registry)

    assert isinstance(beginning.exception(30), KeyUnknown)
    assert registry.exported() == {}


@pytest.mark.parametrize("database", ["postgresql"])
def test_two_requests_of_one_account_come_one_after_the_other(make_registry: MakeRegistry) -> None:
    """Or both would find room under the limit."""
    registry = make_registry(device_limit=1)
    registry.create("alice")
    with registry.store.engine.begin() as connection:
        register(Transaction(connection, registry.store.environment, int(registry.clock.now)), "alice", key(1))
        second = registry.store.submit(lambda tx: register(tx, "alice", key(2)))
        same = registry.store.submit(lambda tx: register(tx, "alice", key(1)))
        wait_until_blocked(registry, 2)

    assert second.exception(30) is not None
    assert same.result(30)[1] is False
    assert set(registry.exported()) == {key(1)}


@pytest.mark.parametrize("database", ["postgresql"])
def test_one_key_of_two_accounts_at_once_goes_to_one_of_them(make_registry: MakeRegistry) -> None:
    registry = make_registry()
    registry.create("alice")
    registry.create("bob")
    with registry.store.engine.begin() as connection:
        register(Transaction(connection, registry.store.environment, int(registry.clock.now)), "alice", key(1))
        other = registry.store.submit(lambda tx: register(tx, "bob", key(1)))
        wait_until_blocked(registry)

    assert isinstance(other.exception(30), KeyTaken)
    assert set(registry.of("alice")) == {key(1)}
    assert registry.of("bob") == {}


@pytest.mark.parametrize("database", ["postgresql"])
def test_one_address_drawn_twice_at_once_goes_to_one_of_them(make_registry: MakeRegistry) -> None:
    draws = itertools.chain([0, 0], itertools.repeat(3))
    registry = make_registry(ipv4_ranges=("10.0.0.0/29",), ipv6_ranges=(), randbelow=lambda _: next(draws))
    registry.create("alice")
    registry.create("bob")
    with registry.store.engine.begin() as connection:
        tx = Transaction(connection, registry.store.environment, int(registry.clock.now))
        first, _ = register(tx, "alice", key(1))
        other = registry.store.submit(lambda tx: register(tx, "bob", key(2)))
        wait_until_blocked(registry)

    second, _ = other.result(30)
    assert (str(first.ipv4), str(second.ipv4)) == ("10.0.0.1", "10.0.0.4")
    assert registry.exported() == {key(1): first, key(2): second}


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_deadlock_is_tried_again(make_registry: MakeRegistry) -> None:
    registry = make_registry()
    for name in ("alice", "bob"):
        registry.create(name)
    ready: dict[str, int] = {"alice": 0, "bob": 0}
    both_begun = threading.Event()

    def locks(first: str, second: str) -> Callable[[Transaction], str]:
        def use_case(tx: Transaction) -> str:
            accounts.open_account(tx, registry.hash(first))
            ready[first] += 1
            if all(ready.values()):
                both_begun.set()
            both_begun.wait(30)  # each holds its first before it asks for its second; set for good
            accounts.open_account(tx, registry.hash(second))
            return first

        return use_case

    both = [registry.store.submit(locks("alice", "bob")), registry.store.submit(locks("bob", "alice"))]

    assert [one.result(60) for one in both] == ["alice", "bob"]
    assert sum(ready.values()) > 2  # one of them began again


def wait_until_blocked(registry: Registry, sessions: int = 1) -> None:
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    give_up = time.monotonic() + 30
    while True:
        with registry.store.engine.connect() as connection:
            if connection.execute(query).scalar_one() >= sessions:
                return
        assert time.monotonic() < give_up, "nobody waits"
