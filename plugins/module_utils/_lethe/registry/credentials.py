# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bearer credentials of three kinds, none able to do another's work. Only a keyed hash of each is stored."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select

from ..wireguard.errors import InvalidValue
from . import accounts
from .errors import NotAuthenticated
from .schema import credentials
from .store import Transaction
from .vault import new_secret

CLIENT, OPERATOR, GATEWAY = "client", "operator", "gateway"
KINDS = (CLIENT, OPERATOR, GATEWAY)
_LABEL_LENGTH = 64  # characters
_BY_HASH = select(credentials).where(credentials.c.credential == bindparam("credential"))
_OF_GATEWAYS = select(credentials.c.credential).where(
    credentials.c.label.is_not(None), credentials.c.kind == bindparam("kind")
)


class Credential(NamedTuple):
    """Who asks."""

    kind: str  # client, operator, gateway
    account: bytes | None  # keyed hash, of a client
    label: str | None  # of an operator or gateway


def issue_for_account(tx: Transaction, account: str) -> str:
    """A new client credential; the token is shown this once. Raises AccountUnknown, and SuspendedAccount or
    ClosedAccount: it would be of no use.
    """
    key = tx.vault.account_hash(account)
    accounts.refuse_unless_active(accounts.look_at(tx, key))
    return _issue(tx, CLIENT, key, None)


def issue(tx: Transaction, kind: str, label: str) -> str:
    """A new operator or gateway credential; the token is shown this once. One with the same kind and label
    is replaced. Raises InvalidValue.
    """
    if kind not in (OPERATOR, GATEWAY):
        raise InvalidValue("kind", "is not a kind of credential", "use operator or gateway")
    withdraw(tx, kind, label_from(label))
    return _issue(tx, kind, None, label)


def label_from(value: object) -> str:
    """What a person calls a credential. Raises InvalidValue."""
    if not isinstance(value, str) or not 0 < len(value) <= _LABEL_LENGTH or not value.isprintable():
        raise InvalidValue("label", "is not a name", f"give 1 to {_LABEL_LENGTH} printable characters")
    return value


def withdraw(tx: Transaction, kind: str, label: str) -> bool:
    """Make an operator or gateway credential invalid; returns whether there was one."""
    match = (credentials.c.kind == kind) & (credentials.c.label == label)
    return bool(tx.connection.execute(delete(credentials).where(match)).rowcount)


def labels(tx: Transaction) -> list[tuple[str, str]]:
    """(kind, label) of the operators' and gateways' credentials."""
    query = select(credentials.c.kind, credentials.c.label).where(credentials.c.label.is_not(None))
    return sorted((row.kind, row.label) for row in tx.connection.execute(query))


def of_gateways(tx: Transaction) -> set[bytes]:
    """The gateways' credentials, as the keyed hashes that are stored."""
    return {row.credential for row in tx.rows(_OF_GATEWAYS, {"kind": GATEWAY})}


def authenticate(tx: Transaction, token: str) -> Credential:
    """Whose token it is. Raises NotAuthenticated."""
    kind, secret = parse_token(token)
    presented = tx.vault.token_hash(secret)
    row = tx.first(_BY_HASH, {"credential": presented})
    # The look-up is by a keyed hash, so its timing tells nothing of the secret; the comparison is for certainty.
    if row is None or not hmac.compare_digest(row.credential, presented) or row.kind != kind:
        raise NotAuthenticated
    return Credential(row.kind, row.account, row.label)


def parse_token(token: str) -> tuple[str, bytes]:
    """Kind and secret of a token's text. Raises NotAuthenticated."""
    prefix, _, rest = token.partition("_")
    kind, _, encoded = rest.partition("_")
    try:
        secret = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        raise NotAuthenticated from None
    if prefix != "lethe" or kind not in KINDS or len(secret) != 32:
        raise NotAuthenticated
    return kind, secret


def _issue(tx: Transaction, kind: str, account: bytes | None, label: str | None) -> str:
    secret = new_secret()
    tx.connection.execute(
        insert(credentials),
        {"credential": tx.vault.token_hash(secret), "kind": kind, "account": account, "label": label},
    )
    return f"lethe_{kind}_{base64.urlsafe_b64encode(secret).decode('ascii').rstrip('=')}"


def count_by_kind(tx: Transaction) -> dict[str, int]:
    rows = tx.connection.execute(select(credentials.c.kind, func.count()).group_by(credentials.c.kind))
    return dict.fromkeys(KINDS, 0) | {row[0]: row[1] for row in rows}
