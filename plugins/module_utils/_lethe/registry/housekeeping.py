# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry does by itself: remove keys that are due, prune, and let SQLite overwrite what was deleted."""

from __future__ import annotations

import logging
import math
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from . import figures, history, registrations
from .figures import Watch
from .schema import metadata
from .store import Store, Transaction

_PERIOD = 30.0  # seconds, give or take half of it: the moment of a removal says nothing about a registration
_AT_ONCE = 100  # rows of a kind that one transaction removes: requests come in between
_CHECKPOINT_EVERY = 1.0  # seconds
_CHECKPOINT_WAIT = 100  # ms that a checkpoint waits for readers, while writers wait for it
_LOG_PAGES = 16_000  # of SQLite's log; when it is longer it is begun anew
_SELDOM = 3600.0  # seconds between two times of what takes a large database seconds

_log = logging.getLogger(__name__)


def tidy(store: Store, stop: threading.Event | None = None) -> int:
    """One round; returns how many keys were removed. ``stop``: end it early."""
    stop = stop or threading.Event()
    removed = _all_of(store, registrations.remove_due, stop)
    _all_of(store, history.prune, stop)
    if store.engine.dialect.name == "sqlite":
        checkpoint(store)
    return removed


def _all_of(store: Store, remove: Callable[[Transaction, int], int], stop: threading.Event) -> int:
    """Remove a little at a time, and leave as much time to the requests: when a day ends, a thirtieth of all keys may
    be due.
    """
    removed = 0
    while not stop.is_set():
        begun = time.monotonic()
        some = store.write(lambda tx: remove(tx, _AT_ONCE))
        if not some:
            break
        removed += some
        stop.wait(time.monotonic() - begun)
    return removed


def checkpoint(store: Store) -> bool:
    """SQLite: empty the write-ahead log, which may still hold pages as they were before secure_delete zeroed what
    was deleted. Returns whether it is empty: not while somebody reads an older state.
    """
    with store.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        (usual_wait,) = driver.execute("PRAGMA busy_timeout").fetchone()
        driver.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT}")
        try:
            # PASSIVE does the work and holds up nobody; TRUNCATE keeps writers out while it waits for readers.
            for mode in ("PASSIVE", "TRUNCATE"):
                busy, frames, copied = driver.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
                if busy or copied < frames:
                    return False
        finally:
            driver.execute(f"PRAGMA busy_timeout = {usual_wait}")
    return True


def reclaim(store: Store) -> None:
    """PostgreSQL: let new rows be written over deleted ones. Its own autovacuum waits until there are many."""
    if store.engine.dialect.name == "postgresql":
        tables = ", ".join(metadata.tables)
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"VACUUM (SKIP_LOCKED) {tables}"))


class Housekeeper:
    """Threads that tidy again and again, and bring SQLite's log into its database. ``stop`` it before the store is
    closed.
    """

    def __init__(self, store: Store, after: Callable[[int], None] = lambda _: None) -> None:
        self._store = store
        self._after = after
        self._watch = Watch()
        self._next_seldom = -math.inf
        self._stop = threading.Event()
        work = {"housekeeper": self._tidy}
        if store.engine.dialect.name == "sqlite":
            work["checkpointer"] = self._checkpoint
        self._threads = [
            threading.Thread(target=self._again_and_again, args=(each,), name=f"registry-{name}", daemon=True)
            for name, each in work.items()
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _again_and_again(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except (SQLAlchemyError, sqlite3.Error) as error:
                reason = getattr(error, "orig", None) or error
                _log.warning("housekeeping failed (%s); trying again", type(reason).__name__)

    def _tidy(self) -> None:
        if self._stop.wait(_PERIOD * random.uniform(0.5, 1.5)):  # noqa: S311 - not a secret
            return
        self._after(tidy(self._store, self._stop))
        if time.monotonic() >= self._next_seldom and not self._stop.is_set():
            reclaim(self._store)
            self._watch.look_at(self._store.read(figures.count))
            self._next_seldom = time.monotonic() + _SELDOM

    def _checkpoint(self) -> None:
        """Beside the writer, which would otherwise do it itself after every thousand pages, and wait for the disk."""
        with self._store.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            while not self._stop.wait(_CHECKPOINT_EVERY):
                frames = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
                if frames > _LOG_PAGES:
                    checkpoint(self._store)


def vacuum(store: Store) -> None:
    """Rewrite the database without what was deleted. It takes the database's size in free space."""
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM FULL"))
        return
    with store.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("VACUUM")  # not through SQLAlchemy, which would begin a transaction
    checkpoint(store)
