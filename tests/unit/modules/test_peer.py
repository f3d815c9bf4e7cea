# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from made_up import address, key, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PrivateKey, PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice

from .conftest import RunModule


def test_a_peer_is_added_once(run: RunModule, device: MemoryDevice) -> None:
    assert run("peer", **peer(1))["action"] == "added"
    assert run("peer", **peer(1))["action"] == "unchanged"
    assert device.peers[PublicKey.from_text(key(1))].allowed_ips.texts == [address(1)]


def test_what_is_not_given_is_left_as_it_is(run: RunModule, device: MemoryDevice) -> None:
    run("peer", **peer(1, preshared_key=key(1, "preshared"), persistent_keepalive=25, endpoint="192.0.2.1:1"))

    assert run("peer", public_key=key(1), persistent_keepalive=0)["action"] == "updated"

    state = device.peers[PublicKey.from_text(key(1))]
    assert state.preshared_key.text == key(1, "preshared")
    assert state.allowed_ips.texts == [address(1)]
    assert state.endpoint is not None
    assert state.persistent_keepalive == 0


def test_a_revoked_peer_is_gone_and_the_others_stay(run: RunModule, device: MemoryDevice) -> None:
    run("peers", peers=[peer(n) for n in range(5)])

    revoked = run("peer", public_key=key(3), state="absent")

    assert revoked["action"] == "removed"
    assert {k.text for k in device.peers} == {key(0), key(1), key(2), key(4)}
    assert run("peer", public_key=key(3), state="absent")["action"] == "unchanged"


@pytest.mark.parametrize("options", [peer(1), {"public_key": key(2), "state": "absent"}], ids=["present", "absent"])
def test_check_mode_tells_the_same_and_changes_nothing(
    run: RunModule, device: MemoryDevice, options: dict[str, Any]
) -> None:
    run("peer", **peer(2))
    before = dict(device.peers)

    predicted = run("peer", check=True, **options)

    assert device.peers == before
    assert predicted.result["action"] == run("peer", **options)["action"] != "unchanged"


def test_nothing_tells_a_key_an_address_or_an_endpoint(run: RunModule) -> None:
    secrets = [key(1), key(1, "preshared"), address(1), address(1)[:-3], "198.51.100.77"]
    options = peer(1, preshared_key=key(1, "preshared"), endpoint="198.51.100.77:4500", persistent_keepalive=5)

    for outcome in (
        run("peer", check=True, **options),
        run("peer", **options),
        run("peer", **{**options, "endpoint": "198.51.100.77"}),
        run("peer", **{**options, "public_key": key(2)}),
        run("peer", **{**options, "state": "gone"}),
        run("peer", public_key=key(1), state="absent"),
    ):
        assert outcome.tells(*secrets) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "missing required arguments: public_key"),
        ({"public_key": "nonsense"}, "public_key: is not a key"),
        ({"public_key": "nonsense", "state": "absent"}, "public_key: is not a key"),
        (peer(1, preshared_key=key(1)[1:]), "preshared_key: is not a key"),
        (peer(1, allowed_ips=["10.0.0.0/40"]), "allowed_ips[0]: has a bad prefix; an IPv4 prefix is a number from 0"),
        (peer(1, allowed_ips=["10.0.0.1/8"]), "allowed_ips[0]: has bits set beyond its /8"),
        (peer(1, persistent_keepalive=-1), "persistent_keepalive: is not a time; write seconds from 0 (off) to 65535"),
        (peer(1, endpoint="[2001:db8::1]:0"), "endpoint: has no valid port"),
        (peer(1, allowed_ips=[address(9)]), "allowed_ips: one of the addresses already belongs to another peer"),
        ({"public_key": PrivateKey(bytes(32)).public_key().text}, "public_key: is the public key of wg0 itself"),
    ],
)  # fmt: skip
def test_a_fault_is_named_and_nothing_is_changed(
    run: RunModule, device: MemoryDevice, options: dict[str, Any], complaint: str
) -> None:
    run("peer", **peer(9))

    outcome = run("peer", **options)

    assert outcome.failed
    assert complaint in outcome.message
    assert len(device.peers) == 1
