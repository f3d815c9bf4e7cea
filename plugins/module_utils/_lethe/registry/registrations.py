# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registrations: public key, random tunnel addresses and, where the fleet has them, a preshared key.

All functions take a locked, active account's keyed hash (accounts.open_account) where they change
anything, so that two requests of one account come one after the other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    Column,
    Executable,
    Row,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ..wireguard.keys import PresharedKey, PublicKey, generate_preshared_key
from .allocation import DRAWS, A, AddressPool
from .errors import DeviceLimitReached, KeyRemoved, KeyTaken, KeyUnknown, RangeFull, RotationConflict
from .schema import accounts, changes, outbox, registrations, resting
from .settings import DAY
from .store import ADDED, REMOVED, Transaction

_EXPORT_ROWS = 5000
_ATTEMPTS = 10  # at an insert: others may take what was free a moment ago
_TURN_BITS = 32  # of a public key: finer than housekeeping looks
_LOOKS = (10, DRAWS - 10)  # addresses at once, where a range is crowded: 75 % full, one of ten is free 19 times of 20
_LOOKED_AT = [f"address{n}" for n in range(max(_LOOKS))]


def _among(column: Column[Any]) -> dict[int, Executable]:
    """By how many values are looked at: which of them are in the column."""
    return {many: select(column).where(column.in_([bindparam(name) for name in _LOOKED_AT[:many]])) for many in _LOOKS}


# Built once: putting a statement together costs more than SQLite takes to carry it out.
_BY_KEY = select(registrations).where(registrations.c.public_key == bindparam("public_key"))
_COUNT = select(func.count()).where(
    registrations.c.account == bindparam("account"), registrations.c.leaves_at.is_(None)
)
_IS_CHANGED = select(changes.c.public_key).where(changes.c.public_key == bindparam("public_key")).limit(1)
_IS_WAITING = select(outbox.c.public_key).where(outbox.c.public_key == bindparam("public_key")).limit(1)
_LOCK_BY_KEY = _BY_KEY.with_for_update()
_LOCK_ACCOUNT = select(accounts.c.account).where(accounts.c.account == bindparam("account")).with_for_update()
_RESTS = select(resting.c.address).where(resting.c.address == bindparam("address"))
_REGISTERED = {column: _among(column) for column in (registrations.c.ipv4, registrations.c.ipv6)}
_RESTING = _among(resting.c.address)
# Does nothing when any unique column is taken, by a row that the transaction may not even see.
_INSERT = {
    dialect: insert(registrations).on_conflict_do_nothing()
    for dialect, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}
_GONE: BindParameter[Any] = bindparam("gone", expanding=True)
_DELETE = delete(registrations).where(registrations.c.public_key.in_(_GONE)).returning(registrations.c.public_key)
_FORGET_PREDECESSORS = update(registrations).where(registrations.c.replaces.in_(_GONE)).values(replaces=None)
# One that rests already rests anew.
_LET_REST = {
    dialect: statement.on_conflict_do_update(
        index_elements=[resting.c.address], set_={"free_day": statement.excluded.free_day}
    )
    for dialect, statement in (("postgresql", postgresql.insert(resting)), ("sqlite", sqlite.insert(resting)))
}


class Registration(NamedTuple):
    """One key and what belongs to it."""

    public_key: PublicKey
    ipv4: ipaddress.IPv4Address | None
    ipv6: ipaddress.IPv6Address | None
    preshared_key: PresharedKey | None
    expires_day: int | None  # days since 1970; None: never
    leaves_at: int | None  # seconds since 1970: it is being rotated out; None: it is not
    replaces: PublicKey | None  # the key that it rotates out and that is still there

    @property
    def addresses(self) -> list[str]:
        """As allowed IPs: ``10.1.2.3/32``, ``fd00::1/128``."""
        return [f"{ip}/{ip.max_prefixlen}" for ip in (self.ipv4, self.ipv6) if ip is not None]


def register(tx: Transaction, account: bytes, public_key: PublicKey, device_limit: int) -> tuple[Registration, bool]:
    """Give a key addresses. The same key of the same account gets the same again; returns whether it is new.

    Raises KeyTaken for a key of another account, or one that was removed and is still remembered;
    DeviceLimitReached; RangeFull.
    """
    existing = _find(tx, public_key)
    if existing is not None:
        return _own(tx, existing, account, KeyTaken), False
    _refuse_removed(tx, public_key)
    if count(tx, account) >= device_limit:
        raise DeviceLimitReached
    return _add(tx, account, public_key, replaces=None), True


