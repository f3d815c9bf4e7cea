# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_module import module
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.interface import InterfaceState
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PrivateKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice

from .conftest import RunModule


@pytest.fixture
def file(device: MemoryDevice, tmp_path: Path) -> str:
    """The file with the interface's key."""
    path = tmp_path / "wg0.key"
    path.write_text(key(1, "private"))
    device.configure(private_key=PrivateKey.from_text(key(1, "private")))
    return str(path)


def test_a_key_is_prepared_told_and_then_used(
    run: RunModule, device: MemoryDevice, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> tuple[str, str | None]:
        state = InterfaceState("wg0", True, device.settings().public_key, 51820, 0, 1420, ())
        monkeypatch.setattr(module("interface_info"), "read_interface", {"wg0": state}.get)
        found = run("interface_info", private_key_file=file)["interface"]
        return found["public_key"], found["next_public_key"]

    before, _none = look()
    assert _none is None
    prepared = run("interface_key", private_key_file=file, state="prepared")
    assert prepared.changed
    assert look() == (before, prepared["next_public_key"])
    assert not run("interface_key", private_key_file=file, state="prepared").changed
    secrets = [Path(name).read_text().strip() for name in (file, f"{file}.next")]

    switched = run("interface_key", private_key_file=file, state="switched")

    assert switched["steps"] == ["key file", "private_key"]
    assert look() == (prepared["next_public_key"], None)
    assert not run("interface_key", private_key_file=file, state="switched").changed
    assert prepared.tells(*secrets) == switched.tells(*secrets) == []


def test_check_mode_predicts_and_changes_nothing(run: RunModule, device: MemoryDevice, file: str) -> None:
    before = device.settings()
    predicted = run("interface_key", private_key_file=file, state="prepared", check=True)
    assert predicted.changed
    assert predicted["next_public_key"] is None
    assert not Path(f"{file}.next").exists()
    run("interface_key", private_key_file=file, state="prepared")

    assert run("interface_key", private_key_file=file, state="switched", check=True).changed
    assert device.settings() == before
    assert Path(f"{file}.next").exists()


def test_a_fault_is_named(run: RunModule, file: str) -> None:
    elsewhere = run("interface_key", private_key_file="/nowhere/wg0.key", state="prepared")
    assert "/nowhere/wg0.key: cannot be read" in elsewhere.message
    Path(f"{file}.next").write_text("nonsense")
    for state in ("prepared", "switched"):
        refused = run("interface_key", private_key_file=file, state=state)
        assert f"{file}.next: holds no key" in refused.message
    assert "missing required arguments: state" in run("interface_key", private_key_file=file).message
