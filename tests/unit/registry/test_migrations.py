# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migrations: their sum is the schema, and nothing happens where nothing is to be done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from registry.postgresql_server import PostgresqlServer
from sqlalchemy import Engine, inspect, text
from sqlalchemy.schema import CreateTable

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import migrations, schema
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import DatabaseUnusable
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import (
    Environment,
    connect,
    open_store,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.vault import Vault


@pytest.fixture
def engine(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Of a database that holds nothing at all."""
    if database == "sqlite":
        one = connect(f"sqlite:///{tmp_path}/empty.sqlite3")
        yield one
        one.dispose()
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    name = server.new_database()
    one = connect(server.url(name))
    yield one
    one.dispose()
    server.drop_database(name)


def test_the_sum_of_all_migrations_is_the_schema(engine: Engine) -> None:
    assert migrations.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_what_a_comparison_does_not_see_is_the_same_too(engine: Engine) -> None:
    """Conditions of indexes, and tables without row numbers: word for word as if made from the schema."""

    def made() -> list[str]:
        query = (
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name <> 'alembic_version'"
            if engine.dialect.name == "sqlite"
            else "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        )
        with engine.connect() as connection:
            return sorted(" ".join(row.split()) for row in connection.execute(text(query)).scalars())

    migrations.upgrade(engine)
    by_migrations = made()
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("DROP VIEW feed_peers"))
    schema.metadata.drop_all(engine)
    schema.metadata.create_all(engine)
    assert by_migrations == made()


def test_the_feeds_view_has_no_accounts(engine: Engine) -> None:
    migrations.upgrade(engine)
    assert [column["name"] for column in inspect(engine).get_columns("feed_peers")] == [
        column.name for column in schema.feed_peers.columns
    ]


@pytest.mark.parametrize("database", ["sqlite"])
def test_sqlite_keeps_no_order_of_arrival(engine: Engine) -> None:
    migrations.upgrade(engine)
    with engine.connect() as connection:
        for table in schema.metadata.tables.values():
            created = connection.execute(
                text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table.name}
            ).scalar_one()
            wanted = str(CreateTable(table).compile(engine))
            assert ("WITHOUT ROWID" in created) is ("WITHOUT ROWID" in wanted)
            assert ("WITHOUT ROWID" in created) is (table.name not in ("history", "changes", "outbox"))


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    assert not migrations.is_current(engine)
    assert migrations.upgrade(engine)
    with engine.connect() as connection:
        before = connection.execute(text("SELECT * FROM history")).all()
    assert migrations.is_current(engine)

    assert not migrations.upgrade(engine)

    with engine.connect() as connection:
        assert connection.execute(text("SELECT * FROM history")).all() == before
    assert len(before) == 1


def test_an_upgrade_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE resting (x INTEGER)"))  # in the way of the migration
    with pytest.raises(Exception, match="resting"):
        migrations.upgrade(engine)
    assert inspect(engine).get_table_names() == ["resting"]

    with engine.begin() as connection:
        connection.execute(text("DROP TABLE resting"))
    assert migrations.upgrade(engine)


def test_the_schema_of_a_later_version_is_refused(engine: Engine) -> None:
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert not migrations.is_current(engine)
    with pytest.raises(DatabaseUnusable, match="later version"):
        migrations.upgrade(engine)


def test_a_database_without_the_schema_does_not_open(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    with pytest.raises(DatabaseUnusable, match="has no schema"):
        open_store(Environment.of(Settings(database=url), Vault(bytes(32))))


def test_a_database_that_is_not_there_does_not_open() -> None:
    for url in ("sqlite:////nowhere/registry.sqlite3", "postgresql://nobody@/none?host=/nowhere"):
        with pytest.raises(DatabaseUnusable, match="is not there"):
            open_store(Environment.of(Settings(database=url), Vault(bytes(32))))
