# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""peers, peer, purge and interface_info on a real kernel, with wg as the witness."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from made_up import address, key, peer

from .conftest import RunModule, Wg, command

LISTED = [
    peer(1, preshared_key=key(1, "preshared")),
    peer(2, persistent_keepalive=25, endpoint="127.0.0.1:4500"),
    peer(3, allowed_ips=[address(3), "fd00::3/128", "172.16.0.0/12"]),
]


def dump(wg: Wg) -> set[tuple[str, ...]]:
    """Peers as (key, preshared key, endpoint, allowed IPs, keepalive)."""
    lines = [line.split("\t") for line in wg("dump").splitlines()[1:]]
    return {(k, psk, endpoint, ips, keepalive) for k, psk, endpoint, ips, _, _, _, keepalive in lines}


WITNESSED = {
    (key(1), key(1, "preshared"), "(none)", address(1), "off"),
    (key(2), "(none)", "127.0.0.1:4500", address(2), "25"),
    (key(3), "(none)", "(none)", f"{address(3)},fd00::3/128,172.16.0.0/12", "off"),
}


@pytest.mark.usefixtures("interface")
def test_peers_are_loaded_changed_and_removed(run: RunModule, wg: Wg) -> None:
    assert run("peers", peers=LISTED, check=True)["counts"]["added"] == 3
    assert dump(wg) == set()

    first = run("peers", peers=LISTED)
    assert first["counts"] == {"wanted": 3, "added": 3, "updated": 0, "removed": 0, "unchanged": 0}
    assert dump(wg) == WITNESSED
    assert not run("peers", peers=LISTED).changed

    second = run("peers", peers=[LISTED[0], {**LISTED[1], "persistent_keepalive": 0}, peer(4)])
    assert second["counts"] == {"wanted": 3, "added": 1, "updated": 1, "removed": 1, "unchanged": 1}
    assert {line[0] for line in dump(wg)} == {key(1), key(2), key(4)}
    assert second.tells(*(key(n) for n in range(5)), key(1, "preshared"), *(address(n) for n in range(5))) == []


@pytest.mark.usefixtures("interface")
def test_thousands_of_peers_come_from_a_file_and_a_second_run_changes_nothing(
    run: RunModule, wg: Wg, tmp_path: Path
) -> None:
    file = tmp_path / "peers.jsonl"
    file.write_text("\n".join(json.dumps(peer(n)) for n in range(2000)))

    assert run("peers", file=str(file))["counts"]["added"] == 2000
    second = run("peers", file=str(file))

    assert not second.changed
    assert second["counts"]["unchanged"] == 2000
    assert len(wg("peers").splitlines()) == 2000


@pytest.mark.usefixtures("interface")
def test_one_peer_is_added_changed_and_revoked(run: RunModule, wg: Wg) -> None:
    run("peers", peers=LISTED)

    assert run("peer", **peer(9, preshared_key=key(9, "preshared")))["action"] == "added"
    assert run("peer", public_key=key(9), allowed_ips=["10.9.9.9"])["action"] == "updated"
    assert (key(9), key(9, "preshared"), "(none)", "10.9.9.9/32", "off") in dump(wg)
    assert run("peer", public_key=key(9), state="absent", check=True)["action"] == "removed"
    assert len(dump(wg)) == 4
    assert run("peer", public_key=key(9), state="absent")["action"] == "removed"
    assert dump(wg) == WITNESSED


@pytest.mark.usefixtures("interface")
def test_an_address_of_another_peer_is_not_taken_from_it(run: RunModule, wg: Wg) -> None:
    run("peers", peers=LISTED)

    outcome = run("peer", public_key=key(9), allowed_ips=[address(1)])

    assert "allowed_ips: one of the addresses already belongs to another peer" in outcome.message
    assert dump(wg) == WITNESSED


def test_the_interface_is_looked_at(run: RunModule, wg: Wg, interface: str) -> None:
    command("ip", "address", "add", "10.64.0.1/10", "dev", interface)
    command("ip", "address", "add", "fd00::1/48", "dev", interface)
    command("ip", "link", "set", interface, "mtu", "1380", "up")
    run("peers", peers=LISTED)

    outcome = run("interface_info", gather=["endpoints", "handshakes", "counters"])

    assert outcome["interface"] == {
        "name": interface,
        "state": "up",
        "public_key": wg("public-key"),
        "listen_port": int(wg("listen-port")),
        "fwmark": 0,
        "mtu": 1380,
        "addresses": ["10.64.0.1/10", "fd00::1/48"],
        "peer_count": 3,
    }
    by_key = {found["public_key"]: found for found in outcome["peers"]}
    assert by_key[key(2)]["endpoint"] == "127.0.0.1:4500"
    assert by_key[key(1)]["has_preshared_key"]
    assert outcome.tells(key(1, "preshared"), wg("private-key")) == []


@pytest.mark.usefixtures("interface")
def test_a_purge_forgets_an_endpoint_and_keeps_the_peer(run: RunModule, wg: Wg, tmp_path: Path) -> None:
    """An endpoint without a handshake is a ghost; the other kinds are tested with real clients."""
    run("peers", peers=LISTED)
    directory = tmp_path / "state"
    assert run("purge", state_directory=str(directory))["purge"]["waiting_ghosts"] == 1
    # The first sight of it, as if it had been three minutes ago.
    (state,) = directory.glob("*.json")
    memory = json.loads(state.read_text())
    seen = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 181_000_000_000
    memory["sightings"] = dict.fromkeys(memory["sightings"], seen)
    state.write_text(json.dumps(memory))

    assert run("purge", state_directory=str(directory), check=True)["purge"]["ghosts"] == 1
    assert dump(wg) == WITNESSED
    outcome = run("purge", state_directory=str(directory))

    assert (outcome.changed, outcome["purge"]["ghosts"]) == (True, 1)
    assert dump(wg) == {(k, psk, "(none)", ips, keepalive) for k, psk, _, ips, keepalive in WITNESSED}
