# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of gateways that clients are told of: read anew when it changes, every fault named."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.gateway_file import GatewayFile
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

ONE: dict[str, Any] = {"name": "gateway1", "public_key": key(1), "endpoint": "gateway1.example:51820"}
TWO: dict[str, Any] = {"name": "gateway2", "public_key": key(2), "endpoint": "[2001:db8::2]:443", "interface": "wg1"}


def written(path: Path, content: Any) -> str:
    """As Ansible writes files: another one takes its place."""
    new = path.with_suffix(".new")
    new.write_text(content if isinstance(content, str) else json.dumps(content))
    os.replace(new, path)
    return str(path)


def names(file: GatewayFile) -> list[str]:
    return [gateway.name for gateway in file.gateways()]


def test_it_is_read_anew_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "gateways.json"
    file = GatewayFile(str(path))
    assert names(file) == []
    written(path, {"gateways": [ONE]})
    assert names(file) == ["gateway1"]
    written(path, {"gateways": [TWO, ONE]})
    assert names(file) == ["gateway2", "gateway1"]
    assert file.gateways() is file.gateways()
    path.unlink()
    assert names(file) == []


def test_a_next_key_may_be_there_and_has_its_own_place(tmp_path: Path) -> None:
    coming = {**ONE, "next_public_key": key(3), "next_public_key_since": 1_700_000_000}
    one, two = GatewayFile(written(tmp_path / "gateways.json", {"gateways": [coming, TWO]})).gateways()
    assert one.as_json() == {**ONE, "addresses": [], "next_public_key": key(3)}
    assert [way.public_key.text for way in one.ways] == [key(1), key(3)]
    assert [way.public_key.text for way in two.ways] == [key(2)]


def test_without_a_file_there_are_no_gateways() -> None:
    assert names(GatewayFile("")) == []


def test_one_that_is_broken_later_leaves_things_as_they_were(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "gateways.json"
    file = GatewayFile(written(path, {"gateways": [ONE]}))
    with caplog.at_level(logging.ERROR):
        written(path, "{")
        assert [names(file), names(file)] == [["gateway1"], ["gateway1"]]
    assert len(caplog.records) == 1
    written(path, {"gateways": [TWO]})
    assert names(file) == ["gateway2"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not a JSON object"),
        ("[]", "is not a JSON object"),
        ("[" * 100_000, "is not a JSON object"),
        ({}, "gateways: is not a list"),
        ({"gateways": [7]}, r"gateways\[0\]: is not an object"),
        ({"gateways": [ONE, {**ONE, "public_key": key(2)}]}, r"gateways\[1\]: is there twice"),
        ({"gateways": [ONE, {**TWO, "public_key": key(1)}]}, r"gateways\[1\]: is there twice"),
        ({"gateways": [ONE, {**TWO, "next_public_key": key(1)}]}, r"gateways\[1\]: is there twice"),
        ({"gateways": [{**ONE, "next_public_key": key(1)}]}, r"gateways\[0\]: is there twice"),
        *(
            ({"gateways": [{**ONE, name: value}]}, rf"gateways\[0\]\.{name}: ")
            for name, values in {
                "name": (None, "", 7, "x" * 254, "a\nb"),
                "public_key": (None, "x", 7),
                "next_public_key": ("", "x", 7),
                "endpoint": (
                    None,
                    "gateway1",
                    "gateway1:0",
                    "gateway1:65536",
                    ":51820",
                    "2001:db8::1:443",
                    "[a]:1",
                    "a b:1",
                ),
                "interface": (7, "", "a/b", "x" * 16),
            }.items()
            for value in values
        ),
        ({"gateways": [{**ONE, "addresses": "10.0.0.1"}]}, r"gateways\[0\]\.addresses: is not a list"),
        ({"gateways": [{**ONE, "addresses": ["x"]}]}, r"gateways\[0\]\.addresses\[0\]: is not an address"),
    ],
)
def test_one_that_is_broken_from_the_beginning_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    path = written(tmp_path / "gateways.json", content)
    with pytest.raises(InvalidValue, match=f"{path}.*{problem}"):
        GatewayFile(path)


def test_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="cannot be read: Is a directory"):
        GatewayFile(str(tmp_path))
