# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings: every bad input is named, and every bound is where it is said to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Environment, connect
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.vault import Vault
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

BOUNDS = {
    "device_limit": (1, 1000),
    "key_days": (0, 365),
    "rotation_grace": (60, 30 * 86400),
    "address_rest_days": (0, 365),
    "change_retention": (60, 30 * 86400),
}


def test_nothing_need_be_given() -> None:
    assert Settings.from_mapping({}) == Settings()


def test_what_is_given_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    path.write_text(json.dumps({"device_limit": 9, "ipv6_ranges": ["fd00::/64"], "preshared_keys": True}))

    settings = Settings.from_file(path)

    assert (settings.device_limit, settings.ipv6_ranges, settings.preshared_keys) == (9, ("fd00::/64",), True)
    assert settings.key_days == 30


@pytest.mark.parametrize(("name", "bounds"), BOUNDS.items())
def test_numbers_have_bounds(name: str, bounds: tuple[int, int]) -> None:
    for value in bounds:
        assert getattr(Settings.from_mapping({name: value}), name) == value
    problem = rf"^{name}: is not a number in its bounds; .*{bounds[0]} to {bounds[1]}$"
    for value in (bounds[0] - 1, bounds[1] + 1, -1):
        with pytest.raises(InvalidValue, match=problem):
            Settings.from_mapping({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, bad) for name in BOUNDS for bad in ("5", 5.0, True, None, [])]
    + [(name, bad) for name in ("database", "secrets_file", "gateways_file") for bad in (5, None, [], b"x")]
    + [(name, bad) for name in ("ipv4_ranges", "ipv6_ranges", "reserved") for bad in ("10.0.0.0/8", [8], None, {})]
    + [("preshared_keys", bad) for bad in ("yes", "Sealed", "", 1, None, ["sealed"])],
)
def test_a_value_of_the_wrong_type_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidValue, match=rf"^{name}: "):
        Settings.from_mapping({name: value})


@pytest.mark.parametrize("value", [False, True, "sealed"])
def test_preshared_keys_are_off_on_or_sealed(value: bool | str) -> None:
    assert Settings.from_mapping({"preshared_keys": value}).preshared_keys == value


@pytest.mark.parametrize("value", ["open", 1])
def test_what_preshared_keys_can_be_is_said(value: object) -> None:
    with pytest.raises(InvalidValue, match=r"^preshared_keys: .*; give true, false or sealed$"):
        Settings.from_mapping({"preshared_keys": value})


def test_an_unknown_setting_is_named_and_the_known_ones_listed() -> None:
    with pytest.raises(InvalidValue, match=r"^device_limits: is not a setting; use one of .*device_limit"):
        Settings.from_mapping({"device_limits": 5})


def test_there_must_be_a_range() -> None:
    with pytest.raises(InvalidValue, match=r"^ipv4_ranges: is empty, and ipv6_ranges too"):
        Settings.from_mapping({"ipv4_ranges": [], "ipv6_ranges": []})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[]", "is not an object"),
        ("null", "is not an object"),
        ('{"key_days": 999}', "is not a number in its bounds"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str | None, problem: str) -> None:
    path = tmp_path / "registry.json"
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(InvalidValue, match=f"{path}.*{problem}"):
        Settings.from_file(path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.sqlite3",
        "/var/lib/registry.sqlite3",
        "mysql://root@localhost/registry",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///registry.sqlite3",
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_a_database_that_is_not_supported_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match=r"^database: is not a supported URL"):
        connect(url)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"ipv4_ranges": ("nonsense",)}, r"ipv4_ranges\[0\]"),
        ({"ipv6_ranges": ("fd00::/48", "10.0.0.0/8")}, r"ipv6_ranges\[1\]"),
        ({"reserved": ("nonsense",)}, r"reserved\[0\]"),
        ({"reserved": ("10.0.0.0/8",)}, "ipv4_ranges"),
    ],
)
def test_ranges_are_looked_at_before_anything_is_opened(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{field}: "):
        Environment.of(Settings(**settings), Vault(bytes(32)))
