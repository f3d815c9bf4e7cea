# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from made_up import address, key, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey, fingerprint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice

from .conftest import RunModule


def keys(device: MemoryDevice) -> set[str]:
    return {public_key.text for public_key in device.peers}


def named(number: int) -> str:
    return fingerprint(PublicKey.from_text(key(number)))


def test_the_listed_peers_and_no_others_are_there(run: RunModule, device: MemoryDevice) -> None:
    run("peers", peers=[peer(1), peer(2), peer(3)])

    second = run("peers", peers=[peer(2), peer(3, persistent_keepalive=25), peer(4)])

    assert second.changed
    assert second["counts"] == {"wanted": 3, "added": 1, "updated": 1, "removed": 1, "unchanged": 1}
    assert keys(device) == {key(2), key(3), key(4)}


def test_a_second_run_changes_nothing(run: RunModule) -> None:
    listed = [peer(1, preshared_key=key(1, "preshared"), persistent_keepalive=25), peer(2, endpoint="192.0.2.1:5182")]
    assert run("peers", peers=listed).changed

    second = run("peers", peers=listed)

    assert not second.changed
    assert second["counts"]["unchanged"] == 2


def test_check_mode_tells_the_same_and_changes_nothing(run: RunModule, device: MemoryDevice) -> None:
    run("peers", peers=[peer(1), peer(2)])
    before = dict(device.peers)
    listed = [peer(2, persistent_keepalive=7), peer(3)]

    predicted = run("peers", peers=listed, check=True)

    assert device.peers == before
    assert predicted["counts"] == run("peers", peers=listed)["counts"]


def test_unlisted_peers_can_be_kept(run: RunModule, device: MemoryDevice) -> None:
    run("peers", peers=[peer(1)])

    second = run("peers", peers=[peer(2)], remove_unlisted=False)

    assert second["counts"] == {"wanted": 1, "added": 1, "updated": 0, "removed": 0, "unchanged": 1}
    assert keys(device) == {key(1), key(2)}


def test_the_diff_names_peers_by_fingerprint_and_tells_which_fields_change(run: RunModule) -> None:
    run("peers", peers=[peer(1), peer(2), peer(3)])

    second = run(
        "peers",
        peers=[peer(2, persistent_keepalive=9, preshared_key=key(2, "preshared")), peer(3), peer(4)],
    )

    assert second.diff.splitlines() == [
        "3 peers",
        f"peer {named(1)}",
        f"peer {named(2)}: other preshared_key, persistent_keepalive",
        "---",
        "3 peers",
        f"peer {named(2)}: wanted preshared_key, persistent_keepalive",
        f"peer {named(4)}: allowed_ips (1)",
    ]


def test_the_diff_tells_how_many_allowed_ips_a_peer_gets(run: RunModule) -> None:
    run("peers", peers=[peer(1), peer(2)])

    second = run(
        "peers",
        peers=[
            peer(1, allowed_ips=[address(1), address(11), address(12)]),
            peer(2, allowed_ips=[address(21)]),
        ],
    )

    assert f"peer {named(1)}: wanted allowed_ips (2 more)" in second.diff
    assert f"peer {named(2)}: wanted allowed_ips (1)" in second.diff


def test_the_diff_lists_twenty_peers_at_most(run: RunModule) -> None:
    run("peers", peers=[peer(n) for n in range(15)])

    second = run("peers", peers=[peer(n) for n in range(10, 60)])

    lines = second.diff.splitlines()
    assert len([line for line in lines if line.startswith("peer ")]) == 20
    assert lines.count("... and 35 more") == 2


def test_numbers_are_shown_though_they_are_part_of_a_hidden_option(run: RunModule) -> None:
    counts = run("peers", peers=[peer(n, persistent_keepalive=1) for n in range(1, 12)])["counts"]

    assert counts == {"wanted": 11, "added": 11, "updated": 0, "removed": 0, "unchanged": 0}


def test_nothing_tells_a_key_an_address_or_an_endpoint(run: RunModule) -> None:
    secrets = [key(1), key(2), key(2, "preshared"), address(1), address(2), address(1)[:-3], "198.51.100.77"]
    secrets += [key(7), key(7).rstrip("="), address(7), key(8)]
    listed = [peer(1, endpoint="198.51.100.77:4500"), peer(2, preshared_key=key(2, "preshared"))]

    for outcome in (
        run("peers", peers=listed, check=True),
        run("peers", peers=listed),
        run("peers", peers=[]),
        run("peers", peers=[*listed, peer(1)]),
        run("peers", peers=[*listed, peer(3, allowed_ips=[address(1)])]),
        run("peers", peers=[*listed, peer(3, persistent_keepalive=key(7))]),
        run("peers", peers=[*listed, peer(3, allowed_ips={key(7): address(7)})]),
        run("peers", peers=[*listed, {key(7): address(7)}]),
        run("peers", peers=[*listed, [key(7)]]),
        run("peers", peers=[key(7), key(8)]),
        run("peers", peers=key(7)),
        run("peers", peers=listed, unknown=True),
    ):
        assert outcome.tells(*secrets) == []
        assert outcome.journal or outcome.failed


