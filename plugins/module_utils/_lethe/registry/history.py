# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Epoch, revision and the retained change log."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from sqlalchemy import delete, func, select, update

from . import reports
from .schema import accounts, changes, credentials, history, outbox, registrations, resting
from .settings import DAY
from .store import Transaction

_TIME_BYTES, _RANDOM_BYTES = 4, 12  # of an epoch


class Position(NamedTuple):
    """Where a registry's history stands."""

    epoch: str
    revision: int  # of the latest change
    horizon: int  # the latest revision that is not retained any more: changes after it are


def new_epoch(now: float, *before: str) -> str:
    """An epoch that is after others, also when the clock was set back: its first 8 digits are when it began."""
    began = max(int(now), *(int(epoch[: 2 * _TIME_BYTES], 16) + 1 for epoch in before), 0)
    return began.to_bytes(_TIME_BYTES, "big").hex() + secrets.token_hex(_RANDOM_BYTES)


def position(tx: Transaction) -> Position:
    row = tx.connection.execute(select(history.c.epoch, history.c.revision)).one()
    first = tx.connection.execute(select(func.min(changes.c.revision))).scalar_one()
    return Position(row.epoch, row.revision, row.revision if first is None else first - 1)


def begin_epoch(tx: Transaction) -> str:
    """Begin another history, as after a restore: nobody may go on from a position in the one before."""
    epoch = new_epoch(tx.now, position(tx).epoch)
    tx.connection.execute(update(history).values(epoch=epoch))
    return epoch


def prune(tx: Transaction, most: int) -> int:
    """Forget what need not be known any more: changes beyond the retention (with them tombstones), addresses
    that have rested, accounts that were closed, reports of gateways that left. Returns how many rows went, at most so
    many of each kind: when none did, nothing is left to forget.
    """
    before = tx.now - tx.settings.change_retention
    closed_until = before // DAY - 1  # days that were over by then
    rested = select(resting.c.address).where(resting.c.free_day <= tx.today).limit(most)
    forgotten = select(accounts.c.account).where(accounts.c.closed_day <= closed_until)
    forgotten = forgotten.order_by(accounts.c.closed_day, accounts.c.account).limit(most)
    statements = (
        delete(changes).where(changes.c.revision < _first_kept(tx, before, most)),
        delete(resting).where(resting.c.address.in_(rested)),
        delete(credentials).where(credentials.c.account.in_(forgotten)),
        delete(accounts).where(accounts.c.account.in_(forgotten)),
    )
    return sum(tx.connection.execute(statement).rowcount for statement in statements) + reports.forget_withdrawn(tx)


def _first_kept(tx: Transaction, before: int, most: int) -> int:
    """The first revision that is not older, or the one after the ``most`` oldest: what is retained has no gaps, though
    times are in the order of neither revisions (PostgreSQL, where a transaction may take a while) nor anything else
    (a clock that was set).
    """
    oldest = tx.connection.execute(select(changes.c.revision, changes.c.at).order_by(changes.c.revision).limit(most))
    first = 0
    for row in oldest:
        if row.at >= before:
            return int(row.revision)
        first = row.revision + 1
    return first


def counts(tx: Transaction) -> dict[str, int]:
    """Numbers for the operator: registrations, resting addresses, changes that wait for a revision."""
    tables = {"registrations": registrations, "resting": resting, "waiting_changes": outbox}
    return {
        name: int(tx.connection.execute(select(func.count()).select_from(table)).scalar_one())
        for name, table in tables.items()
    }
