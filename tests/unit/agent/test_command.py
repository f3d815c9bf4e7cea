# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands, as far as they need no kernel: what they say, and how they end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import configurations
from device_contract import PRIVATE
from signed import EPOCH, LATER_EPOCH, SIGNING, STRANGER, SignedRegistry, name, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent import memory, status
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.status import InterfaceStatus
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.cli import main
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import device as devices
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.clock import read_clocks
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice

Captured = pytest.CaptureFixture[str]
VERIFY_KEY = SIGNING.verify_key().text


def stands(directory: Path, label: str = "wg0", revision: int | None = 5, epoch: str = EPOCH, **more: Any) -> None:
    """As an agent would write it."""
    one = InterfaceStatus(label, position=None if revision is None else Position(epoch, revision))
    one.heard = read_clocks().boottime
    for field, value in ({"state": "following", "connected": True, "peers": 7} | more).items():
        setattr(one, field, value)
    status.write(directory, [one.as_json(12.34)])


class TestStatus:
    def test_is_a_line_for_each_interface(self, tmp_path: Path, capsys: Captured) -> None:
        stands(tmp_path)
        stands(tmp_path, "wg1", None, state="waiting", error="the registry is away", away_since=read_clocks().boottime)
        assert main(["agent", "status", "--directory", str(tmp_path)]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == (
            "wg0: following, revision 5, 7 peers, as things stood 0 s ago, 0 corrected, oldest endpoint 12 s"
        )
        assert second == "wg1: waiting, for 0 s: the registry is away"

    def test_is_json_for_programs(self, tmp_path: Path, capsys: Captured) -> None:
        stands(tmp_path)
        assert main(["agent", "status", "--json", "--directory", str(tmp_path)]) == 0
        (document,) = json.loads(capsys.readouterr().out)
        assert (document["interface"], document["revision"], document["epoch"]) == ("wg0", 5, EPOCH)
        assert document["oldest_endpoint"] == 12.34

    @pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"written": "x"}'])
    def test_without_an_agent_says_where_to_look(self, tmp_path: Path, capsys: Captured, content: str | None) -> None:
        if content is not None:
            (tmp_path / "wg0.json").write_text(content)
        assert main(["agent", "status", "--directory", str(tmp_path)]) == 1
        assert "systemctl status lethe-key-sync" in capsys.readouterr().err

    def test_that_nobody_writes_any_more_does_not_count(self, tmp_path: Path) -> None:
        stands(tmp_path)
        path = tmp_path / "wg0.json"
        document = json.loads(path.read_text())
        for written in (document["written"] - 60 * 10**9, document["written"] + 60 * 10**9):
            path.write_text(json.dumps(document | {"written": written}))
            assert main(["agent", "status", "--directory", str(tmp_path)]) == 1


class TestWait:
    @staticmethod
    def wait(directory: Path, *more: str, timeout: float = 0.0) -> int:
        return main(["agent", "wait", "--directory", str(directory), "--timeout", str(timeout), *more])

    def test_ends_when_every_interface_is_there(self, tmp_path: Path, capsys: Captured) -> None:
        stands(tmp_path, revision=5)
        stands(tmp_path, "wg1", revision=4)
        assert self.wait(tmp_path, "--revision", "4") == 0
        assert self.wait(tmp_path, "--revision", "5") == 1
        assert "revision 5 was not there after 0 s: wg0: following, revision 5" in capsys.readouterr().err

    def test_a_later_epoch_is_later_whatever_its_revision(self, tmp_path: Path) -> None:
        stands(tmp_path, revision=2, epoch=LATER_EPOCH)
        assert self.wait(tmp_path, "--revision", "5", "--epoch", EPOCH) == 0
        assert self.wait(tmp_path, "--revision", "5", "--epoch", LATER_EPOCH) == 1
        assert self.wait(tmp_path, "--revision", "5") == 1

    def test_without_a_revision_it_is_for_the_connection(self, tmp_path: Path) -> None:
        stands(tmp_path, connected=False, error="away", away_since=read_clocks().boottime)
        assert self.wait(tmp_path) == 1
        stands(tmp_path)
        assert self.wait(tmp_path) == 0

    def test_waits_for_an_agent_as_well(self, tmp_path: Path, capsys: Captured) -> None:
        def later() -> None:
            time.sleep(0.3)
            stands(tmp_path, revision=3)
            time.sleep(0.3)
            stands(tmp_path, revision=5)

        thread = threading.Thread(target=later)
        thread.start()
        assert self.wait(tmp_path, "--revision", "5", "--json", timeout=30.0) == 0
        thread.join()
        assert json.loads(capsys.readouterr().out)[0]["revision"] == 5
        assert self.wait(tmp_path / "nowhere") == 1


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> MemoryDevice:
    """The interface wg0 of `lethe agent apply`."""
    device = MemoryDevice()
    monkeypatch.setattr(devices, "KernelDevice", {"wg0": device}.__getitem__)
    return device


