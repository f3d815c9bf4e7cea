# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until the database may have changed. PostgreSQL says so; of SQLite whoever has committed touches the log's file
(store.py). Who is not told looks a moment later all the same (tail.py).
"""

from __future__ import annotations

import ctypes
import os
import select
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine, text

from ..sequencer import CHANNEL

_IN_ATTRIB = 0x4  # inotify(7): among others the times of a file were set
_EVENTS = 4096  # bytes


class Watch(Protocol):
    def wait(self, seconds: float) -> None:
        """Return when there may be a change, after that time at the latest. Raises what the database raises."""


@contextmanager
def watching(engine: Engine) -> Iterator[Watch]:
    """From the moment on which it is entered no change is missed."""
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database)).resolve()  # the log is beside the file, not beside a link to it
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
            connection.execute("SELECT 1 FROM history").fetchone()  # from now on there is a log
            with _noticing_touches(f"{path}-wal") as descriptor:
                yield _Touched(descriptor)
    else:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"LISTEN {CHANNEL}"))
            try:
                yield _Notified(connection.connection.driver_connection)
            finally:
                connection.invalidate()  # one that listens must not go back to the pool


@contextmanager
def _noticing_touches(path: str) -> Iterator[int]:
    """A descriptor that can be read once a file was touched."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_ATTRIB) < 0:
            raise OSError(ctypes.get_errno(), "the database's log cannot be watched")
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


class _Touched:
    def __init__(self, touches: int) -> None:
        self._touches = touches
        self._touched = select.poll()
        self._touched.register(touches, select.POLLIN)

    def wait(self, seconds: float) -> None:
        if self._touched.poll(seconds * 1000):
            os.read(self._touches, _EVENTS)


class _Notified:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def wait(self, seconds: float) -> None:
        list(self._connection.notifies(timeout=seconds, stop_after=1))
