# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry does by itself: remove keys that are due, prune, and let SQLite overwrite what was deleted."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from . import figures, history, registrations
from .figures import Watch
from .schema import metadata
from .store import Store

_PERIOD = 30.0  # seconds, give or take half of it: the moment of a removal says nothing about a registration
_AT_ONCE = 200  # keys removed in one transaction: requests come in between
_CHECKPOINT_WAIT = 100  # ms that a checkpoint waits for readers, while writers wait for it

_SELDOM = 3600.0  # seconds between two times of what takes a large database seconds

_log = logging.getLogger(__name__)


def tidy(store: Store) -> int:
    """One round; returns how many keys were removed."""
    removed = 0
    while True:
        some = store.write(lambda tx: registrations.remove_due(tx, _AT_ONCE))
        removed += some
        if some < _AT_ONCE:
            break
    store.write(history.prune)
    if store.engine.dialect.name == "sqlite":
        checkpoint(store)
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
    """A thread that tidies again and again. ``stop`` it before the store is closed."""

    def __init__(self, store: Store, after: Callable[[int], None] = lambda _: None) -> None:
        self._store = store
        self._after = after
        self._watch = Watch()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry-housekeeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        next_seldom = -math.inf
        while not self._stop.wait(_PERIOD * random.uniform(0.5, 1.5)):  # noqa: S311 - not a secret
            try:
                self._after(tidy(self._store))
                if time.monotonic() >= next_seldom:
                    reclaim(self._store)
                    self._watch.look_at(self._store.read(figures.count))
                    next_seldom = time.monotonic() + _SELDOM
            except SQLAlchemyError as error:
                reason = getattr(error, "orig", None) or error
                _log.warning("housekeeping failed (%s); trying again", type(reason).__name__)


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
