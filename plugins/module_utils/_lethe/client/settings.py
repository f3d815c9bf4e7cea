# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about a client on its host: one JSON file, every key checked by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from pathlib import Path
from typing import Any

from .. import fields
from ..wireguard.addresses import AllowedIP
from ..wireguard.errors import InvalidValue
from ..wireguard.interface import check_name
from . import memory
from .rotation import DAY
from .tunnel import TunnelOptions

SETTINGS = Path("/etc/lethe/client.json")
CREDENTIAL = Path("/etc/lethe/client.credential")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of a client's settings."""

    url: str  # of the registry's API
    allowed_ips: tuple[str, ...]  # what goes through the tunnel
    ca_file: Path | None = None  # PEM; None: the authorities that the system trusts
    interface: str = "lethe0"
    rotate_days: int = 7  # no key is in use for longer
    keepalive: int = 25  # seconds
    mtu: int = 1420  # bytes
    keys_on_disk: bool = True  # False: after a reboot the client registers anew

    @property
    def period(self) -> float:
        """Seconds."""
        return float(self.rotate_days * DAY)

    @property
    def directories(self) -> tuple[Path, Path]:
        """Where the keys are; and where they are not, but were if ``keys_on_disk`` was another."""
        both = (memory.ON_DISK, memory.IN_MEMORY)
        return both if self.keys_on_disk else (both[1], both[0])

    @property
    def tunnel(self) -> TunnelOptions:
        return TunnelOptions(self.interface, self.allowed_ips, self.keepalive, self.mtu)

    @classmethod
    def from_file(cls, path: Path) -> Settings:
        """Raises InvalidValue, which names the file and the field."""
        return fields.read_settings(path, "client", cls.from_mapping)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Raises InvalidValue."""
        fields.check_names(values, _FIELDS, ("url", "allowed_ips"), "client")
        return cls(**{name: _FIELDS[name](name, value) for name, value in values.items()})


def _allowed_ips(name: str, value: Any) -> tuple[str, ...]:
    networks = [AllowedIP.from_text(one, f"{name}[{i}]") for i, one in enumerate(fields.listed(name, value))]
    if not networks:
        raise InvalidValue(name, "is empty", 'list what goes through the tunnel, like ["10.0.0.0/8"]')
    texts = tuple(network.text for network in networks)
    ipv4 = collapse_addresses(IPv4Network(text) for text in texts if ":" not in text)
    ipv6 = collapse_addresses(IPv6Network(text) for text in texts if ":" in text)
    if not all(one.prefixlen for one in ipv4) or not all(one.prefixlen for one in ipv6):
        # Its packets to the gateway would have to go past it: see wg-quick(8).
        raise InvalidValue(name, "is the whole internet", "give networks that gateways are not in")
    return texts


def _interface(name: str, value: Any) -> str:
    try:
        return check_name(fields.text(name, value))
    except InvalidValue as error:
        raise InvalidValue(name, error.problem, error.remedy) from None


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "url": lambda name, value: fields.url(name, value, "https://registry.example:8443"),
    "allowed_ips": _allowed_ips,
    "ca_file": lambda name, value: Path(fields.text(name, value)) if value else None,
    "interface": _interface,
    "rotate_days": lambda name, value: fields.whole(name, value, 1, 30),
    "keepalive": lambda name, value: fields.whole(name, value, 1, 60),
    "mtu": lambda name, value: fields.whole(name, value, 1280, 65456),
    "keys_on_disk": fields.truth,
}
