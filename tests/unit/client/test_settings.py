# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written about a client, and what is said of it when it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

LEAST: dict[str, Any] = {"url": "https://registry.example:8443/", "allowed_ips": ["10.0.0.0/8"]}


def written(directory: Path, values: Any) -> Path:
    path = directory / "client.json"
    path.write_text(json.dumps(values))
    return path


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    settings = Settings.from_file(written(tmp_path, LEAST))
    assert settings.url == "https://registry.example:8443"
    assert (settings.period, settings.interface, settings.keepalive) == (7 * 86_400, "lethe0", 25)
    assert settings.directories == (Path("/var/lib/lethe-client"), Path("/run/lethe-client"))


def test_keys_can_be_in_memory_alone(tmp_path: Path) -> None:
    settings = Settings.from_file(written(tmp_path, LEAST | {"keys_on_disk": False}))
    assert settings.directories == (Path("/run/lethe-client"), Path("/var/lib/lethe-client"))


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"url": "http://registry.example"}, "url", "would send the credential through a network in the clear"),
        ({"url": 7}, "url", "is not text"),
        ({"allowed_ips": "10.0.0.0/8"}, "allowed_ips", "is not a list"),
        ({"allowed_ips": []}, "allowed_ips", "is empty"),
        ({"allowed_ips": ["x"]}, r"allowed_ips\[0\]", "is not an IP address"),
        ({"allowed_ips": ["fd00::/48", "0.0.0.0/0"]}, "allowed_ips", "is the whole internet"),
        ({"allowed_ips": ["0.0.0.0/1", "128.0.0.0/1"]}, "allowed_ips", "is the whole internet"),
        ({"allowed_ips": ["10.0.0.0/8", "8000::/2", "c000::/2", "::/1"]}, "allowed_ips", "is the whole internet"),
        ({"interface": "a/b"}, "interface", "is no name for an interface"),
        ({"rotate_days": 0}, "rotate_days", "is not a number in its bounds"),
        ({"rotate_days": 31}, "rotate_days", "is not a number in its bounds"),
        ({"keepalive": 0}, "keepalive", "is not a number in its bounds"),
        ({"mtu": 1279}, "mtu", "is not a number in its bounds"),
        ({"keys_on_disk": "no"}, "keys_on_disk", "is neither true nor false"),
        ({"urls": ""}, "urls", "is not a setting"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], field: str, problem: str) -> None:
    path = written(tmp_path, LEAST | change)
    with pytest.raises(InvalidValue, match=rf"^{path}\.{field}: {problem}"):
        Settings.from_file(path)


@pytest.mark.parametrize("name", LEAST)
def test_what_it_cannot_do_without_is_missed(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidValue, match=f"{name}: is missing; the client cannot do without it"):
        Settings.from_file(written(tmp_path, {field: value for field, value in LEAST.items() if field != name}))
