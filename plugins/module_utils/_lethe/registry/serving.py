# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a registry's database is being served: what replaces the database must be alone with it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from .errors import DatabaseUnusable

_STOP = "stop every process that uses it first: systemctl stop lethe-registry lethe-feed"
_SESSIONS = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


@contextmanager
def serving(engine: Engine) -> Iterator[None]:
    """While a process serves the database. Raises DatabaseUnusable while it is being replaced."""
    with _locked(engine, fcntl.LOCK_SH, "the database is being restored; start the registry when that is done"):
        yield


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """While the database is replaced. Raises DatabaseUnusable if somebody serves or uses it."""
    with _locked(engine, fcntl.LOCK_EX, f"the registry is being served; {_STOP}"):
        if engine.dialect.name == "postgresql":
            with engine.connect() as connection:
                sessions = connection.execute(_SESSIONS).scalar_one()
            if sessions:
                raise DatabaseUnusable(f"the database has {sessions} other sessions; {_STOP}")
        yield


@contextmanager
def _locked(engine: Engine, how: int, otherwise: str) -> Iterator[None]:
    if engine.dialect.name != "sqlite":
        yield  # PostgreSQL knows its sessions
        return
    # A file of its own: closing any descriptor of the database would release SQLite's locks on it.
    descriptor = os.open(f"{engine.url.database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseUnusable(otherwise) from None
        yield
    finally:
        os.close(descriptor)
