# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a registry's state lives, and what a transaction is. Use cases are functions over a Transaction.

SQLite: one writer thread takes all that waits, carries it out in one transaction, each part in a savepoint,
and answers after the commit: many durable answers for one fsync. PostgreSQL: a connection for each.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Executable, bindparam, create_engine, event, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from ..gateways import Gateway
from ..wireguard.errors import InvalidValue
from ..wireguard.keys import PublicKey
from . import direct, schema
from .allocation import AddressPool
from .direct import Values
from .errors import DatabaseUnusable
from .gateway_file import GatewayFile
from .settings import DAY, Settings
from .vault import Vault

T = TypeVar("T")

ADDED, REMOVED = 1, 0
"""Kinds of changes."""

_NEXT_REVISIONS = (
    update(schema.history)
    .values(revision=schema.history.c.revision + bindparam("changes"))
    .returning(schema.history.c.revision)
)
_LOG = insert(schema.changes)
_WAIT = insert(schema.outbox)

_CACHE = 65_536  # KiB of SQLite's pages that the writer keeps: what leads to the rows of ten million keys
_BATCH = 256  # use cases that share one SQLite commit
_BUSY = 30_000  # ms that SQLite waits for other processes: it polls, and a busy writer leaves it few moments
_LOG_PAGES = 100_000  # of SQLite's log, where no Housekeeper empties it before: writers then wait for the disk
_CONNECTIONS = 10  # to PostgreSQL, of one process
_WRITERS = 4  # threads: more of them wait longer for each other than for the database
_ATTEMPTS = 5  # of a PostgreSQL transaction that met another one (deadlock, serialization)
_PAUSE = 0.02  # seconds before the second of them; a multiple before those after it
_RETRIABLE = ("40001", "40P01")  # SQLSTATEs of those
_SHUTTING_DOWN = "the registry is shutting down; try again in a moment"


@dataclass(frozen=True, slots=True)
class Environment:
    """What every transaction of a registry needs beside the database."""

    settings: Settings
    vault: Vault
    ipv4: AddressPool[IPv4Address]
    ipv6: AddressPool[IPv6Address]
    gateway_file: GatewayFile
    clock: Callable[[], float] = time.time  # seconds since 1970
    randbelow: Callable[[int], int] = secrets.randbelow

    @classmethod
    def of(cls, settings: Settings, vault: Vault, **edges: Any) -> Environment:
        """Raises InvalidValue for ranges, or a list of gateways, that are not usable."""
        return cls(
            settings,
            vault,
            AddressPool(IPv4Address, settings.ipv4_ranges, settings.reserved),
            AddressPool(IPv6Address, settings.ipv6_ranges, settings.reserved),
            GatewayFile(settings.gateways_file),
            **edges,
        )


@dataclass(frozen=True, slots=True)
class Transaction:
    """One use case's view of the database. What it raises undoes all that it did."""

    connection: Connection
    environment: Environment
    now: int  # seconds since 1970

    @property
    def settings(self) -> Settings:
        return self.environment.settings

    @property
    def vault(self) -> Vault:
        return self.environment.vault

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """That clients are told of."""
        return self.environment.gateway_file.gateways()

    @property
    def today(self) -> int:
        """Days since 1970."""
        return self.now // DAY

    @property
    def has_outbox(self) -> bool:
        """Whether changes wait for the sequencer."""
        return self.connection.dialect.name == "postgresql"

    def record(self, kind: int, *public_keys: PublicKey) -> None:
        """Put a change of each key into the log. Revisions come with them (SQLite: there is one writer), or from the
        sequencer after the commit (PostgreSQL), so that they are gap-free and in commit order.
        """
        changes = [{"public_key": bytes(public_key), "kind": kind, "at": self.now} for public_key in public_keys]
        if self.has_outbox:
            self.change(_WAIT, *changes)
            return
        first = self.first(_NEXT_REVISIONS, {"changes": len(changes)}).revision - len(changes) + 1
        self.change(_LOG, *({"revision": first + n, **change} for n, change in enumerate(changes)))

    def first(self, statement: Executable, parameters: Values) -> Any:
        """The first row that a statement finds; None if there is none. ``statement``: a constant of its module, as
        that of ``rows`` and ``change``, because each is put together once (direct.py).
        """
        return direct.first(self.connection, statement, parameters)

    def rows(self, statement: Executable, parameters: Values) -> Sequence[Any]:
        """All rows that a statement finds."""
        return direct.rows(self.connection, statement, parameters)

    def change(self, statement: Executable, *parameters: Values) -> int:
        """Carry out a statement that changes rows, with each of the parameters; returns how many it changed."""
        return direct.change(self.connection, statement, parameters)


