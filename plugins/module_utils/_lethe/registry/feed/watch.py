# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until the database may have changed. PostgreSQL says so. Of SQLite the log's file tells when to look closely:
it is written to a moment before a commit can be seen.
"""

from __future__ import annotations

import ctypes
import os
import select
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine, text

from ..sequencer import CHANNEL

_SOON, _GROWTH = 0.001, 2  # seconds until the first look when a commit is on its way; each pause is longer
_COMMITS_WITHIN = 0.2  # seconds from the first byte in the log until a commit can be seen, on most disks
_IN_MODIFY = 0x2  # inotify(7)
_EVENTS = 4096  # bytes


class Watch(Protocol):
    def wait(self, seconds: float) -> None:
        """Return when there may be a change, after that time at the latest. Raises what the database raises."""


@contextmanager
def watching(engine: Engine) -> Iterator[Watch]:
    """From the moment on which it is entered no change is missed."""
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database)).absolute()
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
            connection.execute("SELECT 1 FROM history").fetchone()  # from now on there is a log
            with _noticing_writes(f"{path}-wal") as descriptor:
                yield _Looked(connection, descriptor)
    else:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"LISTEN {CHANNEL}"))
            try:
                yield _Notified(connection.connection.driver_connection)
            finally:
                connection.invalidate()  # one that listens must not go back to the pool


@contextmanager
def _noticing_writes(path: str) -> Iterator[int]:
    """A descriptor that can be read once a file was written to."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), "the database's log cannot be watched")
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


class _Looked:
    def __init__(self, connection: sqlite3.Connection, writes: int) -> None:
        self._connection = connection
        self._writes = writes
        self._written = select.poll()
        self._written.register(writes, select.POLLIN)
        self._seen = self._version()
        self._look_until = 0.0

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        pause = _SOON
        written = self._was_written(0)
        while True:
            now = time.monotonic()
            if written:
                self._look_until = now + _COMMITS_WITHIN
                pause = _SOON
            version = self._version()
            if version != self._seen:
                self._seen = version
                if not written:
                    self._look_until = 0.0  # what was on its way is there
                return
            if now >= end:
                return
            looking = now < self._look_until
            # The next commit may begin while one is looked for, also in vain.
            written = self._was_written(min(pause, end - now) if looking else end - now)
            if looking:
                pause *= _GROWTH

    def _was_written(self, seconds: float) -> bool:
        """Whether the log was written to since this was asked last, or is within that time."""
        return bool(self._written.poll(seconds * 1000)) and bool(os.read(self._writes, _EVENTS))

    def _version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)


class _Notified:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def wait(self, seconds: float) -> None:
        list(self._connection.notifies(timeout=seconds, stop_after=1))
