# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the registry refuses something, each with the slug under which the HTTP API reports it.

No message holds a key, an address or an account.
"""

from __future__ import annotations

from typing import ClassVar

from ..wireguard.errors import LetheError


class Refused(LetheError):
    """A request that cannot be carried out; nothing was changed. ``status`` is HTTP's."""

    slug: ClassVar[str] = "refused"
    title: ClassVar[str] = "The request was refused"
    status: ClassVar[int] = 409
    detail: ClassVar[str] = "nothing was changed"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.detail)


class AccountUnknown(Refused):
    slug, title, status = "account-unknown", "There is no such account", 404
    detail = "there is no account with this id; create it first"


class AccountSuspended(Refused):
    slug, title, status = "account-suspended", "The account is suspended", 403
    detail = "the account is suspended; its keys work again once the operator resumes it"


class AccountClosed(Refused):
    slug, title, status = "account-closed", "The account is closed", 403
    detail = "the account is closed and its keys are gone"


class SuspendedAccount(AccountSuspended):
    """As an operator is told, whose credential is not what is wrong."""

    status, detail = 409, "the account is suspended; resume it first"


class ClosedAccount(AccountClosed):
    """As an operator is told."""

    status = 409
    detail = (
        "the account is closed; its id can be used again when the registry has forgotten it, "
        "at most two days after the time for which changes are retained"
    )


class DeviceLimitReached(Refused):
    slug, title, status = "device-limit", "The account has as many keys as it may", 409
    detail = "the account has as many keys as it may have; delete one first"


class KeyUnknown(Refused):
    slug, title, status = "key-unknown", "The key is not registered", 404
    detail = "this key is not registered, or expired, or was removed; register a new one"


class KeyRemoved(KeyUnknown):
    """As long as it is remembered: a client then knows that somebody did that, unless the key was old enough."""

    slug, title, status = "key-removed", "The key was removed", 410
    detail = "this key was removed: it was revoked, deleted or rotated out, or expired; register a new one"


class KeyTaken(Refused):
    slug, title, status = "key-taken", "The key cannot be registered", 409
    detail = "this key was in use before; make a new key pair"


class RotationConflict(Refused):
    slug, title, status = "rotation-conflict", "The rotation cannot go on", 409
    detail = "the new key is not the successor of a rotation; begin again"


class OneTimeKeyNeeded(Refused):
    slug, title, status = "one-time-key-needed", "Preshared keys are sealed here", 409
    detail = (
        "the preshared keys of this fleet are told sealed only; send a one_time_key. Lethe's client and modules do, "
        "where the Python library cryptography is at least of version 48"
    )


class RangeFull(Refused):
    slug, title, status = "range-full", "No tunnel address is free", 503
    detail = "no free tunnel address was found; the operator must widen the ranges"


class NotAuthenticated(Refused):
    slug, title, status = "not-authenticated", "The credential is not valid", 401
    detail = "the credential is missing, malformed or revoked; send it as: Authorization: Bearer ..."


class NotAllowed(Refused):
    slug, title, status = "not-allowed", "The credential may not do this", 403
    detail = "this kind of credential cannot do this"


class DatabaseUnusable(LetheError):
    """The database cannot be opened, or has another schema than this version's."""