UseCase = Callable[[Transaction], T]


class Reader(Protocol):
    def __call__(self, use_case: UseCase[T]) -> T: ...


class Store(Protocol):
    """A registry's database."""

    engine: Engine
    environment: Environment

    def submit(self, use_case: UseCase[T]) -> Future[T]:
        """Carry out a use case that writes; the result comes when it is durable."""

    def write(self, use_case: UseCase[T]) -> T:
        """submit, and wait."""

    def reading(self) -> AbstractContextManager[Transaction]:
        """A transaction on one state of the database, for what only reads."""

    def read(self, use_case: UseCase[T]) -> T:
        """Carry out a use case that only reads, on one state of the database."""

    def reader(self) -> AbstractContextManager[Reader]:
        """``read``, again and again, over one connection and without a transaction: for use cases of one statement,
        which sees one state of the database by itself, by ``first`` or ``rows``.
        """

    def close(self) -> None:
        """Finish what was submitted, then let go of the database."""


def open_store(environment: Environment) -> Store:
    """The store for the settings' database, whose schema must be there (migrations). Raises
    DatabaseUnusable and InvalidValue.
    """
    engine = connect(environment.settings.database)
    try:
        with engine.connect() as connection:
            connection.execute(select(schema.history.c.epoch)).scalar_one()
    except DBAPIError:
        engine.dispose()
        raise DatabaseUnusable(
            "the registry's database is not there or has no schema; create or upgrade it with: lethe registry migrate"
        ) from None
    try:
        _check_secrets(engine, environment.vault)
    except BaseException:
        engine.dispose()
        raise
    return SqliteStore(engine, environment) if engine.dialect.name == "sqlite" else PostgresqlStore(engine, environment)


def _check_secrets(engine: Engine, vault: Vault) -> None:
    """With other secrets every account would be unknown, and every resting address free: nobody would notice.

    Raises DatabaseUnusable.
    """
    kept = select(schema.history.c.secrets)
    with engine.connect() as connection:
        known = connection.execute(kept).scalar_one()
    if known is None:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            first = update(schema.history).where(schema.history.c.secrets.is_(None))
            connection.execute(first.values(secrets=vault.fingerprint))
            known = connection.execute(kept).scalar_one()
    if known != vault.fingerprint:
        raise DatabaseUnusable(
            "the secrets file is not the one that this database was made with; "
            "give that one back (setting secrets_file), or start with an empty database"
        )


