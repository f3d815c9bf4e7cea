# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry under test: its use cases by name, a clock that tests move, and what a reader of the change log has."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from made_up import key as key_text
from sqlalchemy import select

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import (
    accounts,
    credentials,
    history,
    housekeeping,
    migrations,
    registrations,
    sequencer,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.history import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.registrations import Registration
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.schema import changes
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import DAY, Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import (
    ADDED,
    Environment,
    Store,
    Transaction,
    connect,
    open_store,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.vault import Vault
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey

T = TypeVar("T")


class Change(NamedTuple):
    """One step from a revision to the next."""

    revision: int
    kind: int  # store.ADDED, store.REMOVED
    public_key: PublicKey


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what happens in another thread or process, at its own time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        time.sleep(0.01)


MASTER = bytes(range(32))
"""The master key of all registries under test: several processes share one."""

MONDAY = 20_000 * DAY
"""The first moment of a day."""


def key(number: int) -> PublicKey:
    """Always the same public key for a number."""
    return PublicKey.from_text(key_text(number))


class Clock:
    """Seconds since 1970, as a test has set them."""

    def __init__(self, now: float = MONDAY) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, *, days: int = 0, seconds: int = 0) -> None:
        self.now += days * DAY + seconds


def migrate(database: str) -> None:
    """Make the schema in a database."""
    engine = connect(database)
    migrations.upgrade(engine)
    engine.dispose()


class Registry:
    """The use cases over one store, each in a transaction of its own."""

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self.store = store
        self._clock = clock

    @classmethod
    def open(
        cls, database: str, clock: Clock | None = None, randbelow: Callable[[int], int] | None = None, **settings: Any
    ) -> Registry:
        """Over a database that has its schema. ``clock``: None for the real one."""
        edges: dict[str, Any] = {} if clock is None else {"clock": clock}
        if randbelow is not None:
            edges["randbelow"] = randbelow
        environment = Environment.of(Settings(database=database, **settings), Vault(MASTER), **edges)
        return cls(open_store(environment), clock)

    @property
    def clock(self) -> Clock:
        assert self._clock is not None, "this registry has the real time"
        return self._clock

    @property
    def is_sqlite(self) -> bool:
        return self.store.engine.dialect.name == "sqlite"

    def hash(self, account: str) -> bytes:
        return self.store.environment.vault.account_hash(account)

    def configure(self, **settings: Any) -> None:
        """As if the registry had been started again with other settings."""
        environment = self.store.environment
        self.store.environment = Environment.of(
            replace(environment.settings, **settings),
            environment.vault,
            clock=environment.clock,
            randbelow=environment.randbelow,
        )

    def create(self, account: str, device_limit: int | None = None) -> bool:
        return self.store.write(lambda tx: accounts.create(tx, account, device_limit))[1]

    def state(self, account: str) -> str:
        return self.store.read(lambda tx: accounts.show(tx, account)).state

    def suspend(self, account: str) -> bool:
        return self.store.write(lambda tx: accounts.suspend(tx, account))[1]

    def resume(self, account: str) -> bool:
        return self.store.write(lambda tx: accounts.resume(tx, account))[1]

    def close_account(self, account: str) -> bool:
        return self.store.write(lambda tx: accounts.close(tx, account))[1]

    def register(self, account: str, public_key: PublicKey) -> tuple[Registration, bool]:
        return self.store.write(lambda tx: register(tx, account, public_key))

    def begin(self, account: str, public_key: PublicKey, successor: PublicKey) -> tuple[Registration, bool]:
        return self.store.write(
            self._for(account, lambda tx, owner: registrations.begin_rotation(tx, owner, public_key, successor))
        )

    def confirm(self, account: str, successor: PublicKey) -> tuple[Registration, bool]:
        return self.store.write(
            self._for(account, lambda tx, owner: registrations.confirm_rotation(tx, owner, successor))
        )

    def delete(self, account: str, public_key: PublicKey) -> bool:
        return self.store.write(self._for(account, lambda tx, owner: registrations.delete_own(tx, owner, public_key)))

    def revoke(self, public_key: PublicKey) -> bool:
        return self.store.write(lambda tx: registrations.revoke(tx, public_key))

    def of(self, account: str) -> dict[PublicKey, Registration]:
        rows = self.store.read(lambda tx: registrations.of_account(tx, self.hash(account)))
        return {row.public_key: row for row in rows}

    def exported(self) -> dict[PublicKey, Registration]:
        rows = self.store.read(lambda tx: list(registrations.exported(tx)))
        assert len({row.public_key for row in rows}) == len(rows)
        return {row.public_key: row for row in rows}

    def tidy(self) -> int:
        """What falls due is removed, what need not be known any more is forgotten."""
        removed = housekeeping.tidy(self.store)
        self.settle()
        return removed

    def settle(self) -> None:
        """Wait until every change has its revision: where there is no sequencer thread, be one."""
        if not self.is_sqlite:
            with self.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                while sequencer.stamp(connection) is not None:
                    pass

    def position(self) -> Position:
        self.settle()
        return self.store.read(history.position)

    def changes(self, after: int = 0) -> list[Change]:
        self.settle()
        return self.store.read(lambda tx: changes_after(tx, after, 1_000_000))

    def token(self, account: str) -> str:
        return self.store.write(lambda tx: credentials.issue_for_account(tx, account))

    def resting(self) -> int:
        return self.store.read(history.counts)["resting"]

    def close(self) -> None:
        self.store.close()

    def _for(self, account: str, use_case: Callable[[Transaction, bytes], T]) -> Callable[[Transaction], T]:
        return lambda tx: use_case(tx, opened(tx, account))


def changes_after(tx: Transaction, revision: int, most: int) -> list[Change]:
    """Up to ``most`` changes after a revision, in order."""
    found = select(changes.c.revision, changes.c.kind, changes.c.public_key).where(changes.c.revision > revision)
    rows = tx.connection.execute(found.order_by(changes.c.revision).limit(most))
    return [Change(row.revision, row.kind, PublicKey(row.public_key)) for row in rows]


def opened(tx: Transaction, account: str) -> bytes:
    """The keyed hash of an account that is active, and locked."""
    owner = tx.vault.account_hash(account)
    accounts.open_account(tx, owner)
    return owner


def register(tx: Transaction, account: str, public_key: PublicKey) -> tuple[Registration, bool]:
    """What the API does for a client that registers a key."""
    owner = tx.vault.account_hash(account)
    limit = accounts.open_account(tx, owner).device_limit
    return registrations.register(tx, owner, public_key, limit)


class Follower:
    """A gateway's view: a set of keys, changed by the log. Fails when a revision is missing or comes twice."""

    def __init__(self, position: Position | None = None, keys: Iterable[PublicKey] = ()) -> None:
        self.revision = 0 if position is None else position.revision
        self.keys = set(keys)

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            assert change.revision == self.revision + 1, f"{change.revision} came after {self.revision}"
            self.revision = change.revision
            if change.kind == ADDED:
                self.keys.add(change.public_key)
            else:
                self.keys.discard(change.public_key)


def seeded(seed: int) -> Callable[[int], int]:
    """A randbelow that draws the same every time."""
    return random.Random(seed).randrange


@contextmanager
def leading(registry: Registry) -> Iterator[sequencer.Sequencer | None]:
    """With a sequencer, where the database needs one."""
    if registry.is_sqlite:
        yield None
        return
    one = sequencer.Sequencer(registry.store.engine)
    try:
        yield one
    finally:
        one.stop()
