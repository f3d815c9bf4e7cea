# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schema migrations (Alembic), run in process: there is no ini file to deploy."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine

from ..errors import DatabaseUnusable


def upgrade(engine: Engine) -> bool:
    """Bring the database to this version's schema; returns whether anything was to be done.

    Raises DatabaseUnusable for the schema of a later version.
    """
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config = _config()
        config.attributes["connection"] = connection
        before = MigrationContext.configure(connection).get_current_revision()
        try:
            command.upgrade(config, "head")
        except CommandError:
            raise DatabaseUnusable(
                "the database has the schema of a later version of Lethe; use that version, or restore a backup"
            ) from None
        return before != _head()


def is_current(engine: Engine) -> bool:
    """Whether the database has this version's schema."""
    with engine.connect() as connection:
        have = MigrationContext.configure(connection).get_current_revision()
    return have == _head()


@cache
def _head() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
