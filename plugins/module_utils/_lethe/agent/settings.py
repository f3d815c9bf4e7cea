# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator decides about a gateway's agent: one JSON file, every key checked by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import fields
from ..feed.signing import VerifyKeys
from ..wireguard.errors import InvalidValue
from ..wireguard.interface import check_name
from ..wireguard.keys import PublicKey
from ..wireguard.plan import SHRINK_LIMIT

SETTINGS = Path("/etc/lethe/key-sync.json")
CREDENTIAL = Path("/etc/lethe/key-sync.credential")


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
        return fields.read_settings(path, "agent", cls.from_mapping)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Raises InvalidValue."""
        fields.check_names(values, _FIELDS, ("url", "verify_keys", "interfaces"), "agent")
        read = {name: _FIELDS[name](name, value) for name, value in values.items()}
        return cls(**read)


def _interfaces(name: str, value: Any) -> tuple[str, ...]:
    names = fields.listed(name, value)
    for i, one in enumerate(names):
        try:
            check_name(fields.text(name, one))
        except InvalidValue as error:
            raise InvalidValue(f"{name}[{i}]", error.problem, error.remedy) from None
    if not names or len(set(names)) != len(names):
        raise InvalidValue(name, "is empty or has a name twice", "list each interface once")
    return names


def _left_alone(name: str, value: Any) -> frozenset[PublicKey]:
    return frozenset(PublicKey.from_text(one, f"{name}[{i}]") for i, one in enumerate(fields.listed(name, value)))


def _percent(name: str, value: Any) -> int | None:
    if value is None:
        return None
    return fields.whole(name, value, 0, 100)


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "url": lambda name, value: fields.url(name, value, "https://registry.example:8444"),
    "verify_keys": lambda name, value: VerifyKeys.from_texts(fields.listed(name, value), name),
    "interfaces": _interfaces,
    "ca_file": lambda name, value: Path(fields.text(name, value)) if value else None,
    "left_alone": _left_alone,
    "shrink_limit": _percent,
    "drift_interval": lambda name, value: fields.whole(name, value, 10, 86_400),
}
