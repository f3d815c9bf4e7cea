# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many writers at once, and a reader that must see every change once, in order, without a gap."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from registry.fixtures import NewDatabase
from registry.postgresql_server import PostgresqlServer
from registry.support import Clock, Follower, Registry, changes_after, key, leading, migrate, register, until
from registry.writers import Writer, sequencer_process
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import history

PROCESSES, THREADS = 3, 4
LEADER = """
    SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE locktype = 'advisory' AND granted AND datname = '{}'
"""


class Reader:
    """Follows the log as a feed does, while it grows. What it does not like it raises when it is stopped."""

    def __init__(self, registry: Registry) -> None:
        self.follower = Follower()
        self.portions = 0
        self._registry = registry
        self._stop = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.follow()
                self._stop.wait(0.002)
        except BaseException as problem:  # noqa: BLE001 - raised by stop
            self._problem = problem

    def follow(self) -> None:
        try:
            some = self._registry.store.read(lambda tx: changes_after(tx, self.follower.revision, 200))
        except SQLAlchemyError:
            return  # the server is being restarted
        self.follower.apply(some)
        self.portions += bool(some)

    def stop(self) -> Follower:
        self._stop.set()
        self._thread.join()
        if self._problem is not None:
            raise self._problem
        return self.follower


@contextmanager
def writing(url: str, processes: int = PROCESSES) -> Iterator[list[Writer]]:
    writers = [Writer(url, f"writer{n}", THREADS) for n in range(processes)]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.kill()


def check(url: str, writers: list[Writer], reader: Reader) -> None:
    registry = Registry.open(url)
    try:
        with leading(registry):
            until(lambda: registry.store.read(history.counts)["waiting_changes"] == 0)
        follower = reader.stop()
        reader.follow()
        assert follower.revision == registry.store.read(history.position).revision
        assert follower.keys == set(registry.exported())
        for writer in writers:
            writer.check(registry)
    finally:
        registry.close()


def test_a_reader_sees_every_change_of_many_writers(new_database: NewDatabase) -> None:
    """SQLite: of several processes that wait for each other. PostgreSQL: committing in whatever order."""
    url = new_database()
    registry = Registry.open(url)
    with leading(registry):
        reader = Reader(registry)
        with writing(url) as writers:
            until(lambda: all(writer.answers > 30 for writer in writers) and reader.follower.revision > 500)
    check(url, writers, reader)
    assert [writer.failures for writer in writers] == [[], [], []]
    assert reader.portions > 5  # it read while they wrote
    registry.close()


@pytest.mark.parametrize("database", ["postgresql"])
def test_another_sequencer_takes_over_when_the_leader_is_killed(
    new_database: NewDatabase, postgresql: PostgresqlServer
) -> None:
    url = new_database()
    name = make_url(url).database
    registry = Registry.open(url)

    def leader() -> str:
        rows = postgresql.execute(LEADER.format(name))
        return str(rows[0][0]) if rows else ""

    with ExitStack() as stack:
        processes = {
            one: stack.enter_context(sequencer_process(f"{url}&application_name={one}")) for one in ("one", "two")
        }
        until(lambda: leader() != "")
        reader = Reader(registry)
        with writing(url, 2) as writers:
            for round_ in range(4):
                led = leader()
                before = reader.follower.revision
                until(lambda before=before: reader.follower.revision > before + 50)
                processes.pop(led).kill()
                until(lambda led=led: leader() not in ("", led), 30)
                until(lambda before=before: reader.follower.revision > before + 100)
                processes[f"next{round_}"] = stack.enter_context(
                    sequencer_process(f"{url}&application_name=next{round_}")
                )
    check(url, writers, reader)
    registry.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["orderly", "crash"])
def test_a_restart_of_postgresql_loses_nothing_and_all_go_on(how: signal.Signals) -> None:
    server = PostgresqlServer(durable=True)
    try:
        url = server.url(server.new_database())
        migrate(url)
        registry = Registry.open(url)
        with leading(registry):
            reader = Reader(registry)
            with writing(url, 2) as writers:
                for _ in range(2):
                    before = reader.follower.revision
                    until(lambda before=before: reader.follower.revision > before + 100)
                    failures = [len(writer.failures) for writer in writers]
                    server.stop(how)
                    for writer, had in zip(writers, failures, strict=True):
                        until(lambda writer=writer, had=had: len(writer.failures) > had)
                    server.start()
                until(lambda: reader.follower.revision > before + 300)
        check(url, writers, reader)
        registry.close()
    finally:
        server.remove()


def test_one_account_at_its_limit_from_many_threads(new_database: NewDatabase) -> None:
    registry = Registry.open(new_database(), device_limit=5)
    registry.create("alice")
    futures = [registry.store.submit(lambda tx, n=n: register(tx, "alice", key(n % 40))) for n in range(200)]
    made = [future.result()[1] for future in futures if future.exception() is None]
    assert sum(made) == len(registry.of("alice")) == len(registry.changes()) == 5
    registry.close()


def test_many_at_once_share_a_small_range_without_a_clash(new_database: NewDatabase) -> None:
    registry = Registry.open(
        new_database(), device_limit=1000, ipv4_ranges=("10.0.0.0/24",), ipv6_ranges=("fd00::/120",)
    )
    for n in range(20):
        registry.create(f"account{n}")
    futures = [registry.store.submit(lambda tx, n=n: register(tx, f"account{n % 20}", key(n))) for n in range(180)]
    given = [address for future in futures for address in future.result()[0].addresses]
    assert len(set(given)) == 360
    stored = [address for row in registry.exported().values() for address in row.addresses]
    assert sorted(stored) == sorted(given)
    registry.close()


def test_housekeepers_of_several_processes_remove_each_key_once(new_database: NewDatabase) -> None:
    url, clock = new_database(), Clock()
    registries = [Registry.open(url, clock, device_limit=1000, key_days=1) for _ in range(3)]
    registries[0].create("alice")
    registries[0].store.write(lambda tx: [register(tx, "alice", key(n)) for n in range(450)])
    clock.move(days=2)
    removed: list[int] = []
    threads = [threading.Thread(target=lambda one=one: removed.append(one.tidy())) for one in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(removed) == 450
    assert registries[0].position().revision == 900
    assert registries[0].exported() == {}
    for one in registries:
        one.close()
