# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries with millions of keys, in minutes: rows as the use cases would have written them, in bulk.

A registry in its steady state. Keys live for 30 days, so each day one in 30 expires and one is registered: the log of
the last day has both, and the addresses of seven such days rest. Two keys and one client credential to an account,
random addresses from the default ranges. The same number of keys gives the same rows on the same day.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import psycopg
from sqlalchemy import Engine

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import migrations
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import DAY
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import (
    ADDED,
    REMOVED,
    Environment,
    connect,
)

KEYS_OF_AN_ACCOUNT = 2
_SEED = 20261123
_KEY = 32  # bytes of a key, and of a hash
_IPV6 = 16  # bytes
_CHUNK = 100_000  # rows
_CACHE = 4 << 30  # bytes of a SQLite database that are kept in memory while it is filled

# Of one table after the other: primary and unique keys first, because foreign keys need them.
_CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY contype = 'f', conrelid::regclass::text, conname
"""
_INDEXES = "SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"

Table = dict[str, Any]  # column: an array of fixed-size values, or one value for all rows


def token(account: int) -> str:
    """The client credential of an account."""
    return f"lethe_client_{base64.urlsafe_b64encode(_secret(account)).decode('ascii').rstrip('=')}"


def accounts_of(keys: int) -> int:
    return keys // KEYS_OF_AN_ACCOUNT


def _secret(account: int) -> bytes:
    return hashlib.blake2b(b"bench %d" % account, digest_size=_KEY).digest()


def _column(values: Iterator[bytes], size: int) -> Any:
    return np.frombuffer(b"".join(values), dtype=f"V{size}")


class Population:
    """What is in the tables."""

    def __init__(self, environment: Environment, keys: int) -> None:
        self.keys = keys
        self.of_a_day = keys // environment.settings.key_days
        # As if every key and every tombstone had been a change, and nothing before.
        self.revision = keys + self.of_a_day
        self.tables = dict(self._tables(environment))

    def _tables(self, environment: Environment) -> Iterator[tuple[str, Table]]:
        """In the order of their foreign keys. Rows are in the order of their primary key, and so are addresses and
        accounts in that of the keys: their indexes are then written from one end to the other, and are what they
        would be otherwise.
        """
        vault, settings = environment.vault, environment.settings
        now = int(time.time())
        today = now // DAY
        rng = np.random.default_rng([_SEED, self.keys])
        numbers = range(accounts_of(self.keys))
        accounts = _column((vault.account_hash(f"account {n}") for n in numbers), _KEY)
        ascending = _sorted(accounts)
        yield "accounts", {"account": ascending, "state": b"active"}

        public_keys = _sorted(np.frombuffer(rng.bytes(self.keys * _KEY), dtype=f"V{_KEY}"))
        ipv4 = int(environment.ipv4.nth(0)) + rng.permutation(environment.ipv4.size)
        prefix = environment.ipv6.nth(0).packed[: _IPV6 // 2]
        ipv6 = np.empty((self.keys, 2), dtype=">u8")
        ipv6[:, 0] = int.from_bytes(prefix, "big")
        ipv6[:, 1] = np.sort(rng.integers(1 << 64, size=self.keys, dtype=np.uint64))
        yield (
            "registrations",
            {
                "public_key": public_keys,
                "account": np.repeat(ascending, KEYS_OF_AN_ACCOUNT),
                "ipv4": np.sort(ipv4[: self.keys]),
                "ipv6": ipv6.view(f"V{_IPV6}").ravel(),
                "expires_day": rng.permutation(today + 1 + np.arange(self.keys, dtype=np.int32) % settings.key_days),
            },
        )

        hashes = _column((vault.token_hash(_secret(n)) for n in numbers), _KEY)
        order = _order(hashes)
        yield "credentials", {"credential": hashes[order], "kind": b"client", "account": accounts[order]}

        released = ipv4[self.keys : self.keys + self.of_a_day * settings.address_rest_days].tolist()
        hashes = _column((vault.address_hash(each.to_bytes(4, "big")) for each in released), _KEY)
        days = today + 1 + np.arange(len(released), dtype=np.int32) % settings.address_rest_days
        yield "resting", {"address": _sorted(hashes), "free_day": days}

        # Of the last day: removals and additions in turn, evenly.
        gone = np.frombuffer(rng.bytes(self.of_a_day * _KEY), dtype=f"V{_KEY}")
        steps = np.arange(2 * self.of_a_day)
        yield (
            "changes",
            {
                "revision": self.revision - 2 * self.of_a_day + 1 + steps,
                "public_key": np.stack((gone, rng.choice(public_keys, self.of_a_day, replace=False)), axis=1).ravel(),
                "kind": np.where(steps % 2, ADDED, REMOVED).astype(np.int16),
                "at": now - settings.change_retention + steps * settings.change_retention // len(steps),
            },
        )


def _sorted(values: Any) -> Any:
    return values[_order(values)]


def _order(values: Any) -> Any:
    """Indices that sort random values: their first bytes tell all but one in millions apart."""
    return np.argsort(values.view(np.uint8).reshape(len(values), -1)[:, :8].copy().view(">u8").ravel(), kind="stable")


def fill(database: str, population: Population) -> None:
    """Make the schema in an empty database by the migrations, and put the population into it."""
    engine = connect(database)
    migrations.upgrade(engine)
    try:
        (_fill_sqlite if engine.dialect.name == "sqlite" else _fill_postgresql)(engine, population)
    finally:
        engine.dispose()


def _fill_sqlite(engine: Engine, population: Population) -> None:
    with engine.connect() as connection:
        database = connection.connection.driver_connection
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "foreign_keys = OFF",
            f"cache_size = -{_CACHE >> 10}",
        ):
            database.execute(f"PRAGMA {pragma}")
        schema = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
        indexes = database.execute(schema).fetchall()
        # Built when all rows are there: each is then sorted once, not searched for every row.
        for name, _ in indexes:
            database.execute(f"DROP INDEX {name}")
        database.execute("BEGIN")
        for name, table in population.tables.items():
            marks = ", ".join("?" * len(table))
            database.executemany(f"INSERT INTO {name} ({', '.join(table)}) VALUES ({marks})", _rows(table))
        database.execute("UPDATE history SET revision = ?", (population.revision,))
        for _, statement in indexes:
            database.execute(statement)
        database.execute("COMMIT")
        assert database.execute(schema).fetchall() == indexes
        assert not database.execute("PRAGMA foreign_key_check").fetchone()
        database.execute("PRAGMA journal_mode = WAL")
        connection.invalidate()  # with its pragmas


def _rows(table: Table) -> Iterator[tuple[Any, ...]]:
    for start in range(0, max(map(_length, table.values())), _CHUNK):
        columns = (
            values[start : start + _CHUNK].tolist() if _length(values) else repeat(values.decode(), _CHUNK)
            for values in table.values()
        )
        yield from zip(*columns, strict=False)  # what all rows have does not end with the last chunk's


def _length(values: Any) -> int:
    """Rows; 0 of a value that all rows have."""
    return len(values) if isinstance(values, np.ndarray) else 0


def _fill_postgresql(engine: Engine, population: Population) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        database: psycopg.Connection[Any] = connection.connection.driver_connection
        database.execute("SET maintenance_work_mem = '1GB'")
        before = database.execute(_CONSTRAINTS).fetchall(), database.execute(_INDEXES).fetchall()
        constraints, _ = before
        for table, name, _ in reversed(constraints):
            database.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        rest = database.execute(_INDEXES).fetchall()
        for name, _ in rest:
            database.execute(f"DROP INDEX {name}")
        for name, table in population.tables.items():
            _copy(database, name, table)
        database.execute("UPDATE history SET revision = %s", (population.revision,))
        for table, name, definition in constraints:
            database.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
        for _, statement in rest:
            database.execute(statement)
        assert before == (database.execute(_CONSTRAINTS).fetchall(), database.execute(_INDEXES).fetchall())
        database.execute("VACUUM (ANALYZE)")  # as autovacuum would soon
        database.execute("CHECKPOINT")


def _copy(database: psycopg.Connection[Any], name: str, table: Table) -> None:
    """COPY in the binary format, whose rows are all of one size here."""
    columns = [("fields", ">i2", len(table))]
    for column, values in table.items():
        kind = values.dtype.newbyteorder(">") if _length(values) else np.dtype(f"V{len(values)}")
        columns += [(f"size of {column}", ">i4", kind.itemsize), (column, kind, values)]
    rows = np.empty(max(map(_length, table.values())), dtype=[(field, kind) for field, kind, _ in columns])
    for field, kind, values in columns:
        rows[field] = np.frombuffer(values, dtype=kind) if isinstance(values, bytes) else values
    with database.cursor().copy(f"COPY {name} ({', '.join(table)}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for start in range(0, len(rows), _CHUNK):
            copy.write(rows[start : start + _CHUNK].tobytes())
        copy.write(b"\xff\xff")
