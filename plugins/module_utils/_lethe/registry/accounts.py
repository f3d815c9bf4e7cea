# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts: who owns keys. The registry knows an account only as the keyed hash of the operator's id."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..wireguard.errors import InvalidValue
from . import registrations
from .errors import AccountClosed, AccountSuspended, AccountUnknown, ClosedAccount, SuspendedAccount
from .schema import accounts
from .store import ADDED, REMOVED, Transaction

ACTIVE, SUSPENDED, CLOSED = "active", "suspended", "closed"
_ID_LENGTH = 256  # characters


_BY_HASH = select(accounts.c.state, accounts.c.device_limit).where(accounts.c.account == bindparam("account"))
# Locked: what is counted of the account stays true until the transaction ends.
_LOCKED = _BY_HASH.with_for_update()


class Account(NamedTuple):
    """What is known of an account."""

    state: str  # active, suspended, closed
    device_limit: int  # keys that it may have


def account_id_from(value: object) -> str:
    """The operator's id for an account: any text. Raises InvalidValue, which does not show it."""
    if not isinstance(value, str) or not 0 < len(value) <= _ID_LENGTH or not value.isprintable():
        raise InvalidValue("account", "is not an account id", f"give 1 to {_ID_LENGTH} printable characters")
    return value


def create(tx: Transaction, account: str, device_limit: int | None = None) -> tuple[Account, bool]:
    """Make there be an active account; a limit that is given is set. Returns whether anything was changed.

    Raises ClosedAccount for an account that was closed and is not yet forgotten, SuspendedAccount likewise.
    """
    key = tx.vault.account_hash(account)
    insert = postgresql.insert if tx.connection.dialect.name == "postgresql" else sqlite.insert
    added = tx.connection.execute(
        insert(accounts).values(account=key, state=ACTIVE, device_limit=device_limit).on_conflict_do_nothing(),
        execution_options={"preserve_rowcount": True},
    ).rowcount
    changed = bool(added)
    row = refuse_unless_active(_locked(tx, key))
    if device_limit is not None and row.device_limit != device_limit:
        tx.connection.execute(update(accounts).where(accounts.c.account == key).values(device_limit=device_limit))
        changed = True
    return _locked(tx, key), changed


def show(tx: Transaction, account: str) -> Account:
    """Raises AccountUnknown."""
    return look_at(tx, tx.vault.account_hash(account))


def suspend(tx: Transaction, account: str) -> tuple[Account, bool]:
    """Take the account's keys off all gateways; its registrations stay, with their addresses."""
    return _set_state(tx, account, SUSPENDED)


def resume(tx: Transaction, account: str) -> tuple[Account, bool]:
    """Undo suspend."""
    return _set_state(tx, account, ACTIVE)


def close(tx: Transaction, account: str) -> tuple[Account, bool]:
    """Remove the account's keys everywhere. That it was closed is remembered, to tell its clients, as long as
    changes are; then the account is forgotten.
    """
    return _set_state(tx, account, CLOSED)


def look_at(tx: Transaction, key: bytes) -> Account:
    """The account behind a keyed hash, whatever its state. Raises AccountUnknown."""
    return _found(tx, key, _BY_HASH)


def open_account(tx: Transaction, key: bytes, *, lock: bool = True) -> Account:
    """The account behind a keyed hash if it is active, locked for the rest of the transaction (to read, it need
    not be).

    Raises AccountUnknown, AccountSuspended, AccountClosed.
    """
    row = _locked(tx, key) if lock else look_at(tx, key)
    if row.state == SUSPENDED:
        raise AccountSuspended
    if row.state == CLOSED:
        raise AccountClosed
    return row


def refuse_unless_active(account: Account) -> Account:
    """The account, for an operator. Raises SuspendedAccount, ClosedAccount."""
    if account.state == SUSPENDED:
        raise SuspendedAccount
    if account.state == CLOSED:
        raise ClosedAccount
    return account


def _locked(tx: Transaction, key: bytes) -> Account:
    return _found(tx, key, _LOCKED)


def _found(tx: Transaction, key: bytes, query: Select[tuple[str, int | None]]) -> Account:
    row = tx.first(query, {"account": key})
    if row is None:
        raise AccountUnknown
    return Account(row.state, tx.settings.device_limit if row.device_limit is None else row.device_limit)


def _set_state(tx: Transaction, account: str, state: str) -> tuple[Account, bool]:
    key = tx.vault.account_hash(account)
    before = _locked(tx, key)
    if before.state == state:
        return before, False
    if before.state == CLOSED:
        raise ClosedAccount
    if state == CLOSED:
        # Those of a suspended account have left the gateways; the second removal there is harmless.
        registrations.remove_all(tx, key)
    else:
        for public_key in registrations.keys_of(tx, key):
            tx.record(ADDED if state == ACTIVE else REMOVED, public_key)
    closed_day = tx.today if state == CLOSED else None
    tx.connection.execute(update(accounts).where(accounts.c.account == key).values(state=state, closed_day=closed_day))
    return _locked(tx, key), True


def count_by_state(tx: Transaction) -> dict[str, int]:
    """How many accounts are in each state."""
    rows = tx.connection.execute(select(accounts.c.state, func.count()).group_by(accounts.c.state))
    return {ACTIVE: 0, SUSPENDED: 0, CLOSED: 0, **{row[0]: row[1] for row in rows}}
