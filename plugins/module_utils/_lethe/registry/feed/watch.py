# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until the database may have changed: SQLite is asked every few milliseconds, PostgreSQL says so."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine, text

from ..sequencer import CHANNEL

_POLL = 0.004  # seconds; asking takes some microseconds


class Watch(Protocol):
    def wait(self, seconds: float) -> None:
        """Return when there may be a change, after that time at the latest. Raises what the database raises."""


@contextmanager
def watching(engine: Engine) -> Iterator[Watch]:
    """From the moment on which it is entered no change is missed."""
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database)).absolute()
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
            yield _Polled(connection)
    else:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"LISTEN {CHANNEL}"))
            try:
                yield _Notified(connection.connection.driver_connection)
            finally:
                connection.invalidate()  # one that listens must not go back to the pool


class _Polled:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._seen = self._version()

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (version := self._version()) == self._seen and time.monotonic() < end:
            time.sleep(_POLL)
        self._seen = version

    def _version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)


class _Notified:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def wait(self, seconds: float) -> None:
        list(self._connection.notifies(timeout=seconds, stop_after=1))