def begin_rotation(
    tx: Transaction, account: bytes, public_key: PublicKey, successor: PublicKey
) -> tuple[Registration, bool]:
    """Register ``successor`` beside ``public_key``, which leaves when the client confirms or the grace period
    ends. The same two keys give the same again, also after the first has left; another successor replaces
    one that was not confirmed. Returns whether the successor is new.

    Raises KeyUnknown (KeyRemoved), KeyTaken, RangeFull, and RotationConflict if ``successor`` is another key of the
    account.
    """
    # Locked: it might be due, and be removed meanwhile.
    old = tx.connection.execute(_LOCK_BY_KEY, {"public_key": bytes(public_key)}).one_or_none()
    new = _find(tx, successor)
    if new is not None:
        owned = _own(tx, new, account, KeyTaken)
        if owned.leaves_at is not None or owned.replaces != (None if old is None else public_key):
            raise RotationConflict
        return owned, False
    if old is None:
        raise _missing(tx, public_key)
    present = _own(tx, old, account, KeyUnknown)
    _refuse_removed(tx, successor)
    _remove(tx, tx.connection.execute(select(registrations).where(registrations.c.replaces == bytes(public_key))).all())
    if present.replaces is not None:
        # The client goes on from a key that it never confirmed: it has it, so the one before may go.
        confirm_rotation(tx, account, public_key)
    added = _add(tx, account, successor, replaces=public_key)
    leaves_at = tx.now + tx.settings.rotation_grace
    tx.connection.execute(
        update(registrations).where(registrations.c.public_key == bytes(public_key)).values(leaves_at=leaves_at)
    )
    return added, True


def confirm_rotation(tx: Transaction, account: bytes, successor: PublicKey) -> tuple[Registration, bool]:
    """The client uses ``successor``: the key that it replaces leaves now. Returns whether one left.

    Raises KeyUnknown (KeyRemoved).
    """
    row = _find(tx, successor)
    if row is None:
        raise _missing(tx, successor)
    owned = _own(tx, row, account, KeyUnknown)
    if owned.replaces is None:
        return owned, False
    old = _find(tx, owned.replaces)
    if old is not None:
        _remove(tx, [old])
    return owned._replace(replaces=None), True


def own(tx: Transaction, account: bytes, public_key: PublicKey) -> Registration:
    """A key of the account. Raises KeyUnknown (KeyRemoved)."""
    row = _find(tx, public_key)
    if row is None:
        raise _missing(tx, public_key)
    return _own(tx, row, account, KeyUnknown)


def delete_own(tx: Transaction, account: bytes, public_key: PublicKey) -> bool:
    """Remove a key of the account, and its rotation's other key. Returns whether it was there."""
    row = _find(tx, public_key)
    if row is None:
        return False
    _own(tx, row, account, KeyUnknown)
    _remove_with_rotation(tx, row)
    return True


def revoke(tx: Transaction, public_key: PublicKey) -> bool:
    """Remove a key whosever it is, and its rotation's other key. Returns whether it was there."""
    row = _find(tx, public_key)
    if row is None:
        return False
    # A rotation that is just beginning would bring a partner that could not be seen yet.
    tx.connection.execute(_LOCK_ACCOUNT, {"account": row.account})
    row = _find(tx, public_key)
    if row is not None:
        _remove_with_rotation(tx, row)
    return True


def of_account(tx: Transaction, account: bytes) -> list[Registration]:
    """The account's registrations, in an order that tells nothing."""
    query = select(registrations).where(registrations.c.account == account).order_by(registrations.c.public_key)
    return [_registration(tx, row) for row in tx.connection.execute(query)]


def keys_of(tx: Transaction, account: bytes) -> list[PublicKey]:
    query = select(registrations.c.public_key).where(registrations.c.account == account)
    return [PublicKey(raw) for raw in tx.connection.execute(query).scalars()]


def count(tx: Transaction, account: bytes) -> int:
    """The account's keys; one that is rotated out does not count."""
    return int(tx.first(_COUNT, {"account": account})[0])


