# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kill -9 at any moment: what was answered is there, and what was not is there wholly or not at all."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest
from registry.fixtures import NewDatabase
from registry.postgresql_server import PostgresqlServer
from registry.support import Follower, Registry, migrate
from registry.writers import Writer
from sqlalchemy import text

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import REMOVED

ROUNDS = 25
THREADS = 6


@pytest.fixture(scope="module")
def durable_postgresql() -> Iterator[PostgresqlServer]:
    """As in production: with fsync."""
    server = PostgresqlServer(durable=True)
    yield server
    server.remove()


def check_history(registry: Registry) -> None:
    """Nothing was pruned: the log tells all, in revisions without a gap, and of every removal one address rests."""
    changes = registry.changes()
    follower = Follower()
    follower.apply(changes)
    assert follower.revision == registry.position().revision
    assert follower.keys == set(registry.exported())
    assert registry.resting() == sum(change.kind == REMOVED for change in changes)
    addresses = [address for row in registry.exported().values() for address in row.addresses]
    assert len(addresses) == len(set(addresses))


def killed_at_random(url: str, round_: int) -> Writer:
    """A writer that was killed after so many answers, as soon as that was noticed."""
    writer = Writer(url, f"round{round_}", THREADS)
    wait_for_answers(writer, random.Random(round_).randrange(1, 120))
    writer.kill()
    return writer


@pytest.mark.parametrize("database", ["sqlite"])
def test_sqlite_killed_in_the_middle_of_writes(new_database: NewDatabase) -> None:
    url = new_database()
    answers = unanswered = 0
    for round_ in range(ROUNDS):
        writer = killed_at_random(url, round_)
        registry = Registry.open(url)
        writer.check(registry)
        check_history(registry)
        assert registry.store.read(lambda tx: tx.connection.execute(text("PRAGMA integrity_check")).scalar()) == "ok"
        registry.close()
        answers += writer.answers
        unanswered += sum(account.open is not None for account in writer.accounts.values())
    assert answers > ROUNDS * 20
    assert unanswered > ROUNDS  # it was killed at work


def test_postgresqls_clients_killed_in_the_middle_of_writes(durable_postgresql: PostgresqlServer) -> None:
    url = durable_postgresql.url(durable_postgresql.new_database())
    migrate(url)
    registry = Registry.open(url)
    answers = unanswered = 0
    for round_ in range(ROUNDS // 2):
        writer = killed_at_random(url, round_)
        until_alone(registry)
        writer.check(registry)
        check_history(registry)
        answers += writer.answers
        unanswered += sum(account.open is not None for account in writer.accounts.values())
    registry.close()
    assert answers > ROUNDS * 10
    assert unanswered > ROUNDS // 2


def until_alone(registry: Registry) -> None:
    """What the killed client had sent is carried out to its end before the server notices."""
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND state <> 'idle' AND backend_type = 'client backend'"
    )
    give_up = time.monotonic() + 60
    while registry.store.read(lambda tx: tx.connection.execute(others).scalar_one()):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_postgresql_itself_crashing_in_the_middle_of_writes(durable_postgresql: PostgresqlServer) -> None:
    url = durable_postgresql.url(durable_postgresql.new_database())
    migrate(url)
    writer = Writer(url, "crash", THREADS)
    try:
        for round_ in range(3):
            wait_for_answers(writer, writer.answers + 50)
            failures = len(writer.failures)
            durable_postgresql.stop(signal.SIGQUIT)
            time.sleep(0.1 * round_)
            durable_postgresql.start()
            wait_for_answers(writer, writer.answers + 50)
            assert len(writer.failures) > failures
    finally:
        writer.kill()
    registry = Registry.open(url)
    until_alone(registry)
    writer.check(registry)
    check_history(registry)
    registry.close()


def wait_for_answers(writer: Writer, answers: int) -> None:
    give_up = time.monotonic() + 90
    while writer.answers < answers:
        assert time.monotonic() < give_up
        assert writer.process.is_alive()
        time.sleep(0.01)
