# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""At ten million keys a statement that looks at every row is an outage: each is asked how it would be carried out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from registry.fixtures import MakeRegistry
from registry.support import Registry, key
from sqlalchemy import event, insert, text

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import (
    credentials,
    history,
    reach,
    registrations,
    reports,
    schema,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed import source
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.reports import InterfaceReport, Report
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Transaction

ROWS = 5_000
OF_ALL_ROWS = re.compile(r"\bSCAN (\w+)|\bSeq Scan on (\w+)")
SMALL = {"history", "outbox", "batch", "reports"}  # whatever the size of the fleet

Plans = dict[str, list[str]]


def content(kind: str, number: int) -> bytes:
    return hashlib.sha256(f"{kind} {number}".encode()).digest()


@pytest.fixture
def registry(make_registry: MakeRegistry) -> Registry:
    """With so much in it that no planner takes a table for small, ``alice`` among it."""
    one = make_registry()
    one.create("alice")
    day = int(one.clock.now) // 86400
    rows: dict[Any, list[dict[str, Any]]] = {
        schema.accounts: [
            {"account": content("account", n), "state": "active", "closed_day": None} for n in range(ROWS // 4)
        ],
        schema.registrations: [
            {
                "public_key": content("key", n),
                "account": content("account", n // 4),
                "ipv4": (192 << 24) + n,
                "ipv6": content("address", n)[:16],
                "expires_day": day + 1 + n % 30,
            }
            for n in range(ROWS)
        ],
        schema.credentials: [
            {"credential": content("token", n), "kind": "client", "account": content("account", n)}
            for n in range(ROWS // 4)
        ],
        schema.resting: [{"address": content("resting", n), "free_day": day + 1 + n % 7} for n in range(ROWS)],
        schema.changes: [
            {"revision": n + 1, "public_key": content("key", n), "kind": 1, "at": one.clock.now} for n in range(ROWS)
        ],
    }
    with one.store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        for table, content_of in rows.items():
            connection.execute(insert(table), content_of)
        connection.execute(text(f"UPDATE history SET revision = {ROWS}"))
        if not one.is_sqlite:
            connection.execute(text("ANALYZE"))
    return one


@pytest.fixture
def carried_out(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Plans]:
    """Carries something out; returns each statement that it took, with the tables that it would look at as a whole."""
    statements: dict[str, Any] = {}
    engine = registry.store.engine
    # Through SQLAlchemy, which tells of them.
    monkeypatch.setattr(Transaction, "first", lambda tx, query, values: tx.connection.execute(query, values).first())
    monkeypatch.setattr(Transaction, "rows", lambda tx, query, values: tx.connection.execute(query, values).all())
    monkeypatch.setattr(Transaction, "change", lambda tx, query, *rows: tx.connection.execute(query, [*rows]).rowcount)

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.split(maxsplit=1)[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            statements.setdefault(statement, parameters[0] if many else parameters)

    def explained(statement: str, parameters: Any) -> list[str]:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            if registry.is_sqlite:
                rows = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                return [row[3] for row in rows]
            with psycopg.ClientCursor(driver) as cursor:
                return [row[0] for row in cursor.execute(f"EXPLAIN {statement}", parameters).fetchall()]

    def carry_out(what: Callable[[], object]) -> Plans:
        statements.clear()
        event.listen(engine, "before_cursor_execute", note)
        what()
        event.remove(engine, "before_cursor_execute", note)
        assert statements
        plans = {}
        for statement, parameters in statements.items():
            looks = (found for line in explained(statement, parameters) for found in OF_ALL_ROWS.findall(line))
            plans[" ".join(statement.split())] = sorted({"".join(names) for names in looks} - SMALL)
        return plans

    return carry_out


def test_no_request_looks_at_a_whole_table(
    registry: Registry, carried_out: Callable[[Callable[[], object]], Plans]
) -> None:
    def requests() -> None:
        token = registry.token("alice")
        registry.store.read(lambda tx: credentials.authenticate(tx, token))
        registry.create("bob", 9)
        registry.state("bob")
        registry.register("alice", key(1))
        registry.register("alice", key(1))
        registry.begin("alice", key(1), key(2))
        registry.begin("alice", key(1), key(3))
        registry.begin("alice", key(3), key(4))
        registry.confirm("alice", key(4))
        registry.of("alice")
        registry.store.read(lambda tx: reach.of_key(tx, key(4)))
        registry.delete("alice", key(4))
        registry.register("alice", key(5))
        registry.begin("alice", key(5), key(6))
        registry.revoke(key(6))
        registry.suspend("alice")
        registry.resume("alice")
        registry.close_account("alice")
        registry.store.write(lambda tx: credentials.issue(tx, "gateway", "g1"))
        registry.store.read(credentials.labels)
        registry.store.write(lambda tx: credentials.withdraw(tx, "gateway", "g1"))
        registry.position()

    plans = carried_out(requests)

    assert len(plans) > 20
    assert {statement: tables for statement, tables in plans.items() if tables} == {}


def test_housekeeping_looks_at_what_is_due_and_no_more(
    registry: Registry, carried_out: Callable[[Callable[[], object]], Plans]
) -> None:
    registry.register("alice", key(1))
    registry.begin("alice", key(1), key(2))
    registry.clock.move(seconds=3600)

    def housekeeping() -> None:
        assert registry.store.write(lambda tx: registrations.remove_due(tx, 200)) == 1
        registry.store.write(lambda tx: history.prune(tx, 200))

    plans = carried_out(housekeeping)

    assert len(plans) > 6
    looks = {statement: tables for statement, tables in plans.items() if tables}
    # The oldest, in the order of revisions: what is passed goes.
    if registry.is_sqlite:
        assert list(looks.values()) == [["changes"]]
        assert next(iter(looks)).endswith("FROM changes ORDER BY changes.revision LIMIT ? OFFSET ?")
    else:
        assert looks == {}


def test_the_feed_looks_at_no_whole_table(
    registry: Registry, carried_out: Callable[[Callable[[], object]], Plans]
) -> None:
    epoch = registry.position().epoch
    report = Report((InterfaceReport("wg0", epoch, 1, 1, None, 0),), "1", 0)

    def following() -> None:
        assert registry.store.read(lambda tx: source.batch_after(tx, Position(epoch, ROWS - 2)))
        registry.store.read(lambda tx: source.require(tx, Position(epoch, ROWS)))
        registry.store.read(source.settled)
        registry.store.read(credentials.of_gateways)
        registry.store.write(lambda tx: reports.keep(tx, {"g1": report}))
        registry.store.read(reports.gateways)
        registry.store.write(reports.forget_withdrawn)

    plans = carried_out(following)

    assert len(plans) > 8
    assert {statement: tables for statement, tables in plans.items() if tables} == {}


def test_a_snapshot_reads_the_registrations_once_in_order(
    registry: Registry, carried_out: Callable[[Callable[[], object]], Plans]
) -> None:
    plans = carried_out(lambda: registry.store.read(source.snapshot))

    (tables,) = [each for each in plans.values() if each]
    assert tables == (["registrations"] if registry.is_sqlite else ["accounts", "registrations"])


def test_the_export_reads_the_registrations_once_in_order(
    registry: Registry, carried_out: Callable[[Callable[[], object]], Plans]
) -> None:
    plans = carried_out(lambda: registry.store.read(lambda tx: sum(1 for _ in registrations.exported(tx))))

    (tables,) = plans.values()
    if registry.is_sqlite:
        assert tables == ["registrations"]  # and each account by its key: not the other way round, jumping about
    else:
        assert tables == ["accounts", "registrations"]  # joined by hashes
