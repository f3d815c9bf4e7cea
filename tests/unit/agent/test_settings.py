# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator writes, and what is said of it when it is wrong."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from fake_feed import TOKEN
from hiding import told_by
from made_up import key
from signed import SIGNING, name

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.https import read_credential, tls_context
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

VERIFY_KEY = SIGNING.verify_key().text
LEAST: dict[str, Any] = {
    "url": "https://registry.example:8444/",
    "verify_keys": [VERIFY_KEY],
    "interfaces": ["wg0"],
}


def written(directory: Path, values: Any) -> Path:
    path = directory / "key-sync.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    settings = Settings.from_file(written(tmp_path, LEAST))
    assert settings.url == "https://registry.example:8444"
    assert settings.interfaces == ("wg0",)
    assert (settings.ca_file, settings.left_alone, settings.shrink_limit, settings.drift_interval) == (
        None, frozenset(), 50, 300,
    )  # fmt: skip


def test_everything_can_be_said(tmp_path: Path) -> None:
    more = {"ca_file": "/etc/ca", "left_alone": [key(3)], "shrink_limit": 100, "drift_interval": 60}
    settings = Settings.from_file(written(tmp_path, LEAST | more | {"interfaces": ["wg0", "wg1"]}))
    assert settings.interfaces == ("wg0", "wg1")
    assert settings.ca_file == Path("/etc/ca")
    assert settings.left_alone == {name(3)}
    assert (settings.shrink_limit, settings.drift_interval) == (100, 60)


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"url": None}, "url", "is not text"),
        ({"url": "registry.example"}, "url", "is not the address of a registry"),
        ({"url": "https://me@registry.example"}, "url", "is not the address of a registry"),
        ({"url": "https://registry.example:x"}, "url", "is not the address of a registry"),
        ({"url": "http://registry.example"}, "url", "would send the credential through a network in the clear"),
        ({"verify_keys": []}, "verify_keys", "are 0 keys"),
        ({"verify_keys": [key(1)] * 3}, "verify_keys", "are 3 keys"),
        ({"verify_keys": [VERIFY_KEY, "c2VjcmV0"]}, "verify_keys[1]", "is not a key"),
        ({"verify_keys": VERIFY_KEY}, "verify_keys", "is not a list"),
        ({"interfaces": []}, "interfaces", "is empty or has a name twice"),
        ({"interfaces": ["wg0", "wg0"]}, "interfaces", "is empty or has a name twice"),
        ({"interfaces": ["wg0", "../wg1"]}, "interfaces[1]", "is no name for an interface"),
        ({"interfaces": [7]}, "interfaces[0]", "is not text"),
        ({"left_alone": ["c2VjcmV0"]}, "left_alone[0]", "is not a key"),
        ({"shrink_limit": 101}, "shrink_limit", "is not a number in its bounds"),
        ({"shrink_limit": True}, "shrink_limit", "is not a number in its bounds"),
        ({"drift_interval": 5}, "drift_interval", "is not a number in its bounds"),
        ({"ca_file": 5}, "ca_file", "is not text"),
        ({"colour": "blue"}, "colour", "is not a setting"),
    ],
)
def test_every_fault_names_its_field(tmp_path: Path, change: dict[str, Any], field: str, problem: str) -> None:
    path = written(tmp_path, LEAST | change)
    with pytest.raises(InvalidValue) as caught:
        Settings.from_file(path)
    assert str(caught.value).startswith(f"{path}.{field}: {problem}")
    assert "c2VjcmV0" not in told_by(caught.value)


@pytest.mark.parametrize("name", ["url", "verify_keys", "interfaces"])
def test_what_it_cannot_do_without_is_missed(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, {field: value for field, value in LEAST.items() if field != name})
    with pytest.raises(InvalidValue, match=f"{name}: is missing"):
        Settings.from_file(path)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "nonsense"])
def test_what_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidValue, match="is not a JSON object"):
        Settings.from_file(written(tmp_path, content))
    with pytest.raises(InvalidValue, match="cannot be read"):
        Settings.from_file(tmp_path)


def test_plain_http_is_for_this_host(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:8444", "http://[::1]:8444", "http://localhost"):
        assert Settings.from_mapping(LEAST | {"url": url}).url == url


def test_a_credential_is_read_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "credential"
    path.write_text(TOKEN + "\n")
    assert read_credential(path, "gateway") == TOKEN
    for wrong in ("", "lethe_operator_c2VjcmV0", "lethe_gateway_c2V\u00fcjcmV0"):
        path.write_text(wrong)
        with pytest.raises(InvalidValue, match="holds no gateway's credential") as caught:
            read_credential(path, "gateway")
        assert "c2V" not in told_by(caught.value)
    with pytest.raises(InvalidValue, match="cannot be read"):
        read_credential(tmp_path, "gateway")


def test_whom_it_trusts_is_the_given_authority_or_the_systems(tmp_path: Path) -> None:
    context = tls_context(Settings.from_mapping(LEAST).ca_file)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    path = tmp_path / "ca"
    with pytest.raises(InvalidValue, match="cannot be used: No such file"):
        tls_context(path)
    path.write_text("nonsense")
    with pytest.raises(InvalidValue, match="cannot be used: is not a certificate"):
        tls_context(path)
