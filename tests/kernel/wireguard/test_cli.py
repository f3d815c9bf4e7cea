# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lethe command on a real interface."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import made_up
import pytest
from namespaces import run, wg_show

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.cli import main
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan

Captured = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("namespace")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(made_up.key(0, "private") + "\n", encoding="ascii")
    path.chmod(stat.S_IRUSR)
    return path


def up(key_file: Path, *more: str) -> int:
    options = ["--private-key-file", str(key_file), "--listen-port", "1234", "--address", "10.0.0.1/24"]
    return main(["interface", "up", "wg0", *options, *more])


def test_an_interface_comes_up_once_and_goes_down_once(key_file: Path, capsys: Captured) -> None:
    assert up(key_file, "--address", "fd00::1/64", "--mtu", "1300") == 0
    assert "created" in capsys.readouterr().out
    private, _, port, _ = run("wg", "show", "wg0", "dump").split()
    assert port == "1234"
    assert private == run("wg", "show", "wg0", "private-key").strip()
    (link,) = json.loads(run("ip", "-json", "addr", "show", "dev", "wg0"))
    assert link["mtu"] == 1300
    assert "UP" in link["flags"]
    assert {f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]} == {"10.0.0.1/24", "fd00::1/64"}
    assert up(key_file, "--address", "fd00::1/64", "--mtu", "1300") == 0
    assert capsys.readouterr().out == "wg0: nothing to do\n"
    assert main(["interface", "down", "wg0"]) == 0
    assert capsys.readouterr().out == "wg0: removed\n"
    assert main(["interface", "down", "wg0"]) == 0
    assert capsys.readouterr().out == "wg0: nothing to do\n"


def test_a_purge_prints_numbers_and_its_status_the_same(key_file: Path, tmp_path: Path, capsys: Captured) -> None:
    up(key_file)
    peer = Peer(PublicKey.from_text(made_up.key(1)), endpoint=Endpoint.from_text("192.0.2.1:1234"))
    KernelDevice("wg0").apply(Plan(added=[peer]))
    capsys.readouterr()
    state = ["--state-directory", str(tmp_path / "purge")]

    assert main(["purge", "wg0", *state]) == 0

    sentence = capsys.readouterr().out
    assert sentence.startswith(
        "wg0: 1 peers, 0 purged (0 idle, 0 ghosts), 1 ghosts waiting, oldest endpoint 0 s, took "
    )
    assert main(["purge", "--status", *state]) == 0
    status = capsys.readouterr().out
    assert status.partition(": ")[2] == sentence.partition(": ")[2]
    assert main(["purge", "wg0", "--json", *state]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["peers"], figures["waiting_ghosts"]) == (1, 1)
    assert main(["purge", "wg0", "--exempt", made_up.key(1), "--json", *state]) == 0
    assert json.loads(capsys.readouterr().out)["waiting_ghosts"] == 0
    assert wg_show()[peer.public_key.text].endpoint == "192.0.2.1:1234"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["purge", "wg7"], "there is no interface wg7 here"),
        (["purge", "wg0", "--idle-after", "100"], "idle_after: is 100 s, less than WireGuard's session limit"),
        (["purge", "wg0", "--exempt", "c2VjcmV0"], "--exempt: is not a key"),
        (["purge", "../wg0"], "is no name for an interface"),
        (["purge", "lo"], "the interface lo exists and is not a WireGuard interface"),
        (["interface", "up", "lo"], "the interface lo exists and is not a WireGuard interface"),
        (["interface", "down", "lo"], "the interface lo exists and is not a WireGuard interface"),
        (["interface", "up", "wg0", "--address", "10.0.0.1/33"], "--address: is not an address with a prefix"),
        (["interface", "up", "wg0", "--private-key-file", "/nowhere"], "/nowhere: cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_on_one_line(
    key_file: Path, tmp_path: Path, capsys: Captured, arguments: list[str], error: str
) -> None:
    up(key_file)
    capsys.readouterr()
    more = ["--state-directory", str(tmp_path)] if arguments[0] == "purge" else []
    assert main([*arguments, *more]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lethe: ")
    assert error in captured.err
    assert captured.err.count("\n") == 1
    assert "c2VjcmV0" not in captured.err
