# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests and answers look like. Whatever identifies somebody is in a body, never in a URL: URLs end
in the logs of proxies.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictInt,
    StrictStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from ...gateways import Gateway
from ...sealing import ONE_TIME_KEY_BYTES, SealingKey
from ...wireguard.errors import InvalidValue
from ...wireguard.keys import PublicKey
from .. import accounts, credentials, reach, registrations, reports
from ..history import Position

_DAY_ZERO = datetime.date(1970, 1, 1)
_MOST_DEVICES = 1000
_MOST_INTERFACES = 64  # of one gateway
_LARGEST = 2**63 - 1  # what both databases can hold
_KEY_SCHEMA = {
    "type": "string",
    "minLength": 44,
    "maxLength": 44,
    "pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$",
    "description": "A WireGuard public key: 32 bytes in base64.",
}
_ONE_TIME_KEY_SCHEMA = {
    "type": "string",
    "minLength": 1624,
    "maxLength": 1624,
    "pattern": "^[A-Za-z0-9+/]{1621}[AQgw]==$",
    "description": f"{ONE_TIME_KEY_BYTES} bytes in base64: a public key of ML-KEM-768, then one of X25519, made for "
    "this request. The preshared key is sealed to it (HPKE, RFC 9180: base mode, KEM 0x647A, KDF 0x0001, AEAD 0x0003, "
    "without associated data; `info` is `lethe preshared key 1`, a zero byte, and the 32 bytes of the WireGuard key).",
}


