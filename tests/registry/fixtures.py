# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures that unit tests and slower tests of the registry share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from registry.postgresql_server import PostgresqlServer
from registry.support import Clock, Registry, migrate, seeded

MakeRegistry = Callable[..., Registry]
NewDatabase = Callable[[], str]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A server that runs as long as the tests do, without fsync."""
    server = PostgresqlServer(durable=False)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgresqlServer) -> str:
    name = postgresql.new_database()
    migrate(postgresql.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "registry.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on: both, one after the other."""
    return str(request.param)


@pytest.fixture
def new_database(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewDatabase]:
    """Makes an empty database with the schema; returns its URL."""
    made: list[str] = []

    def new_file() -> str:
        path = tmp_path / f"registry{len(made)}.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        made.append(str(path))
        return f"sqlite:///{path}"

    def new_copy() -> str:
        made.append(server.new_database(request.getfixturevalue("postgresql_template")))
        return server.url(made[-1])

    if database == "sqlite":
        yield new_file
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    yield new_copy
    for name in made:
        server.drop_database(name)


@pytest.fixture
def make_registry(new_database: NewDatabase) -> Iterator[MakeRegistry]:
    """Opens a registry over a new database, or with ``url`` over one that is there; takes settings by name."""
    made: list[Registry] = []

    def make(url: str | None = None, clock: Clock | None = None, **settings: Any) -> Registry:
        settings.setdefault("randbelow", seeded(len(made)))
        made.append(Registry.open(url or new_database(), clock or Clock(), **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def registry(make_registry: MakeRegistry) -> Registry:
    """A registry with the default settings, and an account ``alice``."""
    one = make_registry()
    one.create("alice")
    return one
