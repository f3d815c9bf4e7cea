# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module refuses before it looks at the kernel; the rest is tested on a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_module import module
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import NotWireGuard

from .conftest import RunModule


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: Any, **__: Any) -> None:
        pytest.fail("the kernel was asked")

    for name in ("ensure_interface", "remove_interface", "read_interface"):
        monkeypatch.setattr(module("interface"), name, unexpected)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "an-interface-with-a-long-name"}, "name: is no name for an interface; give 1 to 15 characters"),
        ({"name": "wg/0"}, "name: is no name for an interface"),
        ({"listen_port": 65536}, "listen_port: is 65536; give a number from 0 to 65535"),
        ({"fwmark": -1}, "fwmark: is -1; give a number from 0 to 4294967295"),
        ({"mtu": 1279}, "mtu: is 1279; give a number from 1280 to 65456"),
        ({"addresses": ["10.0.0.1/8", "10.0.0.2/33"]}, "addresses[1]: is not an address with a prefix"),
        ({"private_key": "nonsense"}, "private_key: is not a key"),
        ({"private_key_file": "/nowhere/key"}, "/nowhere/key: cannot be read: No such file or directory"),
        ({"private_key": key(1), "private_key_file": "/x"}, "mutually exclusive: private_key|private_key_file"),
        ({"generate_private_key": True}, "True but all of the following are missing: private_key_file"),
        ({"state": "present"}, "value of state must be one of: up, down, absent"),
    ],
)  # fmt: skip
def test_a_fault_is_named_before_anything_is_touched(run: RunModule, options: dict[str, Any], complaint: str) -> None:
    outcome = run("interface", **{"name": "wg0", **options})

    assert outcome.failed
    assert complaint in outcome.message


@pytest.mark.parametrize("options", [{"mtu": 100}, {"addresses": ["ten"]}])
def test_no_key_is_made_for_options_that_are_refused(run: RunModule, tmp_path: Path, options: dict[str, Any]) -> None:
    file = tmp_path / "wg0.key"

    assert run("interface", name="wg0", private_key_file=str(file), generate_private_key=True, **options).failed
    assert not file.exists()


def test_no_key_is_made_for_an_interface_that_is_none_of_ours(
    run: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(name: str) -> None:
        raise NotWireGuard(name)

    monkeypatch.setattr(module("interface"), "read_interface", taken)
    file = tmp_path / "key"

    outcome = run("interface", name="eth0", private_key_file=str(file), generate_private_key=True)

    assert "eth0 exists and is not a WireGuard interface; it was left alone" in outcome.message
    assert not file.exists()


def test_the_private_key_is_never_told(run: RunModule) -> None:
    for options in ({"mtu": 1}, {"private_key_file": "/x"}, {"listen_port": "x"}, {"private_key": key(1) + "="}):
        outcome = run("interface", **{"name": "wg0", "private_key": key(1), **options})
        assert outcome.failed
        assert outcome.tells(key(1)) == []
