# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients ask: their account's keys, and nothing of anybody else."""

from __future__ import annotations

from typing import Any

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
    RangeFull,
    RotationConflict,
)
from ..registrations import Registration
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
)
from .caller import Client, account_of
from .problems import BodyTooLarge, DatabaseAway, Invalid, RateLimited, TooBusy, documented

_ANY = (NotAuthenticated, NotAllowed, RateLimited, DatabaseAway, TooBusy)
_ACTIVE = (*_ANY, AccountSuspended, AccountClosed)
_WITH_BODY = (*_ACTIVE, Invalid, BodyTooLarge)

router = APIRouter(prefix="/v1", tags=["client"])


def _answer(outcome: tuple[Registration, bool], now: int) -> dict[str, Any]:
    registration, changed = outcome
    return {**RegistrationAnswer.of(registration, now), "changed": changed}


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
    """The account's keys, with what belongs to each."""

    def look(tx: Transaction, key: bytes, _: Account) -> list[dict[str, Any]]:
        return [RegistrationAnswer.of(each, tx.now) for each in registrations.of_account(tx, key)]

    return RegistrationsAnswer.model_validate({"registrations": await client.look(look)})


@router.post(
    "/registrations",
    status_code=201,
    response_model=ChangedRegistrationAnswer,
    response_model_exclude_none=True,
    responses={
        200: {"model": ChangedRegistrationAnswer, "description": "The account has this key already."},
        **documented(*_WITH_BODY, DeviceLimitReached, KeyTaken, RangeFull),
    },
)
async def register(body: KeyBody, client: Client, response: Response) -> dict[str, Any]:
    """Register a key: it gets random tunnel addresses. The same key again gets the same again, so a request
    whose answer was lost is simply sent again.
    """

    def do(tx: Transaction, key: bytes, account: Account) -> dict[str, Any]:
        return _answer(registrations.register(tx, key, body.public_key, account.device_limit), tx.now)

    answer = await client.change(do)
    response.status_code = 201 if answer["changed"] else 200
    return answer


@router.post(
    "/registrations/rotate",
    status_code=201,
    response_model=ChangedRegistrationAnswer,
    response_model_exclude_none=True,
    responses={
        200: {"model": ChangedRegistrationAnswer, "description": "This rotation was begun before."},
        **documented(*_WITH_BODY, KeyUnknown, KeyRemoved, KeyTaken, RotationConflict, RangeFull),
    },
)
async def rotate(body: RotationBody, client: Client, response: Response) -> dict[str, Any]:
    """Register a successor beside a key. Both work until the client confirms the successor, or the grace
    period ends. Store the new key pair before you send this: it can be sent again as often as needed.
    """

    def do(tx: Transaction, key: bytes, _: Account) -> dict[str, Any]:
        return _answer(registrations.begin_rotation(tx, key, body.public_key, body.successor), tx.now)

    answer = await client.change(do)
    response.status_code = 201 if answer["changed"] else 200
    return answer


@router.post(
    "/registrations/confirm",
    response_model=ChangedRegistrationAnswer,
    response_model_exclude_none=True,
    responses=documented(*_WITH_BODY, KeyUnknown, KeyRemoved),
)
async def confirm(body: KeyBody, client: Client) -> dict[str, Any]:
    """The client uses this key now: the one that it replaces is removed everywhere."""

    def do(tx: Transaction, key: bytes, _: Account) -> dict[str, Any]:
        return _answer(registrations.confirm_rotation(tx, key, body.public_key), tx.now)

    return await client.change(do)


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
