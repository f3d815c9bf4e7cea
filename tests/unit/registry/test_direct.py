# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Statements of a transaction, on both databases alike: SQLite gets them directly, PostgreSQL through SQLAlchemy."""

from __future__ import annotations

import pytest
from registry.support import Registry
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.schema import resting

FIND = select(resting).where(resting.c.free_day >= bindparam("day")).order_by(resting.c.free_day).limit(1)
ADD = insert(resting)
MOVE = update(resting).where(resting.c.free_day == bindparam("day")).values(free_day=resting.c.free_day + 1)
ROWS = [{"address": bytes([n]) * 32, "free_day": n} for n in (5, 3, 9)]


def test_a_rows_columns_are_its_attributes(registry: Registry) -> None:
    registry.store.write(lambda tx: tx.change(ADD, *ROWS))
    found = registry.store.read(lambda tx: [tx.first(FIND, {"day": day}) for day in (4, 0, 9)])
    assert [(row.address, row.free_day) for row in found] == [(bytes([n]) * 32, n) for n in (5, 3, 9)]


def test_nothing_is_none(registry: Registry) -> None:
    assert registry.store.read(lambda tx: tx.first(FIND, {"day": 0})) is None


def test_all_rows_are_found_in_their_order(registry: Registry) -> None:
    registry.store.write(lambda tx: tx.change(ADD, *ROWS))
    every = select(resting).where(resting.c.free_day > bindparam("day")).order_by(resting.c.free_day)
    found = [registry.store.read(lambda tx, day=day: tx.rows(every, {"day": day})) for day in (0, 3, 9)]
    assert [[(row.address, row.free_day) for row in rows] for rows in found] == [
        [(bytes([n]) * 32, n) for n in days] for days in ((3, 5, 9), (5, 9), ())
    ]


def test_a_change_tells_how_many_rows_it_changed(registry: Registry) -> None:
    registry.store.write(lambda tx: tx.change(ADD, *ROWS))
    assert registry.store.write(lambda tx: tx.change(MOVE, {"day": 5})) == 1
    assert registry.store.write(lambda tx: tx.change(MOVE, {"day": 5})) == 0


def test_an_error_is_sqlalchemys_and_shows_no_value(registry: Registry) -> None:
    registry.store.write(lambda tx: tx.change(ADD, ROWS[0]))
    with pytest.raises(IntegrityError) as caught:
        registry.store.write(lambda tx: tx.change(ADD, ROWS[0]))
    shown = str(caught.value).partition("DETAIL")[0]
    assert repr(ROWS[0]["address"]) not in shown
    assert bytes([5] * 32).hex() not in shown
    assert registry.store.write(lambda tx: tx.change(MOVE, {"day": 5})) == 1  # the store goes on


def test_what_is_not_there_is_an_error_of_the_database(registry: Registry) -> None:
    gone = select(resting.c.address, bindparam("x")).where(resting.c.address.op("IS NO OPERATOR")(bindparam("x")))
    with pytest.raises((OperationalError, ProgrammingError)):
        registry.store.read(lambda tx: tx.first(gone, {"x": b""}))