def _validated(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``parse`` with its InvalidValue as pydantic wants an error to be, so that all of a body's are found."""

    def validate(value: Any) -> Any:
        try:
            return parse(value)
        except InvalidValue as error:
            context = {"problem": error.problem, "remedy": error.remedy}
            raise PydanticCustomError("invalid_value", "{problem}; {remedy}", context) from None

    return validate


Key = Annotated[
    PublicKey,
    PlainValidator(_validated(PublicKey.from_text)),
    PlainSerializer(lambda key: key.text, return_type=str),
    WithJsonSchema(_KEY_SCHEMA),
]
OneTimeKey = Annotated[
    SealingKey, PlainValidator(_validated(SealingKey.from_text)), WithJsonSchema(_ONE_TIME_KEY_SCHEMA)
]
AccountId = Annotated[
    StrictStr,
    AfterValidator(_validated(accounts.account_id_from)),
    Field(
        min_length=1,
        max_length=256,
        description="What the operator calls the account: printable text. The registry keeps only a keyed hash.",
    ),
]
Label = Annotated[
    StrictStr,
    AfterValidator(_validated(credentials.label_from)),
    Field(min_length=1, max_length=64, description="What people call the credential: printable text."),
]
StaffKind = Literal["operator", "gateway"]


class Body(BaseModel):
    """A request's body: what it does not know is refused, so that a misspelt option is not ignored."""

    model_config = ConfigDict(extra="forbid")


class AccountBody(Body):
    account: AccountId


class NewAccountBody(AccountBody):
    device_limit: Annotated[StrictInt, Field(ge=1, le=_MOST_DEVICES)] | None = Field(
        default=None, description="Keys that the account may have. Left out: as it is, or the registry's default."
    )


class KeyBody(Body):
    public_key: Key


class SealableBody(KeyBody):
    one_time_key: OneTimeKey | None = None


class RotationBody(SealableBody):
    successor: Key


class StaffBody(Body):
    kind: StaffKind
    label: Label


class Changed(BaseModel):
    changed: bool = Field(description="Whether this request changed anything.")


class AccountAnswer(BaseModel):
    state: Literal["active", "suspended", "closed"]
    device_limit: int = Field(description="Keys that the account may have.")
    keys: int = Field(description="Keys that it has; one that is being rotated out does not count.")

    @classmethod
    def of(cls, account: accounts.Account, keys: int) -> dict[str, Any]:
        return {"state": account.state, "device_limit": account.device_limit, "keys": keys}


class ChangedAccountAnswer(AccountAnswer, Changed):
    pass


class RegistrationAnswer(BaseModel):
    public_key: Key
    allowed_ips: list[str] = Field(description="The tunnel addresses, like `10.1.2.3/32`.")
    preshared_key: str | None = Field(default=None, description="Base64; only where the fleet has preshared keys.")
    sealed_preshared_key: str | None = Field(
        default=None, description="The same, sealed to the request's `one_time_key`, instead of `preshared_key`."
    )
    expires_on: datetime.date | None = Field(
        default=None, description="The day (UTC) in the course of which the key expires."
    )
    leaves_in: int | None = Field(default=None, description="Seconds until this key, being rotated out, is removed.")
    replaces: Key | None = Field(default=None, description="The key that this one rotates out, until that is gone.")

    @classmethod
    def of(
        cls, registration: registrations.Registration, now: int, one_time_key: SealingKey | None = None
    ) -> dict[str, Any]:
        """``now``: seconds since 1970. ``one_time_key``: what to seal the preshared key to."""
        public_key, preshared_key = registration.public_key, registration.preshared_key
        expires_day, leaves_at = registration.expires_day, registration.leaves_at
        replaces = registration.replaces
        if preshared_key is None:
            told = {}
        elif one_time_key is None:
            told = {"preshared_key": preshared_key.text}
        else:
            told = {"sealed_preshared_key": one_time_key.seal(preshared_key, public_key)}
        return {
            "public_key": public_key.text,
            "allowed_ips": registration.addresses,
            **told,
            "expires_on": None if expires_day is None else _DAY_ZERO + datetime.timedelta(days=expires_day),
            "leaves_in": None if leaves_at is None else max(0, leaves_at - now),
            "replaces": None if replaces is None else replaces.text,
        }


class ChangedRegistrationAnswer(RegistrationAnswer, Changed):
    pass


class RegistrationsAnswer(BaseModel):
    registrations: list[RegistrationAnswer]


class EndpointAnswer(BaseModel):
    """A gateway, as a client needs to know it."""

    name: str
    public_key: Key
    endpoint: str = Field(description="Host and port, like `gateway.example:51820` or `[2001:db8::1]:51820`.")
    addresses: list[str] = Field(description="Its own addresses in the tunnel, like `10.64.0.1/10`.")
    next_public_key: Key | None = Field(
        default=None,
        description="The key that it is going to have, while a change of it is under way. A client whose gateway "
        "ceases to answer tries this one.",
    )


class EndpointsAnswer(BaseModel):
    gateways: list[EndpointAnswer]

    @classmethod
    def of(cls, gateways: Iterable[Gateway]) -> EndpointsAnswer:
        return cls.model_validate({"gateways": [gateway.as_json() for gateway in gateways]})


class ReachAnswer(BaseModel):
    name: str
    public_key: Key = Field(description="The gateway's.")
    state: Literal["applied", "pending", "away"] = Field(
        description="`applied`: it has the key; `pending`: it is connected to the registry, and lacks it; `away`: "
        "it has not reported lately, or never does."
    )


class AppliedAnswer(BaseModel):
    applied: bool = Field(description="Whether a gateway has the key, and none that is connected lacks it.")
    gateways: list[ReachAnswer]

    @classmethod
    def of(cls, reached: list[reach.Reach]) -> AppliedAnswer:
        found = [{"name": each.name, "public_key": each.public_key.text, "state": state} for each, state in reached]
        return cls.model_validate({"applied": reach.is_everywhere(reached), "gateways": found})


class TokenAnswer(BaseModel):
    token: str = Field(description="The credential. It is shown this once; the registry keeps only a keyed hash.")


class StaffCredential(BaseModel):
    kind: StaffKind
    label: str


class StaffTokenAnswer(StaffCredential, TokenAnswer):
    pass


class CredentialsAnswer(BaseModel):
    credentials: list[StaffCredential]


class PoolAnswer(BaseModel):
    """The addresses of one family. For IPv6 the numbers may exceed what a double holds exactly."""

    size: int = Field(description="Addresses that can be drawn.")
    used: int = Field(description="Addresses that are registered or rest.")
    free: int
    used_ratio: float = Field(description="From 0 to 1. Widen the ranges before it reaches 0.8.")


class StatusAnswer(BaseModel):
    epoch: str = Field(description="The random id of this registry's history; another one after a restore.")
    revision: int = Field(description="The number of the latest change.")
    horizon: int = Field(description="The latest change that is not retained any more.")
    registrations: int
    accounts: dict[str, int] = Field(description="How many there are in each state.")
    credentials: dict[str, int] = Field(description="How many there are of each kind.")
    resting: int = Field(description="Released addresses that cannot be drawn yet.")
    waiting_changes: int = Field(description="Changes that wait for their revision (PostgreSQL).")
    pools: dict[str, PoolAnswer] = Field(description="By family: `ipv4`, `ipv6`.")


class InterfaceAnswer(BaseModel):
    interface: str
    epoch: str = Field(description="The epoch of what the kernel has.")
    revision: int = Field(description="The revision of what the kernel has.")
    behind: int | None = Field(description="Changes that it lacks; null in another epoch: it takes a snapshot.")
    peers: int
    oldest_endpoint: float | None = Field(
        description="Seconds since the last handshake of the peer whose endpoint is the oldest; null without any."
    )
    drift: int = Field(description="Peers that had to be put right since the agent started.")


class GatewayAnswer(BaseModel):
    label: str = Field(description="What people call its credential.")
    age: int | None = Field(description="Seconds since it reported; null if it never has.")
    version: str | None = Field(description="Of Lethe, on the gateway.")
    interfaces: list[InterfaceAnswer]


class GatewaysAnswer(BaseModel):
    epoch: str = Field(description="The registry's epoch.")
    revision: int = Field(description="The number of the latest change.")
    gateways: list[GatewayAnswer]

    @classmethod
    def of(cls, position: Position, gateways: Iterable[reports.Gateway], now: int) -> GatewaysAnswer:
        """``now``: seconds since 1970."""

        def interface(one: reports.InterfaceReport) -> InterfaceAnswer:
            behind = max(0, position.revision - one.revision) if one.epoch == position.epoch else None
            return InterfaceAnswer(**one._asdict(), behind=behind)

        return cls(
            epoch=position.epoch,
            revision=position.revision,
            gateways=[
                GatewayAnswer(
                    label=label,
                    age=None if report is None else max(0, now - report.at),
                    version=None if report is None else report.version,
                    interfaces=[] if report is None else [interface(one) for one in report.interfaces],
                )
                for label, report in gateways
            ],
        )


class InterfaceReportBody(BaseModel):
    """What is not known in a report is ignored: a gateway may have a later version than the registry."""

    interface: Annotated[StrictStr, Field(pattern=r"^[a-zA-Z0-9_=+.-]{1,15}$")]
    epoch: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{32}$")]
    revision: Annotated[StrictInt, Field(ge=0, le=_LARGEST)]
    peers: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]
    oldest_endpoint: Annotated[float, Field(ge=0, le=_LARGEST)] | None
    drift: Annotated[StrictInt, Field(ge=0, le=_LARGEST)]


class ReportBody(BaseModel):
    interfaces: Annotated[list[InterfaceReportBody], Field(max_length=_MOST_INTERFACES)]
    version: Annotated[StrictStr, Field(pattern=r"^[0-9a-zA-Z.+-]{1,32}$")]

    def report(self, now: int) -> reports.Report:
        """``now``: seconds since 1970."""
        by_name = {each.interface: reports.InterfaceReport(**each.model_dump()) for each in self.interfaces}
        return reports.Report(tuple(by_name.values()), self.version, now)


class Health(BaseModel):
    status: Literal["ok"]
