# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks: a bearer credential of one of three kinds, checked in the very transaction that does the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param

from .. import accounts, credentials
from ..accounts import Account
from ..credentials import Credential
from ..errors import NotAllowed, NotAuthenticated, Refused
from ..store import Transaction, UseCase
from .service import Backend, backend_of

T = TypeVar("T")


class Caller:
    """One request's credential, well-formed but not yet looked up. The work that is done as its owner is done
    in one transaction with that; all raise NotAuthenticated, NotAllowed, RateLimited and what the work raises.
    """

    kind = ""  # of credential

    def __init__(self, service: Backend, token: str, peer: str) -> None:
        """``peer``: the client's address, for the rates only. Raises NotAuthenticated, RateLimited."""
        self.service = service
        self._token = token
        self._peer = peer
        try:
            claimed, secret = credentials.parse_token(token)
        except NotAuthenticated:
            service.rates.refused(None, peer)
            raise
        self.credential = service.store.environment.vault.token_hash(secret)
        service.rates.admit(claimed, self.credential, peer)

    async def write(self, work: Callable[[Transaction, Credential], T]) -> T:
        return await self.judged(self.service.write(self.authenticated(work)))

    async def read(self, work: Callable[[Transaction, Credential], T]) -> T:
        return await self.judged(self.service.read(self.authenticated(work)))

    def authenticated(self, work: Callable[[Transaction, Credential], T]) -> UseCase[T]:
        """The work behind the check of the credential; await it with ``judged``."""
        return partial(_attempt, self._token, self.kind, work)

    async def judged(self, outcome: Awaitable[T]) -> T:
        """The outcome; whether the credential turned out to be valid counts for the rates."""
        rates = self.service.rates
        try:
            result = await outcome
        except NotAuthenticated:
            rates.refused(self.credential, self._peer)
            raise
        except Refused:
            rates.accepted(self.credential)
            raise
        rates.accepted(self.credential)
        return result


class ClientCaller(Caller):
    """A client: all it sees and does is its account's."""

    kind = credentials.CLIENT

    async def change(self, work: Callable[[Transaction, bytes, Account], T]) -> T:
        """Work on the account, which is active and locked. Raises AccountSuspended, AccountClosed too."""
        return await self.write(partial(_on_account, work, True))

    async def look(self, work: Callable[[Transaction, bytes, Account], T]) -> T:
        """Look at the account, which is active. Raises AccountSuspended, AccountClosed too."""
        return await self.read(partial(_on_account, work, False))


class OperatorCaller(Caller):
    kind = credentials.OPERATOR


class GatewayCaller(Caller):
    kind = credentials.GATEWAY


def account_of(credential: Credential) -> bytes:
    """The keyed hash of a client's account."""
    if credential.account is None:
        raise NotAllowed
    return credential.account


def _attempt(token: str, kind: str, work: Callable[[Transaction, Credential], T], tx: Transaction) -> T:
    credential = credentials.authenticate(tx, token)
    if credential.kind != kind:
        raise NotAllowed(f"this takes a credential of the kind {kind}, and this is one of the kind {credential.kind}")
    return work(tx, credential)


def _on_account(
    work: Callable[[Transaction, bytes, Account], T], lock: bool, tx: Transaction, credential: Credential
) -> T:
    key = account_of(credential)
    return work(tx, key, accounts.open_account(tx, key, lock=lock))


C = TypeVar("C", bound=Caller)


class _Bearer(SecurityBase, Generic[C]):
    """The dependency that makes a Caller from ``Authorization: Bearer ...``, and shows in OpenAPI."""

    def __init__(self, caller: type[C], description: str) -> None:
        self._caller = caller
        self.model = HTTPBearer(description=description)
        self.scheme_name = caller.kind

    async def __call__(self, request: Request) -> C:
        service = backend_of(request)
        peer = request.client.host if request.client else ""
        scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
        if scheme.lower() != "bearer":
            service.rates.refused(None, peer)
            raise NotAuthenticated
        return self._caller(service, token, peer)


Client = Annotated[
    ClientCaller, Depends(_Bearer(ClientCaller, "A client's credential: an operator issues it for an account."))
]
Operator = Annotated[
    OperatorCaller,
    Depends(_Bearer(OperatorCaller, "An operator's credential: `lethe registry credential create operator NAME`.")),
]
Gateway = Annotated[
    GatewayCaller,
    Depends(_Bearer(GatewayCaller, "A gateway's credential: it can read the peers, and say what it applied.")),
]
