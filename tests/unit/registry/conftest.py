# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from sqlalchemy import Connection

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import direct

Interpose = Callable[..., None]


@pytest.fixture
def on_statements(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has functions called just before, and just after, each statement of a use case, with its text."""

    def arrange(target: Registry, before: Callable[[str], object], after: Callable[[str], object]) -> None:
        carry_out = direct.carry_out

        def told(connection: Connection, text: str, *values: Any) -> Any:
            here = connection.engine is target.store.engine
            statement = " ".join(text.split())
            if here:
                before(statement)
            cursor = carry_out(connection, text, *values)
            if here:
                after(statement)
            return cursor

        monkeypatch.setattr(direct, "carry_out", told)

    return arrange


@pytest.fixture
def interpose(on_statements: Callable[..., None]) -> Interpose:
    """Has something happen just before, or just after, the first statement that contains a text."""

    def arrange(target: Registry, do: Callable[[], object], before: str = "", after: tuple[str, ...] = ()) -> None:
        pending = [do]

        def once(statement: str, *texts: str) -> None:
            if pending and any(each in statement for each in texts):
                pending.pop()()

        on_statements(
            target,
            before=lambda statement: once(statement, *filter(None, [before])),
            after=lambda statement: once(statement, *after),
        )

    return arrange