@pytest.mark.parametrize("lines", [True, False], ids=["JSON lines", "JSON array"])
def test_peers_come_from_a_file(run: RunModule, device: MemoryDevice, tmp_path: Path, lines: bool) -> None:
    file = tmp_path / "peers"
    records = [peer(n) for n in range(5000)]
    file.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))

    outcome = run("peers", file=str(file))

    assert outcome["counts"]["added"] == len(device.peers) == 5000
    assert len(json.dumps(outcome.result)) < 4000


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"public_key": "x"}\n', "line 1.public_key: is not a key"),
        ("{}\n", "line 1.public_key: is missing"),
        (json.dumps(peer(1, allowed_ips="10.1.2.3/32")) + "\n", "line 1.allowed_ips: is not a list"),
        ("[1]", "peers[0].peer: is not an object"),
        ("{\n", "line 1: is not JSON"),
        ("\xff", "is not UTF-8"),
    ],
)  # fmt: skip
def test_a_fault_in_a_file_is_named_by_its_place(
    run: RunModule, device: MemoryDevice, tmp_path: Path, content: str, complaint: str
) -> None:
    file = tmp_path / "peers"
    file.write_bytes(content.encode("latin-1"))

    outcome = run("peers", file=str(file))

    assert outcome.failed
    assert complaint in outcome.message
    assert str(file) in outcome.message
    assert not device.peers


def test_a_file_that_is_not_there_is_said_to_be_not_there(run: RunModule) -> None:
    outcome = run("peers", file="/nowhere/peers")

    assert (
        outcome.message
        == "/nowhere/peers: cannot be read: No such file or directory; give the path of a file on this host"
    )


SHORT_KEY = base64.b64encode(b"short").decode()


@pytest.mark.parametrize(
    ("listed", "complaint"),
    [
        ([peer(1), {"allowed_ips": ["10.0.0.1/32"]}], "peers[1].public_key: is missing"),
        ([{"public_key": SHORT_KEY}], "peers[0].public_key: is not a key"),
        ([peer(1, preshared_key="secret")], "peers[0].preshared_key: is not a key"),
        ([peer(1, allowed_ips=["10.0.0.1/33"])], "peers[0].allowed_ips[0]: has a bad prefix"),
        ([peer(1, allowed_ips=["10.0.0.1/24"])], "peers[0].allowed_ips[0]: has bits set beyond its /24"),
        ([peer(1, allowed_ips=["fd00::1/129"])], "peers[0].allowed_ips[0]: has a bad prefix"),
        ([peer(1, allowed_ips=["10.0.0.1/32", "ten"])], "peers[0].allowed_ips[1]: is not an IP address"),
        ([peer(1, allowed_ips="10.0.0.1/32")], "peers[0].allowed_ips: is not a list"),
        ([peer(1, persistent_keepalive="25")], "peers[0].persistent_keepalive: is not a time"),
        ([peer(1, persistent_keepalive=65536)], "peers[0].persistent_keepalive: is not a time"),
        ([peer(1, endpoint="vpn.example.org:51820")], "peers[0].endpoint: is not an IP address and a port"),
        ([peer(1, endpoint="192.0.2.1")], "peers[0].endpoint: has no valid port"),
        ([peer(1), peer(2), peer(1)], "peers[2].public_key: is that of an earlier peer too"),
        ([peer(1), peer(2, allowed_ips=[address(1)])], "peers[1].allowed_ips: has an address that an earlier peer has"),
    ],
)
def test_a_fault_in_a_list_is_named_by_its_place(
    run: RunModule, device: MemoryDevice, listed: list[dict[str, Any]], complaint: str
) -> None:
    outcome = run("peers", peers=listed)

    assert outcome.failed
    assert complaint in outcome.message
    assert ";" in outcome.message, "the next step is missing"
    assert not device.peers


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "one of the following is required: peers, file"),
        ({"peers": [], "file": "/run/peers"}, "parameters are mutually exclusive: peers|file"),
        ({"peers": [], "shrink_limit": 101}, "shrink_limit: is 101; give a percentage from 0 to 100"),
        ({"peers": [], "shrink_limit": -1}, "shrink_limit: is -1"),
        ({"peers": [{"publickey": "x"}]}, "peers[0].publickey: is not a field of a peer; use one of allowed_ips"),
    ],
)
def test_options_that_make_no_sense_are_refused(run: RunModule, options: dict[str, Any], complaint: str) -> None:
    outcome = run("peers", **options)

    assert outcome.failed
    assert complaint in outcome.message


def test_a_truncated_list_is_refused_unless_it_is_allowed(run: RunModule, device: MemoryDevice) -> None:
    run("peers", peers=[peer(n) for n in range(30)])

    refused = run("peers", peers=[peer(n) for n in range(10)])

    assert refused.failed
    assert "would remove 20 of 30 peers, more than the shrink limit of 50 %" in refused.message
    assert "allow_shrink" in refused.message
    assert len(device.peers) == 30
    assert run("peers", peers=[peer(n) for n in range(10)], shrink_limit=70)["counts"]["removed"] == 20
    assert run("peers", peers=[], allow_shrink=True)["counts"]["removed"] == 10
