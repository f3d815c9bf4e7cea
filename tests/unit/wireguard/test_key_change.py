# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of an interface's key that can stop at any point, in memory and real files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import key_change
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.key_change import (
    next_public_key,
    prepare,
    switch,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PrivateKey, PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan

FIRST = PrivateKey.from_text(key(1, "private"))


class Stop(Exception):
    """The host fails at this very moment."""


class Host:
    def __init__(self, directory: Path) -> None:
        self.file = directory / "wg0.key"
        self.next_file = directory / "wg0.key.next"
        self.file.write_text(f"{FIRST.text}\n")
        self.file.chmod(0o600)
        self.device = MemoryDevice("wg0")
        self.boot()

    def boot(self) -> None:
        """What lethe-interface@ does, and site.yml."""
        self.device.configure(private_key=self.on_disk())

    def on_disk(self) -> PrivateKey:
        return PrivateKey.from_text(self.file.read_text().strip())

    @property
    def present(self) -> PublicKey | None:
        return self.device.settings().public_key


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_next_key_is_made_once_and_nothing_uses_it(host: Host) -> None:
    first = prepare(host.device, host.file)
    assert first.steps == ["next key created"]
    assert first.present == host.present == FIRST.public_key()
    assert first.next == next_public_key(host.device, host.file) != first.present
    assert stat.S_IMODE(host.next_file.stat().st_mode) == 0o600
    assert host.on_disk() == FIRST
    again = prepare(host.device, host.file)
    assert (again.next, again.steps) == (first.next, [])


def test_the_switch_takes_it_and_leaves_nothing_of_the_key_before(host: Host) -> None:
    host.device.apply(Plan(added=[Peer(PublicKey.from_text(key(2)))]))
    peers = dict(host.device.peers)
    coming = prepare(host.device, host.file).next
    with host.file.open("rb") as before:
        switched = switch(host.device, host.file)
        assert before.read() == bytes(45)  # the blocks of the file that is gone
    assert switched.steps == ["key file", "private_key"]
    assert switched.present == host.present == host.on_disk().public_key() == coming
    assert switched.next is None
    assert list(host.file.parent.iterdir()) == [host.file]
    assert stat.S_IMODE(host.file.stat().st_mode) == 0o600
    assert host.device.peers == peers
    assert switch(host.device, host.file).steps == []


def test_without_a_next_key_there_is_nothing_to_switch_to(host: Host) -> None:
    assert switch(host.device, host.file).steps == []
    assert host.present == FIRST.public_key()
    assert next_public_key(host.device, host.file) is None


def test_check_mode_tells_and_changes_nothing(host: Host) -> None:
    told = prepare(host.device, host.file, check=True)
    assert (told.next, told.steps) == (None, ["next key created"])
    assert not host.next_file.exists()
    coming = prepare(host.device, host.file).next
    told = switch(host.device, host.file, check=True)
    assert (told.present, told.steps) == (coming, ["key file", "private_key"])
    assert host.next_file.exists()
    assert host.present == FIRST.public_key()


def fails_before_the_file(monkeypatch: pytest.MonkeyPatch, _host: Host) -> None:
    monkeypatch.setattr(key_change.os, "replace", stop)


def fails_before_the_kernel(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    monkeypatch.setattr(host.device, "configure", stop)


def fails_when_all_is_done(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    configure = host.device.configure

    def last(private_key: PrivateKey) -> None:
        configure(private_key=private_key)
        stop()

    monkeypatch.setattr(host.device, "configure", last)


def stop(*_: object, **__: object) -> None:
    raise Stop


@pytest.mark.parametrize("boots", [True, False], ids=["boots", "stays up"])
@pytest.mark.parametrize("fails", [fails_before_the_file, fails_before_the_kernel, fails_when_all_is_done])
def test_a_switch_that_fails_at_any_point_is_ended_by_the_same_again(
    host: Host, fails: Callable[[pytest.MonkeyPatch, Host], None], boots: bool
) -> None:
    coming = prepare(host.device, host.file).next
    with pytest.MonkeyPatch.context() as patch:
        fails(patch, host)
        with pytest.raises(Stop):
            switch(host.device, host.file)
    if boots:
        host.boot()
    # What clients are told meanwhile: never a third key, and the coming one as long as it is not in use.
    assert host.present in (FIRST.public_key(), coming)
    assert next_public_key(host.device, host.file) == (None if host.present == coming else coming)
    if host.present != coming:
        assert prepare(host.device, host.file).next == coming
    switch(host.device, host.file)
    assert host.present == host.on_disk().public_key() == coming
    assert not host.next_file.exists()


def test_a_link_to_the_key_file_stays_one(host: Host, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(host.file)
    coming = prepare(host.device, link).next
    switch(host.device, link)
    assert link.is_symlink()
    assert host.on_disk().public_key() == coming


def test_files_that_hold_no_key_are_named_and_left(host: Host) -> None:
    host.next_file.write_text("nonsense")
    for change in (prepare, switch):
        with pytest.raises(InvalidValue, match=f"{host.next_file}: holds no key"):
            change(host.device, host.file)
    os.unlink(host.next_file)
    os.unlink(host.file)
    with pytest.raises(InvalidValue, match=f"{host.file}: cannot be read"):
        prepare(host.device, host.file)
    assert host.present == FIRST.public_key()
