# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateways that clients can connect to: what the registry is told of them, and tells its clients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .wireguard.errors import InvalidValue
from .wireguard.interface import address_from_text, check_name
from .wireguard.keys import PublicKey
from .wireguard.links import Address

_LONGEST_NAME = 253  # characters of a host's name: RFC 1035, section 2.3.4, less the dots at its ends


@dataclass(frozen=True, slots=True)
class Gateway:
    """One interface of a gateway."""

    name: str
    public_key: PublicKey
    host: str  # a name, or an address without brackets
    port: int  # UDP
    addresses: tuple[Address, ...] = ()  # in the tunnel
    interface: str = "wg0"  # there
    next_public_key: PublicKey | None = None  # to which it is going to change

    @property
    def endpoint(self) -> str:
        """As it is written: ``gateway.example:51820``, ``[2001:db8::1]:51820``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ways(self) -> tuple[Gateway, ...]:
        """As what it can be found: with its key, and then with its next, in case it has changed to that."""
        present = replace(self, next_public_key=None)
        if self.next_public_key is None:
            return (present,)
        return present, replace(present, public_key=self.next_public_key)

    def as_json(self) -> dict[str, Any]:
        """As clients are told."""
        told = {
            "name": self.name,
            "public_key": self.public_key.text,
            "endpoint": self.endpoint,
            "addresses": [str(address) for address in self.addresses],
        }
        return told if self.next_public_key is None else {**told, "next_public_key": self.next_public_key.text}


def gateways_from(values: Any, field: str = "gateways") -> tuple[Gateway, ...]:
    """Parse a list of what ``as_json`` gives, each with the name of its ``interface`` if need be; what else there is in
    it is passed over. Raises InvalidValue.
    """
    if not isinstance(values, (list, tuple)):
        raise InvalidValue(field, "is not a list", "write a list of objects")
    return tuple(_gateway(value, f"{field}[{i}]") for i, value in enumerate(values))


def endpoint_from(text: Any, field: str = "endpoint") -> tuple[str, int]:
    """Host and port. Names are not looked up. Raises InvalidValue."""
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    bracketed = host[:1] == "[" and host[-1:] == "]"
    host = host[1:-1] if bracketed else host
    plain = 0 < len(host) <= _LONGEST_NAME and host.isascii() and host.isprintable() and " " not in host
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not (colon and plain and 0 < number < 65536) or bracketed != (":" in host):
        raise InvalidValue(
            field, "is not a host and a port", 'write it like "gateway.example:51820" or "[2001:db8::1]:51820"'
        )
    return host, number


def _gateway(value: Any, field: str) -> Gateway:
    if not isinstance(value, dict):
        raise InvalidValue(field, "is not an object", "write one object for each gateway")
    name = value.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InvalidValue(f"{field}.name", "is not a name", "give the gateway's name")
    public_key = PublicKey.from_text(value.get("public_key"), f"{field}.public_key")
    host, port = endpoint_from(value.get("endpoint"), f"{field}.endpoint")
    addresses = _addresses(value.get("addresses", ()), f"{field}.addresses")
    next_public_key = value.get("next_public_key")
    if next_public_key is not None:
        next_public_key = PublicKey.from_text(next_public_key, f"{field}.next_public_key")
    interface = _interface(value.get("interface", "wg0"), field)
    return Gateway(name, public_key, host, port, addresses, interface, next_public_key)


def _interface(value: Any, field: str) -> str:
    try:
        return check_name(value if isinstance(value, str) else "")
    except InvalidValue as error:
        raise InvalidValue(f"{field}.interface", error.problem, error.remedy) from None


def _addresses(values: Any, field: str) -> tuple[Address, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidValue(field, "is not a list", 'write a list, like ["10.64.0.1/10"]')
    return tuple(address_from_text(value, f"{field}[{i}]") for i, value in enumerate(values))
