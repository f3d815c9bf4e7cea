# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements that the database's driver gets directly: SQLAlchemy takes ten times as long to hand one over as SQLite to
carry it out, and with PostgreSQL all threads of a process wait for each other meanwhile.

What SQLAlchemy knows stays its own: it puts each statement together, once, and errors are its errors.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.exc import DBAPIError

Values = Mapping[str, Any]  # of a statement's parameters


@dataclass(slots=True)
class _Prepared:
    """A statement as a driver takes it."""

    text: str
    names: list[str] | None  # of its parameters, in order; None: the driver takes them by name
    fixed: dict[str, Any]  # those with a value of their own, like a limit
    row: Any = None  # makes a row, once it is known what is in one

    @classmethod
    def of(cls, statement: Any, dialect: Dialect, parameters: Values) -> _Prepared:
        compiled = statement.compile(dialect=dialect, column_keys=list(parameters))
        return cls(str(compiled), compiled.positiontup, compiled.params)

    def values(self, parameters: Values) -> Any:
        if self.names is None:
            return {**self.fixed, **parameters}
        return [parameters[name] if name in parameters else self.fixed[name] for name in self.names]


_prepared: dict[tuple[Executable, str], _Prepared] = {}  # by the statement and the dialect's name


def first(connection: Connection, statement: Executable, parameters: Values) -> Any:
    """The first row, with its columns as attributes; None if there is none. Raises DBAPIError."""
    return next(iter(rows(connection, statement, parameters)), None)


def rows(connection: Connection, statement: Executable, parameters: Values) -> list[Any]:
    """All rows, with their columns as attributes. Raises DBAPIError."""
    prepared, cursor = _carry_out(connection, statement, [parameters])
    found = cursor.fetchall()
    if prepared.row is None:
        prepared.row = _row_type(cursor)
    return [prepared.row(*row) for row in found]


def change(connection: Connection, statement: Executable, parameters: Sequence[Values]) -> int:
    """Carry it out with each of the parameters; returns how many rows that changed. Raises DBAPIError."""
    return int(_carry_out(connection, statement, parameters)[1].rowcount)


def _row_type(cursor: Any) -> Any:
    return namedtuple("Row", [column[0] for column in cursor.description])


def carry_out(connection: Connection, text: str, *values: Any) -> Any:
    """Carry a statement out, once or with each of the values; returns the driver's cursor. Raises DBAPIError."""
    dbapi = connection.dialect.loaded_dbapi
    try:
        cursor: Any = connection.connection.cursor()
        if len(values) > 1:
            cursor.executemany(text, values)
        else:
            cursor.execute(text, *values)
    except dbapi.Error as error:
        raise DBAPIError.instance(
            text, None, error, dbapi.Error, hide_parameters=True, dialect=connection.dialect
        ) from error
    return cursor


def _carry_out(connection: Connection, statement: Executable, parameters: Sequence[Values]) -> tuple[_Prepared, Any]:
    dialect = connection.dialect
    prepared = _prepared.get((statement, dialect.name))
    if prepared is None:
        prepared = _Prepared.of(statement, dialect, parameters[0])
        _prepared[statement, dialect.name] = prepared
    return prepared, carry_out(connection, prepared.text, *map(prepared.values, parameters))
