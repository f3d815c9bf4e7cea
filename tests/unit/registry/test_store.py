# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a transaction promises: all or nothing, each on its own, answered once it is durable, and never silence."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest
from registry.fixtures import MakeRegistry
from registry.support import Registry, key, register, until
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import (
    figures,
    history,
    housekeeping,
    registrations,
    schema,
    sequencer,
    store,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import DatabaseUnusable, KeyTaken
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed import source
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.housekeeping import Housekeeper
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.sequencer import Sequencer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Transaction


def registering(number: int) -> Callable[[Transaction], Any]:
    return lambda tx: register(tx, "alice", key(number))


def held(registry: Registry) -> tuple[threading.Event, Future[None]]:
    """A use case that lasts until it is let go: what is submitted meanwhile becomes one batch (SQLite)."""
    begun, let_go = threading.Event(), threading.Event()

    def use_case(_: Transaction) -> None:
        begun.set()
        assert let_go.wait(60)

    future = registry.store.submit(use_case)
    assert begun.wait(60)
    return let_go, future


@pytest.fixture
def registry(make_registry: MakeRegistry) -> Registry:
    """With an account ``alice`` that may have many keys."""
    one = make_registry()
    one.create("alice", 100_000)
    return one


def test_one_that_fails_does_not_disturb_those_beside_it(registry: Registry) -> None:
    let_go, _ = held(registry)

    def fails(tx: Transaction) -> None:
        register(tx, "alice", key(100))
        raise KeyTaken

    def breaks(tx: Transaction) -> None:
        register(tx, "alice", key(101))
        tx.connection.execute(schema.accounts.insert(), {"account": registry.hash("alice"), "state": "active"})

    futures: list[Future[Any]] = []
    for n in range(10):
        futures += [registry.store.submit(registering(n)), registry.store.submit(fails), registry.store.submit(breaks)]
    let_go.set()
    wait(futures, 60)

    for good, failed, broken in zip(futures[::3], futures[1::3], futures[2::3], strict=True):
        assert good.result()[1]
        assert isinstance(failed.exception(), KeyTaken)
        assert isinstance(broken.exception(), IntegrityError)
    assert set(registry.exported()) == {key(n) for n in range(10)}
    assert [change.revision for change in registry.changes()] == list(range(1, 11))


def test_more_than_a_batch_is_carried_out_to_the_last(registry: Registry) -> None:
    let_go, _ = held(registry)
    futures = [registry.store.submit(registering(n)) for n in range(600)]
    let_go.set()

    assert all(future.result(60)[1] for future in futures)
    assert len(registry.exported()) == 600


def test_one_that_was_cancelled_does_not_happen(registry: Registry) -> None:
    writers = 1 if registry.is_sqlite else store._WRITERS
    holds = [held(registry) for _ in range(writers)]  # all that carry out requests are busy
    first, cancelled, last = (registry.store.submit(registering(n)) for n in range(3))
    assert cancelled.cancel()
    for let_go, _ in holds:
        let_go.set()

    for _, future in holds:
        future.result(60)
    assert first.result(60)[1]
    assert last.result(60)[1]
    assert set(registry.exported()) == {key(0), key(2)}


def test_closing_finishes_what_was_submitted_and_takes_nothing_more(make_registry: MakeRegistry) -> None:
    registry = make_registry()
    registry.create("alice", 1000)
    futures = [registry.store.submit(registering(n)) for n in range(50)]

    registry.close()

    assert all(future.result(0)[1] for future in futures)
    for attempt in (registry.store.submit, registry.store.write):
        with pytest.raises(DatabaseUnusable, match="shutting down"):
            attempt(registering(1000))


@pytest.mark.parametrize("database", ["sqlite"])
def test_whoever_asks_while_it_closes_is_answered(make_registry: MakeRegistry) -> None:
    """Not put into the queue behind its end, where nobody looks any more."""
    registry = make_registry()
    queue, entered = registry.store._waiting, threading.Event()

    class Slow:
        get, get_nowait = staticmethod(queue.get), staticmethod(queue.get_nowait)

        @staticmethod
        def put(item: object) -> None:
            if item is not None:
                entered.set()
                time.sleep(0.5)
            queue.put(item)

    registry.store.write(lambda _: None)
    registry.store._waiting = Slow()
    registry.store.submit(lambda _: None).result(60)  # the writer looks into this queue from now on
    entered.clear()
    submitted: list[Future[Any]] = []
    asking = threading.Thread(target=lambda: submitted.append(registry.store.submit(lambda _: None)))
    asking.start()
    assert entered.wait(60)

    registry.close()
    asking.join(60)

    assert submitted[0].result(60) is None


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_full_disk_is_an_error_for_everyone_it_concerns_and_for_nobody_else(registry: Registry) -> None:
    """SQLite then undoes the whole transaction by itself, also those of a batch that had succeeded so far."""
    pragma = "PRAGMA max_page_count"

    def limit(pages: int) -> None:
        registry.store.write(lambda tx: tx.connection.exec_driver_sql(f"{pragma} = {pages}").scalar_one() and None)

    pages = registry.store.read(lambda tx: tx.connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    limit(pages + 45)  # room for a batch, not for all
    let_go, _ = held(registry)
    futures = [registry.store.submit(registering(n)) for n in range(700)]
    let_go.set()
    wait(futures, 120)

    there = set(registry.exported())
    answered = {key(n) for n, future in enumerate(futures) if future.exception() is None}
    assert 0 < len(answered) < 700
    assert answered == there
    assert all(isinstance(future.exception(), SQLAlchemyError) for future in futures if future.exception())
    assert [change.revision for change in registry.changes()] == list(range(1, len(there) + 1))

    limit(1_000_000)
    assert registry.register("alice", key(1000))[1]
    assert set(registry.exported()) == there | {key(1000)}


@pytest.mark.parametrize("database", ["sqlite"])
def test_sqlite_runs_with_the_guarantees_that_are_promised(registry: Registry) -> None:
    def pragmas(tx: Transaction) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout", "temp_store")
        return {name: tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}

    promised = {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": 30_000,
        "temp_store": 2,  # MEMORY
    }
    assert registry.store.write(pragmas) == promised
    housekeeping.checkpoint(registry.store)
    for _ in range(3):
        assert registry.store.read(pragmas) == promised


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_writer_waits_for_another_processs_transaction(registry: Registry) -> None:
    with registry.store.engine.connect().execution_options(writes=True) as other:
        transaction = other.begin()
        future = registry.store.submit(registering(1))
        time.sleep(0.3)
        assert not future.done()
        transaction.commit()
    assert future.result(60)[1]


def test_a_reader_sees_one_state_from_beginning_to_end(registry: Registry) -> None:
    def reads(tx: Transaction) -> tuple[int, int]:
        before = len(list(registrations.exported(tx)))
        registry.register("alice", key(1))
        return before, len(list(registrations.exported(tx)))

    assert registry.store.read(reads) == (0, 0)
    assert set(registry.exported()) == {key(1)}


def test_a_reader_sees_what_was_committed_since_its_last_look(registry: Registry) -> None:
    with registry.store.reader() as read:
        seen = []
        for number in range(3):
            seen.append(read(source.position).revision)
            registry.register("alice", key(number))
            registry.settle()
    assert seen == [0, 1, 2]


def test_no_statements_values_are_in_an_error(registry: Registry) -> None:
    """Errors end in logs."""
    registry.register("alice", key(1))

    def breaks(tx: Transaction) -> None:
        tx.connection.execute(
            schema.changes.insert(), [{"revision": 1, "public_key": bytes(key(1)), "kind": 1, "at": None}]
        )

    with pytest.raises(SQLAlchemyError) as problem:
        registry.store.write(breaks)
    shown = f"{problem.value!r} {problem.value}"
    assert bytes(key(1)).hex() not in shown.split("DETAIL", maxsplit=1)[0]
    assert repr(bytes(key(1))) not in shown


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_long_reader_does_not_keep_writers_out_while_housekeeping(registry: Registry) -> None:
    for n in range(20):
        registry.register("alice", key(n))

    def reads(tx: Transaction) -> tuple[bool, float]:
        rows = registrations.exported(tx)
        next(rows)
        begun = time.monotonic()
        assert not housekeeping.checkpoint(registry.store)  # it reads the newest state, from the log
        registry.register("alice", key(100))  # from now on an older one
        done: list[bool] = []
        tidying = threading.Thread(target=lambda: done.append(housekeeping.checkpoint(registry.store)))
        tidying.start()
        for n in range(200, 220):
            registry.register("alice", key(n))
        tidying.join()
        return done[0], time.monotonic() - begun

    emptied, seconds = registry.store.read(reads)
    assert not emptied
    assert seconds < 5  # not SQLite's whole patience, twice
    assert housekeeping.checkpoint(registry.store)


def test_the_housekeeper_goes_on_after_a_failure(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "_PERIOD", 0.01)
    failures: list[Exception] = [
        OperationalError("", {}, Exception("the database is away")),
        SQLAlchemyError("the pool is exhausted"),
    ]
    tidied = threading.Event()
    real = housekeeping.tidy

    def tidy(store: Any, stop: threading.Event) -> int:
        if failures:
            raise failures.pop()
        return real(store, stop)

    monkeypatch.setattr(housekeeping, "tidy", tidy)
    keeper = Housekeeper(registry.store, lambda _: tidied.set())
    try:
        assert tidied.wait(30)
    finally:
        keeper.stop()
    assert not failures


@pytest.mark.parametrize("database", ["postgresql"])
def test_what_is_deleted_makes_room_for_what_is_new(registry: Registry) -> None:
    """PostgreSQL keeps the bytes of a deleted row until others are written over them."""

    def size() -> int:
        with registry.store.engine.connect() as connection:
            return int(connection.execute(text("SELECT pg_relation_size('registrations')")).scalar_one())

    sizes = []
    for start in range(0, 2000, 400):
        keys = [key(n) for n in range(start, start + 400)]
        registry.store.write(lambda tx, keys=keys: [register(tx, "alice", each) for each in keys])
        sizes.append(size())
        registry.store.write(lambda tx, keys=keys: [registrations.revoke(tx, each) for each in keys])
        housekeeping.reclaim(registry.store)

    assert max(sizes) < 2 * sizes[0]


def test_the_operator_is_warned_once_before_a_range_is_full(
    make_registry: MakeRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = make_registry(ipv4_ranges=("10.0.0.0/27",), device_limit=100)
    registry.create("alice")
    watch = figures.Watch()

    def warnings() -> list[str]:
        caplog.clear()
        watch.look_at(registry.store.read(figures.count))
        return [record.getMessage() for record in caplog.records]

    for n in range(23):
        registry.register("alice", key(n))
    assert warnings() == []
    registry.register("alice", key(23))
    (warning,) = warnings()
    assert warning.startswith("80 % of the ipv4 tunnel addresses are used or rest; ")
    registry.delete("alice", key(23))  # it rests, so it is not free
    assert warnings() == []
    registry.clock.move(days=7)
    registry.tidy()
    assert warnings() == []
    registry.register("alice", key(24))
    assert len(warnings()) == 1


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_log_that_grows_is_brought_into_the_database(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "_CHECKPOINT_EVERY", 0.01)
    monkeypatch.setattr(housekeeping, "_LOG_PAGES", 20)
    log = Path(f"{registry.store.engine.url.database}-wal")
    registry.store.write(lambda tx: [register(tx, "alice", key(n)) for n in range(100)])
    assert log.stat().st_size > 20 * 4096
    keeper = Housekeeper(registry.store)
    try:
        give_up = time.monotonic() + 30
        while log.stat().st_size:
            assert time.monotonic() < give_up
            time.sleep(0.01)
    finally:
        keeper.stop()


@pytest.mark.parametrize("database", ["sqlite"])
def test_checkpoints_go_on_after_a_failure(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "_CHECKPOINT_EVERY", 0.01)
    monkeypatch.setattr(housekeeping, "_LOG_PAGES", -1)
    failures = [sqlite3.OperationalError("disk I/O error"), sqlite3.OperationalError("database is locked")]
    went_on = threading.Event()

    def checkpoint(_store: Any) -> bool:
        if failures:
            raise failures.pop()
        went_on.set()
        return True

    monkeypatch.setattr(housekeeping, "checkpoint", checkpoint)
    keeper = Housekeeper(registry.store)
    try:
        assert went_on.wait(30)
    finally:
        keeper.stop()


def test_a_large_removal_is_left_off_when_the_registry_stops(make_registry: MakeRegistry) -> None:
    registry = make_registry(key_days=1, device_limit=1000)
    registry.create("alice")
    registry.store.write(lambda tx: [register(tx, "alice", key(n)) for n in range(300)])
    registry.clock.move(days=2)
    stop = threading.Event()
    real = registry.store.write

    def write(use_case: Any) -> Any:
        stop.set()
        return real(use_case)

    registry.store.write = write  # type: ignore[method-assign]
    assert 0 < housekeeping.tidy(registry.store, stop) < 300
    registry.store.write = real  # type: ignore[method-assign]
    assert registry.tidy() > 0
    assert registry.exported() == {}


def test_vacuum_rewrites_the_database(registry: Registry) -> None:
    registry.store.write(lambda tx: [register(tx, "alice", key(n)) for n in range(400)])
    registry.store.write(lambda tx: [registrations.revoke(tx, key(n)) for n in range(1, 400)])
    registry.settle()
    registry.clock.move(days=8)
    registry.tidy()

    def size() -> int:
        query = (
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            if registry.is_sqlite
            else "SELECT pg_total_relation_size('registrations')"
        )
        return int(registry.store.read(lambda tx: tx.connection.execute(text(query)).scalar_one()))

    before = size()
    housekeeping.vacuum(registry.store)
    assert size() < before / 2
    assert set(registry.exported()) == {key(0)}
    assert registry.register("alice", key(2000))[1]


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_sequencer_survives_what_the_database_does_to_it(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "_STANDBY_PAUSE", 0.02)
    leader = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    one = Sequencer(registry.store.engine)
    try:
        for n in range(5):
            registry.register("alice", key(n))
            until(lambda n=n: registry.store.read(history.position).revision == n + 1)
            assert registry.store.write(lambda tx: tx.connection.execute(leader).scalar_one()) == 1
    finally:
        one.stop()
    assert [change.revision for change in registry.changes()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_sequencer_that_fails_keeps_no_lock_that_keeps_others_out(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a statement that fails in a session that lives on, nor a pool that has no connection, is the end."""
    monkeypatch.setattr(sequencer, "_STANDBY_PAUSE", 0.01)
    failures: list[Exception] = [OperationalError("", {}, Exception("a timeout")), SQLAlchemyError("the pool is empty")]
    real = sequencer.stamp

    def fails(connection: Any) -> int | None:
        if failures:
            raise failures.pop()
        return real(connection)

    monkeypatch.setattr(sequencer, "stamp", fails)
    registry.register("alice", key(1))
    one = Sequencer(registry.store.engine)
    try:
        until(lambda: registry.store.read(history.position).revision == 1)
    finally:
        one.stop()

    locks = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert registry.store.read(lambda tx: tx.connection.execute(locks).scalar_one()) == 0


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_sequencer_that_stops_leaves_its_place_to_another(registry: Registry) -> None:
    for n in range(3):
        one = Sequencer(registry.store.engine)
        registry.register("alice", key(n))
        until(lambda: registry.store.read(history.counts)["waiting_changes"] == 0)
        one.stop()
    assert [change.revision for change in registry.changes()] == [1, 2, 3]