def remove_all(tx: Transaction, account: bytes) -> int:
    return _remove(tx, tx.connection.execute(select(registrations).where(registrations.c.account == account)).all())


def remove_due(tx: Transaction, most: int) -> int:
    """Remove up to ``most`` keys that have expired or whose grace period is over; returns how many."""
    expired = or_(
        registrations.c.expires_day < tx.today,
        and_(registrations.c.expires_day == tx.today, registrations.c.public_key < _turn(tx.now)),
    )
    due = or_(expired, registrations.c.leaves_at <= tx.now)
    locked = select(registrations).where(due).limit(most).with_for_update(skip_locked=True)
    return _remove(tx, tx.connection.execute(locked).all())


def _turn(now: int) -> bytes:
    """Keys below this have had their turn to expire today. They are random, so they leave evenly over the day: not
    all those of a day at midnight, where everybody could see which belong together, and gateways had them all at once.
    """
    return (((now % DAY) << _TURN_BITS) // DAY).to_bytes(_TURN_BITS // 8, "big")


def exported(tx: Transaction) -> Generator[Registration, None, None]:
    """All registrations of active accounts: what gateways should have. No account is among it."""
    # Not a join: SQLite would go from account to account and jump about in the registrations.
    active = exists().where(accounts.c.account == registrations.c.account, accounts.c.state == "active")
    query = select(registrations).where(active).execution_options(yield_per=_EXPORT_ROWS)
    with tx.connection.execute(query) as rows:  # closed also when the caller stops half-way
        for row in rows:
            yield _registration(tx, row)


def _find(tx: Transaction, public_key: PublicKey) -> Row[Any] | None:
    row: Row[Any] | None = tx.first(_BY_KEY, {"public_key": bytes(public_key)})
    return row


def _own(tx: Transaction, row: Row[Any], account: bytes, otherwise: type[Exception]) -> Registration:
    if row.account != account:
        raise otherwise
    return _registration(tx, row)


def _registration(tx: Transaction, row: Row[Any]) -> Registration:
    public_key = PublicKey(row.public_key)
    return Registration(
        public_key,
        None if row.ipv4 is None else ipaddress.IPv4Address(row.ipv4),
        None if row.ipv6 is None else ipaddress.IPv6Address(row.ipv6),
        None if row.preshared_key is None else tx.vault.unseal(row.preshared_key, public_key),
        row.expires_day,
        row.leaves_at,
        None if row.replaces is None else PublicKey(row.replaces),
    )


def _refuse_removed(tx: Transaction, public_key: PublicKey) -> None:
    """A key that left must not come back: its removal may still be on its way to a gateway, and whoever
    revoked it meant it.
    """
    if _is_remembered(tx, public_key):
        raise KeyTaken


def _missing(tx: Transaction, public_key: PublicKey) -> KeyUnknown:
    """What to say of a key that is not there."""
    return KeyRemoved() if _is_remembered(tx, public_key) else KeyUnknown()


def _is_remembered(tx: Transaction, public_key: PublicKey) -> bool:
    # In the order in which the sequencer moves a change, or it could slip through between the two looks.
    queries = (_IS_WAITING, _IS_CHANGED) if tx.has_outbox else (_IS_CHANGED,)
    return any(tx.first(query, {"public_key": bytes(public_key)}) is not None for query in queries)


def _add(tx: Transaction, account: bytes, public_key: PublicKey, replaces: PublicKey | None) -> Registration:
    preshared_key = generate_preshared_key() if tx.settings.preshared_keys else None
    expires_day = tx.today + tx.settings.key_days if tx.settings.key_days else None
    values = {
        "public_key": bytes(public_key),
        "account": account,
        "preshared_key": None if preshared_key is None else tx.vault.seal(preshared_key, public_key),
        "expires_day": expires_day,
        "replaces": None if replaces is None else bytes(replaces),
    }
    # The first draw is free nearly always, and the insert says so by itself. In a crowded range it is cheaper to look
    # at many addresses than to insert as often, and a full one is found out with a few queries.
    for attempt in range(_ATTEMPTS):
        ipv4 = _draw(tx, tx.environment.ipv4, registrations.c.ipv4, look=attempt > 0)
        ipv6 = _draw(tx, tx.environment.ipv6, registrations.c.ipv6, look=attempt > 0)
        drawn = {"ipv4": _stored(ipv4), "ipv6": _stored(ipv6)}
        if not tx.change(_INSERT[tx.connection.dialect.name], {**values, **drawn}):
            if _find(tx, public_key) is not None:
                raise KeyTaken  # another account registered it in this very moment
        elif tx.has_outbox and _rests(tx, ipv4, ipv6):
            # It was released in this very moment, after _draw had looked.
            tx.connection.execute(_DELETE, {"gone": [bytes(public_key)]})
        else:
            tx.record(ADDED, public_key)
            return Registration(public_key, ipv4, ipv6, preshared_key, expires_day, None, replaces)
    raise RangeFull


def _draw(tx: Transaction, pool: AddressPool[A], column: Column[Any], *, look: bool) -> A | None:
    """A random address that does not rest and, if one is to ``look``, is not in ``column`` either; None from an empty
    pool. Raises RangeFull.
    """
    if not pool.size:
        return None
    if not pool.rests:
        return pool.draw(tx.environment.randbelow)  # so large that drawing one twice is out of the question
    if not look:
        address = pool.draw(tx.environment.randbelow)
        if not _rests(tx, address):
            return address
    for many in _LOOKS:
        drawn = [pool.draw(tx.environment.randbelow) for _ in range(many)]
        taken = _registered(tx, column, drawn) | _resting(tx, drawn)
        for address in drawn:
            if address not in taken:
                return address
    raise RangeFull


def _registered(tx: Transaction, column: Column[Any], addresses: list[A]) -> set[A]:
    return _found(tx, _REGISTERED[column], [(_stored(address), address) for address in addresses])


def _resting(tx: Transaction, addresses: list[A]) -> set[A]:
    return _found(tx, _RESTING, [(tx.vault.address_hash(address.packed), address) for address in addresses])


def _found(tx: Transaction, among: dict[int, Executable], addresses: list[tuple[int | bytes | None, A]]) -> set[A]:
    """Those addresses, each with the value that stands for it, whose value is there."""
    values = {name: value for name, (value, _address) in zip(_LOOKED_AT, addresses, strict=False)}
    found = {value for (value,) in tx.rows(among[len(addresses)], values)}
    return {address for value, address in addresses if value in found}


def _stored(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> int | bytes | None:
    """As the database has it."""
    if address is None:
        return None
    return int(address) if isinstance(address, ipaddress.IPv4Address) else address.packed


def _rests(tx: Transaction, *addresses: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    """Whether one of the addresses was released lately."""
    return any(
        tx.first(_RESTS, {"address": tx.vault.address_hash(address.packed)}) is not None
        for address in addresses
        if address is not None
    )


def _remove_with_rotation(tx: Transaction, row: Row[Any]) -> None:
    partner = registrations.c.replaces == row.public_key
    if row.replaces is not None:
        partner = or_(partner, registrations.c.public_key == row.replaces)
    _remove(tx, [*tx.connection.execute(select(registrations).where(partner)).all(), row])


def _remove(tx: Transaction, rows: Sequence[Row[Any]]) -> int:
    """Delete registrations: what stays is their tombstones, and the hashes of addresses that rest. Returns how many
    there were: for some another transaction may have been first.
    """
    if not rows:
        return 0
    gone = set(tx.connection.execute(_DELETE, {"gone": [row.public_key for row in rows]}).scalars())
    removed = [row for row in rows if row.public_key in gone]
    if removed:
        tx.connection.execute(_FORGET_PREDECESSORS, {"gone": list(gone)})
        _let_rest(tx, removed)
        tx.record(REMOVED, *(PublicKey(row.public_key) for row in removed))
    return len(removed)


def _let_rest(tx: Transaction, rows: list[Row[Any]]) -> None:
    environment = tx.environment
    released = [row.ipv4.to_bytes(4, "big") for row in rows if environment.ipv4.rests and row.ipv4 is not None]
    released += [row.ipv6 for row in rows if environment.ipv6.rests and row.ipv6 is not None]
    if released and tx.settings.address_rest_days:
        free_day = tx.today + tx.settings.address_rest_days
        tx.connection.execute(
            _LET_REST[tx.connection.dialect.name],
            [{"address": tx.vault.address_hash(packed), "free_day": free_day} for packed in released],
        )
