# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client keeps, where, and that it goes when it should."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clients import private_keys_in
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client import memory, rotation, service
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.memory import (
    FleetingMemory,
    Memory,
    StateUnusable,
    registered_keys,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.rotation import State
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.gateways import Gateway
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import whole_files
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PrivateKey, PublicKey

GATEWAY = Gateway("gateway1", PublicKey.from_text(key(901)), "192.0.2.1", 51820)


def state(number: int) -> State:
    return rotation.begin(PrivateKey.from_text(key(number, "private")))


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.fixture
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """On the disk, and in memory."""
    monkeypatch.setattr(memory, "ON_DISK", tmp_path / "var")
    monkeypatch.setattr(memory, "IN_MEMORY", tmp_path / "run")
    return memory.ON_DISK, memory.IN_MEMORY


def settings(*, keys_on_disk: bool) -> Settings:
    values = {"url": "https://registry.example", "allowed_ips": ["10.0.0.0/8"], "keys_on_disk": keys_on_disk}
    return Settings.from_mapping(values)


@pytest.mark.parametrize("keys_on_disk", [True, False])
def test_keys_move_when_it_is_decided_where_they_are(directories: tuple[Path, Path], keys_on_disk: bool) -> None:
    there, here = directories[::-1] if keys_on_disk else directories
    before = Memory(there)
    before.write(state(1))
    before.write_gateways((GATEWAY,))
    runner, _tunnel = service.made(settings(keys_on_disk=keys_on_disk), "lethe_client_x")
    assert runner.state == state(1)
    assert not {"state.json", "gateways.json"} & {path.name for path in files(there)}
    assert list(private_keys_in(there)) == []
    assert Memory(here).read() == state(1)


def test_of_two_states_the_one_where_it_belongs_is_believed(tmp_path: Path) -> None:
    """The power failed while it moved, and it has rotated since."""
    here, there = tmp_path / "here", tmp_path / "there"
    Memory(there).write(state(1))
    Memory(here).write(state(2))
    Memory(here, there).tidy_up()
    assert Memory(here).read() == state(2)
    assert files(there) == []


def test_forgetting_leaves_nothing_in_either_directory(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for directory in (here, there):
        Memory(directory).write(state(1))
        Memory(directory).write_gateways((GATEWAY,))
    Memory(here, there).forget()
    assert files(tmp_path) == []


def test_without_keys_on_the_disk_the_public_ones_are_and_no_private_one(directories: tuple[Path, Path]) -> None:
    on_disk, in_memory = directories
    kept = FleetingMemory(in_memory, on_disk)
    first, second = state(1), state(2)
    kept.write(first)
    assert registered_keys() == (first.key.public_key,)
    shutil.rmtree(in_memory)  # a reboot
    kept.write(second)
    assert registered_keys() == (first.key.public_key, second.key.public_key)
    kept.write(rotation.registered(second, rotation.Registration(()), 0))
    assert registered_keys() == (second.key.public_key,)
    for path in files(on_disk):
        assert second.key.private_key.text not in path.read_text()
    kept.forget()
    assert files(on_disk) == []


@pytest.mark.parametrize("content", ["", "[]", '{"public_keys": ["x"]}', '{"public_keys": 7}'], ids=repr)
def test_public_keys_that_cannot_be_read_are_left_to_expire(directories: tuple[Path, Path], content: str) -> None:
    directories[0].mkdir()
    (directories[0] / "registered.json").write_text(content)
    assert registered_keys() == ()


@pytest.mark.parametrize("removes", [Memory.tidy_up, Memory.forget])
def test_what_a_crash_left_half_written_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removes: Callable[[Memory], None]
) -> None:
    class Killed(BaseException):
        """Nothing is done any more after this."""

    def killed(*_: object) -> None:
        raise Killed

    kept = Memory(tmp_path)
    kept.write(state(1))
    with monkeypatch.context() as patch:
        patch.setattr(whole_files.os, "replace", killed)
        patch.setattr(whole_files.os, "unlink", killed)
        with pytest.raises(Killed):
            kept.write(state(2))
    assert len(files(tmp_path)) == 2
    removes(kept)
    assert files(tmp_path) == ([tmp_path / "state.json"] if removes is Memory.tidy_up else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_writes_is_the_services_to_read_and_to_replace(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    Memory(tmp_path).write(state(1))
    written = (tmp_path / "state.json").stat()
    assert (written.st_uid, written.st_gid, written.st_mode & 0o777) == (12345, 23456, 0o600)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusable, match=f"^{tmp_path}/file/state.json cannot be written"):
        Memory(tmp_path / "file").write(state(1))
