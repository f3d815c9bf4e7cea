# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL: gives committed changes their revisions, gap-free and in the order in which they became visible.

A number drawn inside a transaction is ordered by drawing, not by commit: a reader that has seen 8 may
miss a 7 that commits later. So transactions only put a row into the outbox; one sequencer, the process that
holds an advisory lock, moves what is committed into the log in batches, and notifies once for each.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from . import direct

CHANNEL = "lethe_revision"
_LOCK = 0x6C65746865  # "lethe": the advisory lock of the leader
_BATCH = 5000  # changes
_BUSY_PAUSE, _IDLE_PAUSE = 0.002, 0.010  # seconds between looks at the outbox
_IDLE_AFTER = 100  # looks without a change
_STANDBY_PAUSE = 0.5  # seconds between tries to become the leader

# One statement: whatever it does, it does wholly. The update of history also keeps out a second leader.
_STAMP = text(
    """
    WITH batch AS (
        DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT :most)
        RETURNING id, public_key, kind, at
    ), head AS (
        UPDATE history SET revision = revision + (SELECT count(*) FROM batch)
        WHERE EXISTS (SELECT FROM batch) RETURNING revision
    ), stamped AS (
        INSERT INTO changes (revision, public_key, kind, at)
        SELECT head.revision - (SELECT count(*) FROM batch) + row_number() OVER (ORDER BY batch.id),
               batch.public_key, batch.kind, batch.at
        FROM batch, head
        RETURNING revision
    )
    SELECT max(revision) FROM stamped
    """
)
_NOTIFY = text("SELECT pg_notify(:channel, :revision)")

_log = logging.getLogger(__name__)


def stamp(connection: Connection, most: int = _BATCH) -> int | None:
    """Give up to ``most`` committed changes their revisions and tell listeners; returns the last one."""
    revision: int | None = direct.first(connection, _STAMP, {"most": most})[0]
    if revision is not None:
        direct.rows(connection, _NOTIFY, {"channel": CHANNEL, "revision": str(revision)})
    return revision


class Sequencer:
    """A thread that leads when no other process does. ``stop`` it before its engine is disposed of."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry-sequencer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._lead()
            except SQLAlchemyError as error:
                # The database is away or failing over; the outbox keeps what is committed.
                reason = getattr(error, "orig", None) or error
                _log.warning("sequencer lost the database (%s); trying again", type(reason).__name__)
            self._stop.wait(_STANDBY_PAUSE)

    def _lead(self) -> None:
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar_one():
                return
            _log.info("this process gives out revisions now")
            try:
                idle = 0
                while not self._stop.is_set():
                    if stamp(connection) is None:
                        idle += 1
                        self._stop.wait(_IDLE_PAUSE if idle > _IDLE_AFTER else _BUSY_PAUSE)
                    else:
                        idle = 0
            except BaseException:
                connection.invalidate()  # the lock goes with the session: it must not stay in the pool
                raise
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