Apply = Callable[..., int]


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    def apply(document: bytes, *more: str, verify_key: str = VERIFY_KEY) -> int:
        path = tmp_path / "snapshot"
        path.write_bytes(document)
        state = str(tmp_path / "state")
        given = ["--interface", "wg0", "--verify-key", verify_key, "--state-directory", state]
        return main(["agent", "apply", str(path), *given, *more])

    return apply


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent import settings

    monkeypatch.setattr(settings, "SETTINGS", Path("/nonexistent"))


class TestApply:
    def test_brings_the_kernel_to_the_snapshot_and_sends_what_is_lacking(
        self, apply: Apply, device: MemoryDevice, capsys: Captured, tmp_path: Path
    ) -> None:
        registry = SignedRegistry(peer(n, preshared=n == 1) for n in range(4))
        device.reinstate([peer(0), peer(9)])
        assert apply(registry.snapshot()) == 0
        assert capsys.readouterr().out == "wg0: revision 4, 4 peers: 3 added, 0 updated, 1 removed\n"
        assert device.read(configurations) == configurations(registry.peers.values())
        assert apply(registry.snapshot(), "--json") == 0
        (done,) = json.loads(capsys.readouterr().out)
        assert done == {
            "interface": "wg0", "epoch": EPOCH, "revision": 4, "peers": 4,
            "added": 0, "updated": 0, "removed": 0, "unchanged": 4, "changed": False,
        }  # fmt: skip
        assert memory.read_position(memory.path_of(tmp_path / "state", "wg0")) == registry.position

    def test_changes_nothing_where_it_only_checks(
        self, apply: Apply, device: MemoryDevice, capsys: Captured, tmp_path: Path
    ) -> None:
        registry = SignedRegistry(peer(n) for n in range(4))
        device.reinstate([peer(0), peer(9)])
        before = device.read(configurations)
        assert apply(registry.snapshot(), "--check") == 0
        assert capsys.readouterr().out == "wg0: revision 4, 4 peers: 3 added, 0 updated, 1 removed\n"
        assert device.read(configurations) == before
        assert memory.read_position(memory.path_of(tmp_path / "state", "wg0")) is None

    def test_refuses_what_is_older_forged_or_cut_off(
        self, apply: Apply, device: MemoryDevice, capsys: Captured
    ) -> None:
        registry = SignedRegistry(peer(n) for n in range(4))
        old = registry.snapshot()
        registry.change(removed=[name(0)])
        assert apply(registry.snapshot()) == 0
        before = device.read(configurations)
        for document in (old, registry.snapshot(STRANGER), registry.snapshot()[:-1], b"", registry.heartbeat()):
            assert apply(document) == 1
            assert device.read(configurations) == before
        assert "revision 5 was applied here before" in capsys.readouterr().err

    def test_is_guarded(self, apply: Apply, device: MemoryDevice, capsys: Captured) -> None:
        registry = SignedRegistry(peer(n) for n in range(30))
        assert apply(registry.snapshot()) == 0
        registry.change(removed=[name(n) for n in range(20)])
        assert apply(registry.snapshot()) == 1
        assert "lethe agent apply --shrink-limit" in capsys.readouterr().err
        assert len(device.peers) == 30
        assert apply(registry.snapshot(), "--shrink-limit", "100") == 0
        assert len(device.peers) == 10

    def test_leaves_alone_whom_it_is_told_to_and_the_interface_itself(self, apply: Apply, device: MemoryDevice) -> None:
        device.configure(private_key=PRIVATE)
        device.reinstate([peer(9)])
        own = peer(8)._replace(public_key=PRIVATE.public_key())
        registry = SignedRegistry([peer(0), own])
        assert apply(registry.snapshot(), "--leave-alone", name(9).text) == 0
        assert device.peers.keys() == {name(0), name(9)}

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["--verify-key", VERIFY_KEY], "--interface: is missing"),
            (["--interface", "wg0"], "--verify-key: is missing"),
            (["--interface", "wg0", "--verify-key", "c2VjcmV0"], "--verify-key[0]: is not a key"),
            (["--interface", "wg0", "--verify-key", VERIFY_KEY, "--leave-alone", "c2VjcmV0"], "--leave-alone: is not"),
            (["--interface", "wg0", "--verify-key", VERIFY_KEY], "/nowhere: cannot be read"),
            (["--settings", "/nowhere", "--interface", "wg0"], "/nowhere: cannot be read"),
        ],
    )
    def test_says_what_it_lacks(self, capsys: Captured, arguments: list[str], error: str) -> None:
        assert main(["agent", "apply", "/nowhere", *arguments]) == 1
        captured = capsys.readouterr()
        assert error in captured.err
        assert "c2VjcmV0" not in captured.err
