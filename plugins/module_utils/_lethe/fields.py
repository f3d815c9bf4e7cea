# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings in a JSON file, every field checked by name: what the agent's and the client's have in common."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .wireguard.errors import InvalidValue

T = TypeVar("T")


def read_settings(path: Path, whose: str, from_mapping: Callable[[Mapping[str, Any]], T]) -> T:
    """The settings in a file; ``whose``, for people. Raises InvalidValue, which names the file and the field."""
    values = _read_object(path, whose)
    try:
        return from_mapping(values)
    except InvalidValue as error:
        raise error.inside(f"{path}") from None


def _read_object(path: Path, whose: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidValue(f"{path}", f"cannot be read: {error.strerror}", f"give the {whose}'s settings") from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidValue(f"{path}", "is not a JSON object", "write one object with settings")
    return values


def check_names(values: Mapping[str, Any], known: Collection[str], needed: Collection[str], whose: str) -> None:
    """Raises InvalidValue."""
    for name in values:
        if name not in known:
            raise InvalidValue(name, "is not a setting", f"use one of {', '.join(sorted(known))}")
    for name in needed:
        if name not in values:
            raise InvalidValue(name, "is missing", f"the {whose} cannot do without it")


def url(name: str, value: Any, example: str) -> str:
    """Where a part of the registry is, without a slash at its end. Raises InvalidValue."""
    try:
        parts = urlsplit(text(name, value))
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidValue(name, "is not the address of a registry", f"write it like {example}")
    if parts.scheme == "http" and not _is_loopback(host):
        raise InvalidValue(name, "would send the credential through a network in the clear", "write it with https")
    return str(value).rstrip("/")


def whole(name: str, value: Any, least: int, most: int) -> int:
    """Raises InvalidValue."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidValue(name, "is not a number in its bounds", f"give a whole number from {least} to {most}")
    return value


def truth(name: str, value: Any) -> bool:
    """Raises InvalidValue."""
    if not isinstance(value, bool):
        raise InvalidValue(name, "is neither true nor false", "write true or false, without quotation marks")
    return value


def listed(name: str, value: Any) -> tuple[Any, ...]:
    """Raises InvalidValue."""
    if not isinstance(value, list):
        raise InvalidValue(name, "is not a list", "write a list of text")
    return tuple(value)


def text(name: str, value: Any) -> str:
    """Raises InvalidValue."""
    if not isinstance(value, str):
        raise InvalidValue(name, "is not text", "write it in quotation marks")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
