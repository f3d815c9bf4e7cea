# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry does by itself: remove keys that are due, prune, and let SQLite overwrite what was deleted."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from . import history, registrations
from .store import Store

_PERIOD = 30.0  # seconds, give or take half of it: the moment of a removal says nothing about a registration
_AT_ONCE = 200  # keys removed in one transaction: requests come in between

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
        # secure_delete zeroes pages; the log may still hold them as they were.
        with store.engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
    return removed


class Housekeeper:
    """A thread that tidies again and again. ``stop`` it before the store is closed."""

    def __init__(self, store: Store, after: Callable[[int], None] = lambda _: None) -> None:
        self._store = store
        self._after = after
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry-housekeeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD * random.uniform(0.5, 1.5)):  # noqa: S311 - not a secret
            try:
                self._after(tidy(self._store))
            except DBAPIError as error:
                _log.warning("housekeeping failed (%s); trying again", type(error.orig).__name__)


def vacuum(store: Store) -> None:
    """Rewrite the database without what was deleted. It takes the database's size in free space."""
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM FULL" if store.engine.dialect.name == "postgresql" else "VACUUM"))
