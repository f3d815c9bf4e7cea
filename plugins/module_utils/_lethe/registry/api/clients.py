# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients ask: their account's keys, and nothing of anybody else."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import APIRouter, Response

from .. import accounts, reach, registrations
from ..accounts import Account
from ..credentials import Credential
from ..errors import (
    AccountClosed,
    AccountSuspended,
    DeviceLimitReached,
    KeyRemoved,
    KeyTaken,
    KeyUnknown,
    NotAllowed,
    NotAuthenticated,
    OneTimeKeyNeeded,
    RangeFull,
    RotationConflict,
)
from ..registrations import Registration
from ..settings import SEALED
from ..store import Transaction
from .bodies import (
    AccountAnswer,
    AppliedAnswer,
    Changed,
    ChangedRegistrationAnswer,
    EndpointsAnswer,
    KeyBody,
    RegistrationAnswer,
    RegistrationsAnswer,
    RotationBody,
    SealableBody,
)
from .caller import Client, account_of
from .problems import BodyTooLarge, DatabaseAway, Invalid, RateLimited, TooBusy, documented

_ANY = (NotAuthenticated, NotAllowed, RateLimited, DatabaseAway, TooBusy)
_ACTIVE = (*_ANY, AccountSuspended, AccountClosed)
_WITH_BODY = (*_ACTIVE, Invalid, BodyTooLarge)

router = APIRouter(prefix="/v1", tags=["client"])


class _Outcome(NamedTuple):
    """Of a transaction. The answer is made of it afterwards: sealing takes longer than many a transaction."""

    registration: Registration
    changed: bool
    now: int  # seconds since 1970

    def answer(self, body: SealableBody) -> dict[str, Any]:
        return {**RegistrationAnswer.of(self.registration, self.now, body.one_time_key), "changed": self.changed}


def _seals(tx: Transaction) -> bool:
    """Whether a preshared key leaves the registry for a client in a sealed form only."""
    return tx.settings.preshared_keys == SEALED


def _told_openly(tx: Transaction, registration: Registration) -> Registration:
    """What of it may be told as it is."""
    return registration._replace(preshared_key=None) if _seals(tx) else registration


def _expect_one_time_key(tx: Transaction, body: SealableBody) -> None:
    """Raises OneTimeKeyNeeded: a client that cannot learn its preshared key could not connect."""
    if _seals(tx) and body.one_time_key is None:
        raise OneTimeKeyNeeded


@router.get("/account", responses=documented(*_ANY))
async def account(client: Client) -> AccountAnswer:
    """The account's state, also of one that is suspended or closed."""

    def look(tx: Transaction, credential: Credential) -> dict[str, Any]:
        key = account_of(credential)
        return AccountAnswer.of(accounts.look_at(tx, key), registrations.count(tx, key))

    return AccountAnswer(**await client.read(look))


@router.get("/account/gateways", response_model_exclude_none=True, responses=documented(*_ACTIVE))
async def gateways(client: Client) -> EndpointsAnswer:
    """The gateways that the account's keys can connect to."""
    return await client.look(lambda tx, _key, _account: EndpointsAnswer.of(tx.gateways))


@router.get("/registrations", response_model_exclude_none=True, responses=documented(*_ACTIVE))
async def registrations_list(client: Client) -> RegistrationsAnswer:
    """The account's keys, with what belongs to each; without preshared keys where those are told sealed only."""

    def look(tx: Transaction, key: bytes, _: Account) -> list[dict[str, Any]]:
        found = registrations.of_account(tx, key)
        return [RegistrationAnswer.of(_told_openly(tx, each), tx.now) for each in found]

    return RegistrationsAnswer.model_validate({"registrations": await client.look(look)})


@router.post(
    "/registrations",
    status_code=201,
    response_model=ChangedRegistrationAnswer,
    response_model_exclude_none=True,
    responses={
        200: {"model": ChangedRegistrationAnswer, "description": "The account has this key already."},
        **documented(*_WITH_BODY, DeviceLimitReached, KeyTaken, OneTimeKeyNeeded, RangeFull),
    },
)
async def register(body: SealableBody, client: Client, response: Response) -> dict[str, Any]:
    """Register a key: it gets random tunnel addresses. The same key again gets the same again, so a request
    whose answer was lost is simply sent again, with another one-time key.
    """

    def do(tx: Transaction, key: bytes, account: Account) -> _Outcome:
        _expect_one_time_key(tx, body)
        return _Outcome(*registrations.register(tx, key, body.public_key, account.device_limit), tx.now)

    outcome = await client.change(do)
    response.status_code = 201 if outcome.changed else 200
    return outcome.answer(body)


@router.post(
    "/registrations/rotate",
    status_code=201,
    response_model=ChangedRegistrationAnswer,
    response_model_exclude_none=True,
    responses={
        200: {"model": ChangedRegistrationAnswer, "description": "This rotation was begun before."},
        **documented(*_WITH_BODY, KeyUnknown, KeyRemoved, KeyTaken, RotationConflict, OneTimeKeyNeeded, RangeFull),
    },
)
async def rotate(body: RotationBody, client: Client, response: Response) -> dict[str, Any]:
    """Register a successor beside a key. Both work until the client confirms the successor, or the grace
    period ends. Store the new key pair before you send this: it can be sent again as often as needed.
    """

    def do(tx: Transaction, key: bytes, _: Account) -> _Outcome:
        _expect_one_time_key(tx, body)
        return _Outcome(*registrations.begin_rotation(tx, key, body.public_key, body.successor), tx.now)

    outcome = await client.change(do)
    response.status_code = 201 if outcome.changed else 200
    return outcome.answer(body)


@router.post(
    "/registrations/confirm",
    response_model=ChangedRegistrationAnswer,
    response_model_exclude_none=True,
    responses=documented(*_WITH_BODY, KeyUnknown, KeyRemoved),
)
async def confirm(body: SealableBody, client: Client) -> dict[str, Any]:
    """The client uses this key now: the one that it replaces is removed everywhere."""

    def do(tx: Transaction, key: bytes, _: Account) -> _Outcome:
        registration, changed = registrations.confirm_rotation(tx, key, body.public_key)
        return _Outcome(registration if body.one_time_key else _told_openly(tx, registration), changed, tx.now)

    return (await client.change(do)).answer(body)


@router.post("/registrations/applied", responses=documented(*_WITH_BODY, KeyUnknown, KeyRemoved))
async def applied(body: KeyBody, client: Client) -> AppliedAnswer:
    """Which gateways have a key of the account, by what they reported last: they do so twice a minute. A client
    that rotates goes over to its new key when all that are connected have it.
    """

    def look(tx: Transaction, key: bytes, _: Account) -> AppliedAnswer:
        registrations.own(tx, key, body.public_key)
        return AppliedAnswer.of(reach.of_key(tx, body.public_key))

    return await client.look(look)


@router.post("/registrations/delete", responses=documented(*_WITH_BODY, KeyUnknown))
async def delete(body: KeyBody, client: Client) -> Changed:
    """Remove a key everywhere, and the other one of its rotation. A key that is not there is no error."""

    def do(tx: Transaction, key: bytes, _: Account) -> bool:
        return registrations.delete_own(tx, key, body.public_key)

    return Changed(changed=await client.change(do))
