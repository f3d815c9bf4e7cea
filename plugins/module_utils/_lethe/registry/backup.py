# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup and restore of the database. The secrets file is not in it: without that a backup cannot be restored, and
tells keys and tunnel addresses, but whose they are to nobody; whoever has both has everything, so keep them apart.

A restore begins a new epoch, in the very transaction (PostgreSQL) or on the copy (SQLite) that becomes the
database: no gateway can go on from a position in the history that was lost.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import DBAPIError

from ..wireguard.errors import InvalidValue
from . import history, migrations, schema, serving
from .errors import DatabaseUnusable
from .store import connect

_COMPLETE = b"PostgreSQL database dump complete"  # pg_dump's last line but one
_TAIL = 4096  # bytes in which it stands


def backup(engine: Engine, path: Path) -> None:
    """Write the database as it is into a new file, 0600, while it may be in use. Raises InvalidValue and
    DatabaseUnusable.
    """
    with _new_file(path) as temporary:
        if engine.dialect.name == "sqlite":
            with closing(sqlite3.connect(f"{Path(_file(engine)).as_uri()}?mode=ro", uri=True)) as source:
                _copy(source, temporary)
            with closing(sqlite3.connect(temporary)) as copy:
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        else:
            _run(engine, "pg_dump", "--clean", "--if-exists", "--no-owner", "--no-privileges", f"--file={temporary}")


def restore(engine: Engine, path: Path) -> None:
    """Make the database what the backup says, brought to this version's schema, in a new epoch. Raises
    InvalidValue, and DatabaseUnusable also when the database is being served.
    """
    with serving.alone(engine):
        if engine.dialect.name == "sqlite":
            _restore_sqlite(engine, path)
        else:
            _restore_postgresql(engine, path)


def _restore_sqlite(engine: Engine, path: Path) -> None:
    """By way of a copy that is made ready first, so that the database changes in one step or not at all."""
    target = _file(engine)
    with tempfile.TemporaryDirectory(prefix=".lethe-restore-", dir=os.path.dirname(target)) as directory:
        copy = os.path.join(directory, "copy.sqlite3")
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source:
                _copy(source, copy)
            with closing(sqlite3.connect(copy)) as check:
                sound = check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                ours = check.execute("SELECT count(*) FROM sqlite_master WHERE name = 'history'").fetchone() == (1,)
        except sqlite3.Error:
            sound = ours = False
        if not sound or not ours:
            raise InvalidValue(f"{path}", "is not a sound backup of a registry", "give a file that 'backup' wrote")
        ready = connect(f"sqlite:///{copy}")
        try:
            migrations.upgrade(ready)
            epoch = history.new_epoch(time.time(), *_epochs(engine), *_epochs(ready))
            with ready.connect().execution_options(writes=True) as connection, connection.begin():
                connection.execute(update(schema.history).values(epoch=epoch))
        finally:
            ready.dispose()
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(target)) as database:
            source.backup(database)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what was there before is gone
    os.chmod(target, 0o600)


def _restore_postgresql(engine: Engine, path: Path) -> None:
    try:
        with open(path, "rb") as file:
            file.seek(-min(_TAIL, path.stat().st_size), os.SEEK_END)
            complete = _COMPLETE in file.read()
    except OSError as error:
        raise InvalidValue(f"{path}", f"cannot be read: {error.strerror}", "give a file that 'backup' wrote") from None
    if not complete:
        raise InvalidValue(f"{path}", "is not a complete dump", "give a file that 'backup' wrote with pg_dump")
    began = history.new_epoch(time.time(), *_epochs(engine))
    # After the backup's epoch too. A dump empties search_path. S608: the epoch is hexadecimal digits.
    epoch = f"""
        RESET search_path;
        UPDATE history SET epoch = greatest('{began}' COLLATE "C",
            lpad(to_hex(('x' || left(epoch, 8))::bit(32)::bigint + 1), 8, '0') || substr('{began}', 9))
    """  # noqa: S608
    options = ("--no-psqlrc", "--quiet", "--output=/dev/null", "--single-transaction", "--set=ON_ERROR_STOP=1")
    _run(engine, "psql", *options, f"--file={path.absolute()}", f"--command={epoch}")
    migrations.upgrade(engine)


def _epochs(engine: Engine) -> list[str]:
    """The epoch of a database, if it has one."""
    try:
        with engine.connect() as connection:
            return list(connection.execute(select(schema.history.c.epoch)).scalars())
    except (DBAPIError, sqlite3.Error):
        return []  # it is empty, or broken: that is why it is restored


def _file(engine: Engine) -> str:
    return os.path.abspath(engine.url.database or "")


def _copy(source: sqlite3.Connection, path: str) -> None:
    with closing(sqlite3.connect(path)) as copy:
        source.backup(copy)


def _run(engine: Engine, program: str, *arguments: str) -> None:
    """One of PostgreSQL's programs on the engine's database. The password travels in the environment: arguments
    are for everybody to see.
    """
    if shutil.which(program) is None:
        raise DatabaseUnusable(
            f"{program} is not here, which comes with PostgreSQL; install it: apt install postgresql-client"
        )
    url = engine.url
    environment = {**os.environ, **({} if url.password is None else {"PGPASSWORD": str(url.password)})}
    target = url.set(drivername="postgresql", password=None).render_as_string()
    command: Sequence[str] = (program, "--no-password", f"--dbname={target}", *arguments)
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        # Its first line says why; further ones may show rows.
        why = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise DatabaseUnusable(f"{program} failed: {why}")


@contextmanager
def _new_file(path: Path) -> Iterator[str]:
    """A temporary file, 0600, that becomes ``path`` if all goes well."""
    if path.exists():
        raise InvalidValue(f"{path}", "is there already", "give the name of a new file")
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InvalidValue(f"{path}", f"cannot be written: {error.strerror}", "create its directory first") from None
    try:
        yield temporary
        os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
