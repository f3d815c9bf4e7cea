# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable

import pytest
from registry.fixtures import (  # noqa: F401 - fixtures
    database,
    make_registry,
    new_database,
    postgresql,
    postgresql_template,
    registry,
    sqlite_template,
)
from registry.support import Registry
from sqlalchemy import event

Interpose = Callable[..., None]


@pytest.fixture
def interpose() -> Interpose:
    """Has something happen just before, or just after, the first statement that contains a text."""

    def arrange(target: Registry, do: Callable[[], object], before: str = "", after: tuple[str, ...] = ()) -> None:
        pending = [do]

        def once(statement: str, *texts: str) -> None:
            if pending and any(each in " ".join(statement.split()) for each in texts):
                pending.pop()()

        if before:
            event.listen(
                target.store.engine,
                "before_cursor_execute",
                lambda _connection, _cursor, statement, *_: once(statement, before),
            )
        if after:
            event.listen(
                target.store.engine,
                "after_cursor_execute",
                lambda _connection, _cursor, statement, *_: once(statement, *after),
            )

    return arrange
