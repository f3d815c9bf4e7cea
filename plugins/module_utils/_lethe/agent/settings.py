# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator decides about a gateway's agent: one JSON file, every key checked by name."""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..feed.signing import VerifyKeys
from ..wireguard.errors import InvalidValue
from ..wireguard.interface import check_name
from ..wireguard.keys import PublicKey
from ..wireguard.plan import SHRINK_LIMIT

SETTINGS = Path("/etc/lethe/key-sync.json")
CREDENTIAL = Path("/etc/lethe/key-sync.credential")
_LARGEST_CREDENTIAL = 4096  # bytes of a file; more is no credential


@dataclass(frozen=True, slots=True)
class Settings:
    """All of an agent's settings."""

    url: str  # of the feed
    verify_keys: VerifyKeys  # of the registry, that is, of whoever signs what it says
    interfaces: tuple[str, ...]  # all get the same peers
    ca_file: Path | None = None  # PEM; None: the authorities that the system trusts
    left_alone: frozenset[PublicKey] = frozenset()  # peers that are there by hand, and stay
    shrink_limit: int | None = SHRINK_LIMIT  # percent of the peers that a snapshot may remove; None: all
    drift_interval: int = 300  # seconds between looks at the whole kernel

    @classmethod
    def from_file(cls, path: Path) -> Settings:
        """Raises InvalidValue, which names the file and the field."""
        try:
            values = json.loads(path.read_bytes())
        except OSError as error:
            raise InvalidValue(f"{path}", f"cannot be read: {error.strerror}", "give the agent's settings") from None
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise InvalidValue(f"{path}", "is not a JSON object", "write one object with settings")
        try:
            return cls.from_mapping(values)
        except InvalidValue as error:
            raise error.inside(f"{path}") from None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Raises InvalidValue."""
        for name in values:
            if name not in _FIELDS:
                raise InvalidValue(name, "is not a setting", f"use one of {', '.join(sorted(_FIELDS))}")
        for name in ("url", "verify_keys", "interfaces"):
            if name not in values:
                raise InvalidValue(name, "is missing", "the agent cannot do without it")
        read = {name: _FIELDS[name](name, value) for name, value in values.items()}
        return cls(**read)


def _url(name: str, value: Any) -> str:
    try:
        parts = urlsplit(_text(name, value))
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidValue(name, "is not the address of a feed", "write it like https://registry.example:8444")
    if parts.scheme == "http" and not _is_loopback(host):
        raise InvalidValue(name, "would send the credential through a network in the clear", "write it with https")
    return str(value).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _interfaces(name: str, value: Any) -> tuple[str, ...]:
    names = _list(name, value)
    for i, one in enumerate(names):
        try:
            check_name(_text(name, one))
        except InvalidValue as error:
            raise InvalidValue(f"{name}[{i}]", error.problem, error.remedy) from None
    if not names or len(set(names)) != len(names):
        raise InvalidValue(name, "is empty or has a name twice", "list each interface once")
    return names


def _left_alone(name: str, value: Any) -> frozenset[PublicKey]:
    return frozenset(PublicKey.from_text(one, f"{name}[{i}]") for i, one in enumerate(_list(name, value)))


def _percent(name: str, value: Any) -> int | None:
    if value is None:
        return None
    return _whole(name, value, 0, 100)


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidValue(name, "is not a number in its bounds", f"give a whole number from {least} to {most}")
    return value


def _list(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise InvalidValue(name, "is not a list", "write a list of text")
    return tuple(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValue(name, "is not text", "write it in quotation marks")
    return value


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "url": _url,
    "verify_keys": lambda name, value: VerifyKeys.from_texts(_list(name, value), name),
    "interfaces": _interfaces,
    "ca_file": lambda name, value: Path(_text(name, value)) if value else None,
    "left_alone": _left_alone,
    "shrink_limit": _percent,
    "drift_interval": lambda name, value: _whole(name, value, 10, 86_400),
}


def read_credential(path: Path) -> str:
    """What the registry knows this gateway by. Raises InvalidValue, which shows nothing of it."""
    try:
        with path.open("rb") as file:
            credential = file.read(_LARGEST_CREDENTIAL).decode("ascii", "replace").strip()
    except OSError as error:
        raise InvalidValue(f"{path}", f"cannot be read: {error.strerror}", "give the gateway's credential") from None
    if not credential.startswith("lethe_gateway_") or not credential.isascii() or not credential.isprintable():
        raise InvalidValue(f"{path}", "holds no gateway's credential", "it begins with lethe_gateway_")
    return credential


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Who is believed to be the registry. Raises InvalidValue."""
    path = settings.ca_file
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        problem = "is not a certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise InvalidValue(f"{path}", f"cannot be used: {problem}", "give certificates in PEM") from None
