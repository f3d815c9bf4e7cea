# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server of the tests' own: in a directory of its own, reached by a socket there, gone with the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg import sql

_USER = "postgres"  # the server refuses to run as root; the package makes this user
_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{socket}'
max_connections = 100
shared_buffers = 64MB
min_wal_size = 32MB
"""
_STARTS_WITHIN = 60  # seconds, on a machine that has much else to do


def programs() -> Path:
    """Where the newest server's programs are: Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        raise FileNotFoundError("PostgreSQL's server is not installed; scripts/setup installs it")
    return found[-1].parent


class PostgresqlServer:
    """``durable``: with fsync, as in production; tests of what survives a crash of PostgreSQL need it no more than
    others, as the operating system lives on.
    """

    def __init__(self, *, durable: bool = True, wal_segment: int = 16) -> None:
        """``wal_segment``: megabytes in each file of the write-ahead log."""
        self.directory = Path(tempfile.mkdtemp(prefix="lethe-postgresql-"))
        self.data = self.directory / "data"
        self._durable = durable
        self._server: subprocess.Popen[bytes] | None = None
        self._databases = 0
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        subprocess.run(
            [
                *("setpriv", "--no-new-privs", *self._as_user(), programs() / "initdb", "--pgdata", self.data),
                *("--username", _USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
                f"--wal-segsize={wal_segment}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(socket=self.directory))
        self.start()

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def url(self, database: str = "postgres") -> str:
        """As SQLAlchemy and libpq read it."""
        return f"postgresql://{_USER}@/{database}?host={self.directory}"

    def start(self) -> None:
        # A child of the tests that dies with them, however they end (SIGQUIT: at once).
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "QUIT", *self._as_user(), programs() / "postgres"),
                    *("-D", self.data, "-c", f"fsync={'on' if self._durable else 'off'}"),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        give_up = time.monotonic() + _STARTS_WITHIN
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: orderly, disconnecting clients; SIGQUIT: as in a crash, with recovery at the next start."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(_STARTS_WITHIN)
            self._server = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    def execute(self, statement: str | sql.Composed, database: str = "postgres") -> list[tuple[object, ...]]:
        """Carry out one statement, outside a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template0") -> str:
        """An empty database, or a copy of another one; returns its name."""
        self._databases += 1
        name = f"registry{self._databases}"
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop_database(self, name: str) -> None:
        with contextlib.suppress(psycopg.OperationalError):  # a server that a test has stopped
            self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @staticmethod
    def _as_user() -> list[str]:
        if os.geteuid() != 0:
            return []
        user = pwd.getpwnam(_USER)
        return [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]
