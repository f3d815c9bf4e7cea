# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is deleted is gone: from the tables, and from the bytes on the disk."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from registry.fixtures import MakeRegistry
from registry.postgresql_server import PostgresqlServer
from registry.support import Clock, Registry, key, migrate, register, seeded

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import housekeeping, registrations
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.registrations import Registration
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey

KEYS, ACCOUNTS = 1200, 40
RETENTION = 3600
SETTINGS = {"device_limit": 1000, "preshared_keys": False, "key_days": 300, "change_retention": RETENTION}


def account_of(number: int) -> str:
    return f"customer-{number % ACCOUNTS:04}-of-ours"


def fill(registry: Registry) -> dict[PublicKey, Registration]:
    """Many registrations in an order that splits pages everywhere."""
    for n in range(ACCOUNTS):
        registry.create(account_of(n))
        registry.token(account_of(n))
    made = {}
    for start in range(0, KEYS, 100):
        rows = registry.store.write(
            lambda tx, start=start: [register(tx, account_of(n), key(n))[0] for n in range(start, start + 100)]
        )
        made |= {row.public_key: row for row in rows}
    registry.settle()
    return made


def remove_half(registry: Registry) -> set[PublicKey]:
    """Keys of all ways to go, at random over the table."""
    shuffled = random.Random(7).sample(range(KEYS), KEYS)
    gone = set()
    for n in shuffled[:300]:
        registry.delete(account_of(n), key(n))
        gone.add(key(n))
    revoked = shuffled[300 : KEYS // 2]
    for start in range(0, len(revoked), 100):
        registry.store.write(
            lambda tx, some=revoked[start : start + 100]: [registrations.revoke(tx, key(n)) for n in some]
        )
    gone |= {key(n) for n in revoked}
    registry.settle()
    return gone


def traces(row: Registration) -> tuple[bytes, ...]:
    """What must be gone, as it is stored: SQLite writes 10.0.0.0 to 127.255.255.255 as an integer of four bytes, too
    few to search for among others; PostgreSQL writes a bigint, the lowest byte first.
    """
    return (bytes(row.public_key), *traces_of_addresses(row))


def traces_of_addresses(row: Registration) -> tuple[bytes, ...]:
    assert row.ipv4 is not None
    assert row.ipv6 is not None
    return (row.ipv6.packed, int(row.ipv4).to_bytes(8, "little"))


def texts(row: Registration) -> tuple[bytes, ...]:
    """What is nowhere, at no time: nothing is stored as text."""
    key_texts = (row.public_key.text, bytes(row.public_key).hex())
    return tuple(text.encode() for text in (*key_texts, f"{row.ipv4}/", str(row.ipv6)))


def found(content: bytes, needles: Iterable[bytes]) -> int:
    return sum(needle in content for needle in needles)


def directory(path: Path) -> bytes:
    """All that is in all files below it; of many zeros in a row only 32, more than anything has that is searched for:
    half of a database is zeros, and a search is slowest there.
    """
    content = b"\0".join(each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file())
    return re.sub(rb"\0{32,}", bytes(32), content)


@pytest.fixture
def filled(make_registry: MakeRegistry) -> Registry:
    return make_registry(**SETTINGS)


def path_of(registry: Registry) -> Path:
    assert registry.store.engine.url.database is not None
    return Path(registry.store.engine.url.database)


@pytest.mark.parametrize("database", ["sqlite"])
def test_sqlite_keeps_no_byte_of_a_removed_registration(filled: Registry) -> None:
    made = fill(filled)
    gone = remove_half(filled)
    filled.tidy()

    content = directory(path_of(filled).parent)
    there = [row for public_key, row in made.items() if public_key not in gone]
    # The search itself: what is there is found, and while removals are remembered, so are their keys.
    assert found(content, (bytes(row.public_key) for row in there)) == len(there)
    assert found(content, (row.ipv6.packed for row in there if row.ipv6)) == len(there)
    assert found(content, (int(row.ipv4).to_bytes(4, "big") for row in there if row.ipv4)) == len(there)
    assert found(content, map(bytes, gone)) == len(gone)
    # Of the removed ones their addresses are gone at once.
    for public_key in gone:
        assert found(content, traces_of_addresses(made[public_key])) == 0
    for row in list(made.values())[::40]:
        assert found(content, texts(row)) == 0
    few_bytes = [row.ipv4 for row in (made[public_key] for public_key in sorted(gone)) if row.ipv4]
    chance = len(few_bytes) * len(content) / 2**32
    assert found(content, (int(address).to_bytes(4, "big") for address in few_bytes)) <= 5 + 3 * chance
    assert os.path.getsize(f"{path_of(filled)}-wal") == 0

    filled.clock.move(seconds=RETENTION + 1)
    filled.tidy()

    content = directory(path_of(filled).parent)
    for public_key in gone:
        assert found(content, traces(made[public_key])) == 0
    assert found(content, (bytes(row.public_key) for row in there)) == len(there)


@pytest.mark.parametrize("database", ["sqlite"])
def test_sqlite_keeps_no_byte_of_a_rotated_key(filled: Registry) -> None:
    filled.create("alice")
    made = [filled.register("alice", key(0))[0]]
    for n in range(1, 60):
        made.append(filled.begin("alice", key(n - 1), key(n))[0])
        if n % 3:
            filled.confirm("alice", key(n))
        else:
            filled.clock.move(seconds=3600)
            filled.tidy()
    filled.clock.move(seconds=3601)
    filled.tidy()

    content = directory(path_of(filled).parent)
    for row in made[:-1]:
        assert found(content, traces(row)) == 0
    assert found(content, [bytes(made[-1].public_key)]) == 1


@pytest.mark.parametrize("end", ["close", "expire"])
@pytest.mark.parametrize("database", ["sqlite"])
def test_sqlite_keeps_nothing_of_an_account_that_is_over(filled: Registry, end: str) -> None:
    made = fill(filled)
    over = [account_of(n) for n in range(0, ACCOUNTS, 2)]
    hashes = [filled.hash(account) for account in over]
    if end == "close":
        for account in over:
            filled.close_account(account)
    else:
        filled.clock.move(days=301)
        filled.tidy()
        for account in over:
            filled.close_account(account)
    filled.tidy()
    content = directory(path_of(filled).parent)
    assert found(content, hashes) == len(hashes)  # remembered, to tell its clients
    assert found(content, (account.encode() for account in over)) == 0  # an id is never stored

    filled.clock.move(days=2)
    filled.tidy()

    content = directory(path_of(filled).parent)
    assert found(content, hashes) == 0
    keys = [public_key for n, public_key in enumerate(made) if n % 2 == 0]
    for public_key in keys:
        assert found(content, traces(made[public_key])) == 0
    left = [filled.hash(account_of(n)) for n in range(1, ACCOUNTS, 2)]
    assert found(content, left) == len(left)


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_vacuum_changes_nothing_about_it(filled: Registry) -> None:
    made = fill(filled)
    gone = remove_half(filled)
    filled.clock.move(seconds=RETENTION + 1)
    filled.tidy()
    size = path_of(filled).stat().st_size

    housekeeping.vacuum(filled.store)

    content = directory(path_of(filled).parent)
    assert path_of(filled).stat().st_size < size
    assert os.path.getsize(f"{path_of(filled)}-wal") == 0
    for public_key in gone:
        assert found(content, traces(made[public_key])) == 0
    assert set(filled.exported()) == set(made) - gone


@pytest.fixture(scope="module")
def recording_postgresql() -> Iterator[PostgresqlServer]:
    """A server that removes write-ahead log rather than keep it for the next use."""
    server = PostgresqlServer(durable=True, wal_segment=1)
    for setting in ("wal_recycle = off", "autovacuum = off"):
        server.execute(f"ALTER SYSTEM SET {setting}")
    server.execute("SELECT pg_reload_conf()")
    yield server
    server.remove()


def test_postgresql_keeps_no_byte_after_a_vacuum_and_its_logs_end(recording_postgresql: PostgresqlServer) -> None:
    """What PostgreSQL can promise, step by step.

    1. Deleted rows stay in the tables' files until they are rewritten (VACUUM FULL).
    2. All that was written stays in the write-ahead log until the checkpoint after it removes the segments: with
       wal_recycle = off they are deleted, otherwise renamed and kept until they are written over.
    """
    server = recording_postgresql
    name = server.new_database()
    migrate(server.url(name))
    registry = Registry.open(server.url(name), Clock(), seeded(0), **SETTINGS)
    made = fill(registry)
    gone = remove_half(registry)
    registry.close_account(account_of(0))
    closed = {public_key for n, public_key in enumerate(made) if n % ACCOUNTS == 0}
    registry.settle()
    registry.clock.move(days=2)
    registry.tidy()
    removed = sorted(gone | closed)[::8]  # the whole directory is searched for each
    there = sorted(set(made) - gone - closed)[::8]

    def left(where: str = "") -> tuple[int, int, int]:
        content = directory(server.data / where)
        return (
            found(content, map(bytes, removed)),
            sum(bool(found(content, traces_of_addresses(made[public_key]))) for public_key in removed),
            found(content, [registry.hash(account_of(0))]),
        )

    ((oid,),) = server.execute("SELECT oid FROM pg_database WHERE datname = current_database()", name)
    tables = f"base/{oid}"
    assert left("pg_wal") != (0, 0, 0)
    server.execute("CHECKPOINT", name)
    assert left(tables) != (0, 0, 0)

    housekeeping.vacuum(registry.store)
    server.execute("CHECKPOINT", name)
    assert left(tables) == (0, 0, 0)

    # The segment in use, and one before it, may still hold something: a switch and two checkpoints later they are gone.
    for _ in range(2):
        server.execute("SELECT pg_switch_wal()", name)
        server.execute("CHECKPOINT", name)
    assert left("pg_wal") == (0, 0, 0)
    assert left() == (0, 0, 0)
    assert set(registry.exported()) == set(made) - gone - closed
    assert found(directory(server.data / tables), map(bytes, there)) == len(there)

    # Nor does the server's own log say anything.
    log = server.log.read_bytes()
    everything = [needle for row in made.values() for needle in (*traces(row), *texts(row))]
    assert found(log, everything) == 0
    registry.close()
    server.drop_database(name)
