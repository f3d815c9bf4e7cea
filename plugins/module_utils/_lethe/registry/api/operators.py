# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators do: accounts, credentials, revocation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from .. import accounts, credentials, history, registrations, reports
from ..accounts import Account
from ..credentials import Credential
from ..errors import AccountUnknown, ClosedAccount, NotAllowed, NotAuthenticated, SuspendedAccount
from ..store import Transaction
from .bodies import (
    AccountAnswer,
    AccountBody,
    Changed,
    ChangedAccountAnswer,
    CredentialsAnswer,
    GatewaysAnswer,
    KeyBody,
    NewAccountBody,
    StaffBody,
    StaffTokenAnswer,
    StatusAnswer,
    TokenAnswer,
)
from .caller import Operator, OperatorCaller
from .problems import BodyTooLarge, DatabaseAway, Invalid, RateLimited, TooBusy, documented
from .service import service_of

_ANY = (NotAuthenticated, NotAllowed, RateLimited, DatabaseAway, TooBusy)
_WITH_BODY = (*_ANY, Invalid, BodyTooLarge)

router = APIRouter(prefix="/v1", tags=["operator"])


def _describe(tx: Transaction, name: str, outcome: tuple[Account, bool]) -> dict[str, Any]:
    account, changed = outcome
    keys = registrations.count(tx, tx.vault.account_hash(name))
    return {**AccountAnswer.of(account, keys), "changed": changed}


@router.post("/accounts", responses=documented(*_WITH_BODY, SuspendedAccount, ClosedAccount))
async def create(body: NewAccountBody, operator: Operator) -> ChangedAccountAnswer:
    """Make there be an active account, with this limit if one is given."""

    def create_with_limit(tx: Transaction, account: str) -> tuple[Account, bool]:
        return accounts.create(tx, account, body.device_limit)

    return await _change(operator, body, create_with_limit)


@router.post("/accounts/show", responses=documented(*_WITH_BODY, AccountUnknown))
async def show(body: AccountBody, operator: Operator) -> AccountAnswer:
    """The account's state and number of keys."""

    def look(tx: Transaction, _: Credential) -> dict[str, Any]:
        return _describe(tx, body.account, (accounts.show(tx, body.account), False))

    return AccountAnswer(**await operator.read(look))


@router.post("/accounts/suspend", responses=documented(*_WITH_BODY, AccountUnknown, ClosedAccount))
async def suspend(body: AccountBody, operator: Operator) -> ChangedAccountAnswer:
    """Take the account's keys off all gateways. They keep their addresses, for when it is resumed."""
    return await _change(operator, body, accounts.suspend)


@router.post("/accounts/resume", responses=documented(*_WITH_BODY, AccountUnknown, ClosedAccount))
async def resume(body: AccountBody, operator: Operator) -> ChangedAccountAnswer:
    """Put the account's keys back on all gateways."""
    return await _change(operator, body, accounts.resume)


@router.post("/accounts/close", responses=documented(*_WITH_BODY, AccountUnknown))
async def close(body: AccountBody, operator: Operator) -> ChangedAccountAnswer:
    """Remove the account's keys for good. That it was closed is known for as long as changes are; then the
    account is forgotten.
    """
    return await _change(operator, body, accounts.close)


async def _change(
    operator: OperatorCaller, body: AccountBody, change: Callable[[Transaction, str], tuple[Account, bool]]
) -> ChangedAccountAnswer:
    def do(tx: Transaction, _: Credential) -> dict[str, Any]:
        return _describe(tx, body.account, change(tx, body.account))

    return ChangedAccountAnswer(**await operator.write(do))


@router.post(
    "/accounts/credentials",
    status_code=201,
    responses=documented(*_WITH_BODY, AccountUnknown, SuspendedAccount, ClosedAccount),
)
async def issue_for_account(body: AccountBody, operator: Operator) -> TokenAnswer:
    """A new client credential for the account. The token is shown this once."""
    return TokenAnswer(token=await operator.write(lambda tx, _: credentials.issue_for_account(tx, body.account)))


@router.post("/keys/revoke", responses=documented(*_WITH_BODY))
async def revoke(body: KeyBody, operator: Operator) -> Changed:
    """Remove a key everywhere, whosever it is, and the other one of its rotation. A key that is not
    registered is no error.
    """
    return Changed(changed=await operator.write(lambda tx, _: registrations.revoke(tx, body.public_key)))


@router.get("/status", responses=documented(*_ANY))
async def status(request: Request, operator: Operator) -> StatusAnswer:
    """The registry in numbers. In a very large one the counts may be some seconds old."""
    service = service_of(request)
    position, figures = await operator.read(lambda tx, _: service.standing(tx))
    return StatusAnswer.model_validate({**position._asdict(), **figures.as_dict()})


@router.get("/gateways", responses=documented(*_ANY))
async def gateways(operator: Operator) -> GatewaysAnswer:
    """How far each gateway has followed, as it reported last. One that has a credential and has not reported is
    among them.
    """

    def look(tx: Transaction, _: Credential) -> GatewaysAnswer:
        return GatewaysAnswer.of(history.position(tx), reports.gateways(tx), tx.now)

    return await operator.read(look)


@router.get("/credentials", responses=documented(*_ANY))
async def list_credentials(operator: Operator) -> CredentialsAnswer:
    """The operators' and gateways' credentials, by name. Nobody can see a token again."""
    found = await operator.read(lambda tx, _: credentials.labels(tx))
    return CredentialsAnswer.model_validate({"credentials": [{"kind": kind, "label": label} for kind, label in found]})


@router.post("/credentials", status_code=201, responses=documented(*_WITH_BODY))
async def issue(body: StaffBody, operator: Operator) -> StaffTokenAnswer:
    """A new credential for an operator or a gateway; one of the same kind and name is replaced. The token is
    shown this once.
    """
    token = await operator.write(lambda tx, _: credentials.issue(tx, body.kind, body.label))
    return StaffTokenAnswer(kind=body.kind, label=body.label, token=token)


@router.post("/credentials/withdraw", responses=documented(*_WITH_BODY))
async def withdraw(body: StaffBody, operator: Operator) -> Changed:
    """Make a credential invalid at once. One that is not there is no error."""
    return Changed(changed=await operator.write(lambda tx, _: credentials.withdraw(tx, body.kind, body.label)))
