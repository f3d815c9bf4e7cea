# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator decides about a registry: one JSON file, every key checked by name."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ..wireguard.errors import InvalidValue

DAY = 86_400  # seconds
SEALED = "sealed"

_IN_WORDS = {"tuple[str, ...]": "a list of text", "bool | str": f"true, false or {SEALED}"}

S = TypeVar("S")
L = TypeVar("L", bound="ServerSettings")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the HTTP server listens, and whom it believes; the object ``server`` in the file."""

    name: ClassVar[str] = "server"  # of the object

    host: str = "127.0.0.1"  # an address of this host; "::" and "0.0.0.0": all
    port: int = 8443  # 0: any free one
    tls_certificate: str = ""  # PEM file with the chain; empty: plain HTTP, for a proxy in front
    tls_key: str = ""  # PEM file
    trusted_proxies: tuple[str, ...] = ()  # addresses and networks whose X-Forwarded-For is believed
    metrics_host: str = "127.0.0.1"
    metrics_port: int = -1  # -1: /metrics is served with the API; else there alone
    # Requests in a time, for each credential. As the library limits writes them.
    client_rate: str = "60/minute"
    operator_rate: str = "12000/minute"
    gateway_rate: str = "30/minute"
    # Requests without a valid credential: of one peer, and of all together.
    stranger_rate: str = "60/minute"
    strangers_rate: str = "200/second"

    def __post_init__(self) -> None:
        """Raises InvalidValue."""
        for name, least in (("port", 0), ("metrics_port", -1)):
            if not least <= getattr(self, name) <= 65535:
                raise InvalidValue(name, "is not a port", f"give a whole number from {least} to 65535")
        for i, proxy in enumerate(self.trusted_proxies):
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise InvalidValue(
                    f"trusted_proxies[{i}]",
                    "is not an address or a network",
                    'write it like "192.0.2.1" or "10.0.0.0/24"',
                ) from None
        if bool(self.tls_certificate) != bool(self.tls_key):
            missing, given = ("tls_key", "tls_certificate") if self.tls_certificate else ("tls_certificate", "tls_key")
            raise InvalidValue(missing, f"is missing, and {given} is there", "give both, or neither")

    @classmethod
    def from_mapping(cls: type[L], values: object) -> L:
        """Raises InvalidValue, which names the object and the field."""
        if not isinstance(values, Mapping):
            raise InvalidValue(cls.name, "is not an object", "write one object with the server's settings")
        try:
            return _checked(cls, values)
        except InvalidValue as error:
            raise error.inside(cls.name) from None


@dataclass(frozen=True, slots=True)
class FeedSettings(ServerSettings):
    """The same of the feed, a server of its own; the object ``feed`` in the file."""

    name: ClassVar[str] = "feed"

    port: int = 8444
    gateway_rate: str = "120/minute"
    database: str = ""  # the same database as another user (PostgreSQL), who need not see accounts; empty: as the API
    signing_key: str = "/var/lib/lethe/feed.key"  # made by: lethe registry feed-key create
    heartbeat: int = 10  # seconds of silence after which gateways are told that nothing has changed
    streams: int = 2000  # connections that follow changes at once
    backlog: int = 4 << 20  # bytes that a stream may be behind before it is cut off

    def __post_init__(self) -> None:
        """Raises InvalidValue."""
        ServerSettings.__post_init__(self)
        for name, least, most in (("heartbeat", 1, 60), ("streams", 1, 100_000), ("backlog", 1 << 16, 1 << 28)):
            _check_bounds(self, name, least, most)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of a registry's settings, with their defaults."""

    database: str = "sqlite:////var/lib/lethe/registry.sqlite3"  # an SQLAlchemy URL
    secrets_file: str = "/etc/lethe/registry.secrets"  # never in the database, nor in its backups
    ipv4_ranges: tuple[str, ...] = ("10.0.0.0/8",)  # empty: no IPv4 tunnel addresses
    ipv6_ranges: tuple[str, ...] = ("fd6c:6574:6865::/48",)  # empty: no IPv6 tunnel addresses
    reserved: tuple[str, ...] = ()  # never drawn: the gateways' own addresses
    device_limit: int = 5  # keys of an account, where the account has no limit of its own
    preshared_keys: bool | str = False  # give every registration one; SEALED: and never tell a client unsealed
    key_days: int = 30  # days after which a key expires, in the course of that day; 0: never
    rotation_grace: int = 3600  # seconds that the old key stays beside the new one, unless confirmed
    address_rest_days: int = 7  # days before a released address can be drawn again
    change_retention: int = DAY  # seconds that changes, and with them tombstones, are kept
    gateways_file: str = ""  # with the gateways that clients are told of (gateway_file.py); empty: none
    server: ServerSettings = field(default_factory=ServerSettings)
    feed: FeedSettings = field(default_factory=FeedSettings)

    def __post_init__(self) -> None:
        """Raises InvalidValue."""
        if not self.ipv4_ranges and not self.ipv6_ranges:
            raise InvalidValue("ipv4_ranges", "is empty, and ipv6_ranges too", "give at least one range")
        if self.preshared_keys not in (True, False, SEALED):
            raise InvalidValue("preshared_keys", "is none of the known values", f"give true, false or {SEALED}")
        for name, least, most in (
            ("device_limit", 1, 1000),
            ("key_days", 0, 365),
            ("rotation_grace", 60, 30 * DAY),
            ("address_rest_days", 0, 365),
            ("change_retention", 60, 30 * DAY),
        ):
            _check_bounds(self, name, least, most)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from a mapping; what is not named keeps its default. Raises InvalidValue."""
        values = dict(values)
        server = ServerSettings.from_mapping(values.pop(ServerSettings.name, {}))
        feed = FeedSettings.from_mapping(values.pop(FeedSettings.name, {}))
        return dataclasses.replace(_checked(cls, values), server=server, feed=feed)

    @classmethod
    def from_file(cls, path: str | Path) -> Settings:
        """Settings from a JSON file. Raises InvalidValue."""
        try:
            values = json.loads(Path(path).read_bytes())
        except OSError as error:
            raise InvalidValue(f"{path}", f"cannot be read: {error.strerror}", "give the registry's settings") from None
        except ValueError:
            raise InvalidValue(f"{path}", "is not JSON", "write one object with settings") from None
        if not isinstance(values, dict):
            raise InvalidValue(f"{path}", "is not an object", "write one object with settings")
        try:
            return cls.from_mapping(values)
        except InvalidValue as error:
            raise error.inside(f"{path}") from None


def _check_bounds(settings: object, name: str, least: int, most: int) -> None:
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidValue(name, "is not a number in its bounds", f"give a whole number from {least} to {most}")


def _checked(cls: type[S], values: Mapping[str, Any]) -> S:
    """An instance of a dataclass whose fields are plain. Raises InvalidValue."""
    fields = {each.name: each for each in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in fields:
            raise InvalidValue(str(name), "is not a setting", f"use one of {', '.join(sorted(fields))}")
        expected = str(fields[name].type)
        right = {
            "str": isinstance(value, str),
            "bool": isinstance(value, bool),
            "bool | str": isinstance(value, (bool, str)),
            "int": isinstance(value, int) and not isinstance(value, bool),
        }.get(expected, isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value))
        if not right:
            raise InvalidValue(name, "is of the wrong type", f"give {_IN_WORDS.get(expected, expected)}")
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return cls(**given)