def connect(database: str) -> Engine:
    """An engine with the pragmas and pools that a registry needs. Raises InvalidValue."""
    try:
        url = make_url(database)
    except ArgumentError:
        url = None
    backend = "" if url is None else url.get_backend_name()
    # A path: in memory, each of our connections would have a database of its own.
    if url is None or not (backend == "postgresql" or (backend == "sqlite" and os.path.isabs(url.database or ""))):
        raise InvalidValue(
            "database", "is not a supported URL", "write sqlite:////absolute/path or postgresql://user@host/name"
        )
    if url.get_backend_name() == "postgresql":
        # hide_parameters: no statement's values in an exception or a log.
        return create_engine(
            url.set(drivername="postgresql+psycopg"), pool_size=_CONNECTIONS, pool_pre_ping=True, hide_parameters=True
        )
    engine = create_engine(url, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",  # an answered request survives a power loss
            "foreign_keys = ON",
            "secure_delete = ON",  # what is deleted is overwritten
            "temp_store = MEMORY",
            f"busy_timeout = {_BUSY}",
            f"wal_autocheckpoint = {_LOG_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        direct.carry_out(connection, "BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine


class SqliteStore:
    """One file, one writer."""

    def __init__(self, engine: Engine, environment: Environment) -> None:
        self.engine = engine
        self.environment = environment
        self._log = f"{os.path.realpath(str(engine.url.database))}-wal"
        self._connection = engine.connect().execution_options(writes=True)
        driver: Any = self._connection.connection.driver_connection
        driver.execute(f"PRAGMA cache_size = -{_CACHE}")
        self._waiting: queue.SimpleQueue[tuple[UseCase[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()  # nothing is put behind the None that ends the queue
        self._closed = False
        self._writer = threading.Thread(target=self._write_all, name="registry-writer", daemon=True)
        self._writer.start()

    def submit(self, use_case: UseCase[T]) -> Future[T]:
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise DatabaseUnusable(_SHUTTING_DOWN)
            self._waiting.put((use_case, future))
        return future

    def write(self, use_case: UseCase[T]) -> T:
        return self.submit(use_case).result()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self.engine.connect() as connection, connection.begin():
            yield Transaction(connection, self.environment, int(self.environment.clock()))

    def read(self, use_case: UseCase[T]) -> T:
        with self.reading() as tx:
            return use_case(tx)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        with self.engine.connect() as connection:
            yield lambda use_case: use_case(Transaction(connection, self.environment, int(self.environment.clock())))

    def close(self) -> None:
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        self._writer.join()
        self._connection.close()
        self.engine.dispose()

    def _write_all(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            self._write_batch([item for item in batch if item[1].set_running_or_notify_cancel()])

    def _next_batch(self) -> tuple[list[tuple[UseCase[Any], Future[Any]]], bool]:
        batch: list[tuple[UseCase[Any], Future[Any]]] = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            if len(batch) == _BATCH:
                return batch, False
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write_batch(self, batch: list[tuple[UseCase[Any], Future[Any]]]) -> None:
        if not batch:
            return
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self._connection.begin():
                # begin_nested would compile its statements each time: a third of what a registration takes.
                driver: Any = self._connection.connection.driver_connection
                transaction = Transaction(self._connection, self.environment, int(self.environment.clock()))
                for use_case, future in batch:
                    driver.execute("SAVEPOINT part")
                    try:
                        outcomes.append((future, use_case(transaction), None))
                    except Exception as error:
                        if not driver.in_transaction:
                            raise  # a full disk or a broken one: SQLite has undone the whole batch, not one part
                        driver.execute("ROLLBACK TO part")
                        outcomes.append((future, None, error))  # the caller's, who gets it with the result
                    driver.execute("RELEASE part")
        except Exception as error:  # noqa: BLE001 - nothing of the batch is durable: everyone is told
            for _, future in batch:
                future.set_exception(error)
            return
        self._tell()
        for future, result, problem in outcomes:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

    def _tell(self) -> None:
        """Let the feed's processes know of a commit (feed/watch.py): a write to the log does not, since that comes
        before the commit can be seen.
        """
        with suppress(OSError):  # they look a moment later anyway
            os.utime(self._log)


class PostgresqlStore:
    """Many connections; the database orders what they do."""

    def __init__(self, engine: Engine, environment: Environment) -> None:
        self.engine = engine
        self.environment = environment
        self._executor = ThreadPoolExecutor(_WRITERS, thread_name_prefix="registry-writer")
        self._closed = False

    def submit(self, use_case: UseCase[T]) -> Future[T]:
        try:
            return self._executor.submit(self._transact, use_case)
        except RuntimeError:
            raise DatabaseUnusable(_SHUTTING_DOWN) from None

    def write(self, use_case: UseCase[T]) -> T:
        if self._closed:
            raise DatabaseUnusable(_SHUTTING_DOWN)
        return self._transact(use_case)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with (
            self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
            connection.begin(),
        ):
            yield Transaction(connection, self.environment, int(self.environment.clock()))

    def read(self, use_case: UseCase[T]) -> T:
        with self.reading() as tx:
            return use_case(tx)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield lambda use_case: use_case(Transaction(connection, self.environment, int(self.environment.clock())))

    def close(self) -> None:
        self._closed = True
        self._executor.shutdown(wait=True)
        self.engine.dispose()

    def _transact(self, use_case: UseCase[T]) -> T:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self.engine.begin() as connection:
                    return use_case(Transaction(connection, self.environment, int(self.environment.clock())))
            except OperationalError as error:
                # The database has rolled it back whole, and asks for it to be done again.
                if attempt == _ATTEMPTS or getattr(error.orig, "sqlstate", None) not in _RETRIABLE:
                    raise
            # The other one first: it is woken, and would only be met again.
            time.sleep(_PAUSE * attempt)
        raise AssertionError("unreachable")
