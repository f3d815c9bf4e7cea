# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from pathlib import Path

import pytest
from made_up import key, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice

from .conftest import RunModule


@pytest.fixture
def silent(run: RunModule, device: MemoryDevice) -> MemoryDevice:
    """An interface with peers whose handshakes were 10, 170 and 400 s ago, and one that never had any."""
    run("peers", peers=[peer(n) for n in range(4)])
    for number, age in enumerate((10, 170, 400)):
        device.hear(
            PublicKey.from_text(key(number)),
            endpoint=Endpoint.from_text(f"198.51.100.{number}:4500"),
            handshake=time.time_ns() - age * 1_000_000_000,
        )
    return device


def endpoints(device: MemoryDevice) -> int:
    return sum(state.endpoint is not None for state in device.peers.values())


def test_idle_peers_are_forgotten_and_stay_peers(run: RunModule, silent: MemoryDevice, tmp_path: Path) -> None:
    outcome = run("purge", state_directory=str(tmp_path))

    assert outcome.changed
    assert outcome["purge"]["peers"] == len(silent.peers) == 4
    assert (outcome["purge"]["idle"], outcome["purge"]["ghosts"], outcome["purge"]["purged"]) == (1, 0, 1)
    assert 170 <= outcome["purge"]["oldest_endpoint_age"] < 180
    assert endpoints(silent) == 2
    assert not run("purge", state_directory=str(tmp_path)).changed


def test_check_mode_counts_and_forgets_nobody(run: RunModule, silent: MemoryDevice, tmp_path: Path) -> None:
    outcome = run("purge", state_directory=str(tmp_path), check=True)

    assert outcome["purge"]["idle"] == 1
    assert outcome.diff == "1 idle peers\n0 ghosts\n---\n0 idle peers\n0 ghosts\n"
    assert endpoints(silent) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_exempt_peer_is_left_alone(run: RunModule, silent: MemoryDevice, tmp_path: Path) -> None:
    outcome = run("purge", state_directory=str(tmp_path), exempt=[key(2)])

    assert not outcome.changed
    assert endpoints(silent) == 3


@pytest.mark.usefixtures("silent")
def test_only_numbers_are_told(run: RunModule, tmp_path: Path) -> None:
    outcome = run("purge", state_directory=str(tmp_path), exempt=[key(0)])

    assert outcome.tells(*(key(n) for n in range(4)), "198.51.100", "10.64.0") == []
    assert all(isinstance(value, (int, float)) for value in outcome["purge"].values())


def test_a_time_in_which_a_session_may_live_is_refused(run: RunModule, silent: MemoryDevice) -> None:
    outcome = run("purge", idle_after=179)

    assert outcome.message.startswith("idle_after: is 179 s, less than WireGuard's session limit; give 180 or more")
    assert endpoints(silent) == 3


def test_an_exempt_key_that_is_none_is_named(run: RunModule, silent: MemoryDevice) -> None:
    outcome = run("purge", exempt=[key(2), "nonsense"])

    assert outcome.message.startswith("exempt[1]: is not a key")
    assert endpoints(silent) == 3


@pytest.mark.usefixtures("silent")
def test_a_state_directory_that_cannot_be_used_is_named(run: RunModule, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    outcome = run("purge", state_directory=str(tmp_path / "file"))

    assert outcome.failed
    assert str(tmp_path / "file") in outcome.message
