# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_module import module
from made_up import address, key, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.interface import (
    InterfaceState,
    address_from_text,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice

from .conftest import RunModule


@pytest.fixture(autouse=True)
def interface(run: RunModule, device: MemoryDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """wg0 with two peers, of which the first is connected."""
    run("peers", peers=[peer(1, preshared_key=key(1, "preshared")), peer(2)])
    device.hear(
        PublicKey.from_text(key(1)),
        endpoint=Endpoint.from_text("198.51.100.7:4500"),
        handshake=1_700_000_000_500_000_000,
        received=20,
        sent=30,
    )
    state = InterfaceState("wg0", True, PublicKey.from_text(key(0)), 51820, 7, 1420, (address_from_text("10.0.0.1/8"),))
    monkeypatch.setattr(module("interface_info"), "read_interface", {"wg0": state}.get)


def test_the_interface_and_its_peers_are_returned(run: RunModule) -> None:
    outcome = run("interface_info")

    assert not outcome.changed
    assert outcome["interface"] == {
        "name": "wg0",
        "state": "up",
        "public_key": key(0),
        "listen_port": 51820,
        "fwmark": 7,
        "mtu": 1420,
        "addresses": ["10.0.0.1/8"],
        "peer_count": 2,
    }
    assert outcome["peers"] == [
        {
            "public_key": key(1),
            "has_preshared_key": True,
            "allowed_ips": [address(1)],
            "persistent_keepalive": 0,
        },
        {
            "public_key": key(2),
            "has_preshared_key": False,
            "allowed_ips": [address(2)],
            "persistent_keepalive": 0,
        },
    ]


@pytest.mark.parametrize(
    ("gather", "values"),
    [
        ("endpoints", {"endpoint": "198.51.100.7:4500"}),
        ("handshakes", {"latest_handshake": 1_700_000_000}),
        ("counters", {"received_bytes": 20, "sent_bytes": 30}),
    ],
)
def test_what_tells_of_a_client_is_returned_only_if_it_is_asked_for(
    run: RunModule, gather: str, values: dict[str, Any]
) -> None:
    usual, asked = run("interface_info")["peers"][0], run("interface_info", gather=[gather])["peers"][0]

    assert asked == {**usual, **values}


def test_peers_that_never_connected_have_nothing_to_tell(run: RunModule) -> None:
    silent = run("interface_info", gather=["endpoints", "handshakes"])["peers"][1]

    assert (silent["endpoint"], silent["latest_handshake"]) == (None, None)


def test_the_number_of_peers_can_be_had_alone(run: RunModule) -> None:
    outcome = run("interface_info", with_peers=False)

    assert outcome["interface"]["peer_count"] == 2
    assert outcome.tells(key(1), key(2), address(1)) == []
    assert "peers" not in outcome.result


def test_no_secret_is_ever_returned_and_nothing_of_a_peer_logged(run: RunModule) -> None:
    outcome = run("interface_info", gather=["endpoints", "handshakes", "counters"])

    assert outcome.tells(key(1, "preshared")) == []
    assert not any(key(1) in line or "198.51.100.7" in line for line in outcome.journal)


def test_an_unknown_interface_is_said_to_be_unknown(run: RunModule) -> None:
    outcome = run("interface_info", interface="wg9")

    assert outcome.message.startswith("there is no interface wg9 here; create it with")


def test_an_unknown_thing_to_gather_is_refused(run: RunModule) -> None:
    assert "endpoints, handshakes, counters" in run("interface_info", gather=["keys"]).message
