# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconciling the kernel's peers: only what differs is sent, and nobody else's session notices."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up import key, peer
from namespaces import wg_show

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue, ShrinkRefused
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.inventory import (
    peers_from_file,
    peers_from_list,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.netlink import WireGuardSocket
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.packed import PackedPeers, pack
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.reconcile import (
    PeerOptions,
    ensure_peer,
    reconcile_peers,
    remove_peer,
)

from .conftest import GATEWAY, Gateway


class Sent(list[dict[str, Any]]):
    """What was sent to the kernel, message by message."""

    @property
    def peers(self) -> bytes:
        return b"".join(message.get("peers", b"") for message in self)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    messages = Sent()
    send = WireGuardSocket.set

    def recording(self: WireGuardSocket, what: str, **settings: Any) -> None:
        messages.append(settings)
        send(self, what, **settings)

    monkeypatch.setattr(WireGuardSocket, "set", recording)
    return messages


def shown_as(wanted: dict[PublicKey, Peer]) -> dict[str, tuple[str, frozenset[str], str]]:
    """How wg shows the configuration of peers."""
    return {
        name.text: (
            "(none)" if one.preshared_key == NO_PRESHARED_KEY else one.preshared_key.text,
            frozenset(one.allowed_ips.texts),
            str(one.persistent_keepalive or "off"),
        )
        for name, one in wanted.items()
    }


def configurations() -> dict[str, tuple[str, frozenset[str], str]]:
    return {name: shown.configuration for name, shown in wg_show().items()}


def record(n: int) -> dict[str, Any]:
    return peer(
        n,
        preshared_key=key(n, "preshared"),
        persistent_keepalive=n % 3,
        allowed_ips=[f"fd00::{n}/128", *peer(n)["allowed_ips"]],
    )


@pytest.mark.parametrize("form", ["lines", "array", "packed"])
def test_a_fleet_from_a_file_is_loaded_and_loading_it_again_sends_nothing(
    device: KernelDevice, sent: Sent, tmp_path: Path, form: str
) -> None:
    records = [record(n) for n in range(600)]
    path = tmp_path / "peers"
    if form == "lines":
        path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="ascii")
    elif form == "array":
        path.write_text(json.dumps(records), encoding="ascii")
    else:
        path.write_bytes(pack(peers_from_list([{**one, "persistent_keepalive": 0} for one in records])))
    wanted = peers_from_file(path)
    assert isinstance(wanted, PackedPeers) == (form == "packed")

    made = reconcile_peers(device, wanted)

    assert made.counts() == {"added": 600, "updated": 0, "removed": 0, "unchanged": 0}
    assert configurations() == shown_as(dict(wanted))
    assert sent
    sent.clear()
    again = reconcile_peers(device, peers_from_file(path))
    assert again.counts() == {"added": 0, "updated": 0, "removed": 0, "unchanged": 600}
    assert sent == []


def test_check_mode_sends_nothing_and_says_the_same(device: KernelDevice, sent: Sent) -> None:
    reconcile_peers(device, peers_from_list([record(n) for n in range(20)]))
    sent.clear()
    wanted = peers_from_list([record(n) for n in range(5, 25)])
    planned = reconcile_peers(device, wanted, check=True)
    assert sent == []
    assert planned == reconcile_peers(device, wanted)
    assert configurations() == shown_as(wanted)


def test_one_change_among_many_sends_that_one_peer(device: KernelDevice, sent: Sent) -> None:
    records = [record(n) for n in range(300)]
    reconcile_peers(device, peers_from_list(records))
    sent.clear()
    records[123]["persistent_keepalive"] = 77
    wanted = peers_from_list(records)
    assert reconcile_peers(device, wanted).counts() == {"added": 0, "updated": 1, "removed": 0, "unchanged": 299}
    assert len(sent) == 1
    assert len(sent.peers) < 100
    assert PublicKey.from_text(key(123)) in sent.peers
    assert PresharedKey.from_text(key(123, "preshared")) not in sent.peers
    assert configurations() == shown_as(wanted)


def test_a_live_session_survives_every_change_that_is_not_its_own(gateway: Gateway) -> None:
    client = gateway.add_client()
    own = gateway.peer_of(client)
    assert client.speaks()
    before = wg_show()[client.public_key.text]
    fleet = {own.public_key: own}
    for n in range(60):
        other = peers_from_list([peer(n)])
        fleet |= other
        if n % 20 == 0:
            reconcile_peers(gateway.device, dict(fleet))
    reconcile_peers(gateway.device, {own.public_key: own}, allow_shrink=True)
    ensure_peer(gateway.device, PeerOptions(PublicKey.from_text(key(1)), persistent_keepalive=1))
    remove_peer(gateway.device, PublicKey.from_text(key(1)))
    gateway.device.configure(fwmark=5)
    assert client.speaks()
    after = wg_show()[client.public_key.text]
    assert after.handshake == before.handshake
    assert after.endpoint == before.endpoint
    assert after.received > before.received
    assert after.sent > before.sent


def test_a_live_session_survives_a_change_of_its_own_allowed_ips_and_keepalive(gateway: Gateway) -> None:
    client = gateway.add_client()
    assert client.speaks()
    before = wg_show()[client.public_key.text]
    for texts in ([f"{client.inner}/32", "10.9.9.9/32"], [f"{client.inner}/32"], ["10.0.0.0/24"]):
        changed = AllowedIPs.from_texts(texts)
        ensure_peer(
            gateway.device, PeerOptions(client.public_key, allowed_ips=changed, persistent_keepalive=len(texts))
        )
        assert wg_show()[client.public_key.text].allowed_ips == set(texts)
        assert client.speaks()
    assert wg_show()[client.public_key.text].handshake == before.handshake


def test_a_removed_peer_is_shut_out_at_once(gateway: Gateway) -> None:
    client, other = gateway.add_client(), gateway.add_client()
    assert client.speaks()
    assert other.speaks()
    assert remove_peer(gateway.device, client.public_key).counts()["removed"] == 1
    assert not client.speaks(1.0)
    assert other.speaks()
    assert client.public_key.text not in wg_show()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_moves_the_kernel_ends_up_with_what_is_wanted(device: KernelDevice, seed: int) -> None:
    """Keys come and go, and addresses move and swap between them, in an order that the dice decide."""
    dice = random.Random(seed)
    networks = ["0.0.0.0/0", "10.0.0.0/8", *(f"10.0.0.{n}/32" for n in range(8)), "::/0", "fd00::1/128", "fd00::2/128"]
    for _ in range(25):
        names = dice.sample(range(8), dice.randint(0, 8))
        shares: dict[int, list[str]] = {n: [] for n in names}
        for network in dice.sample(networks, len(networks)):
            if names and dice.random() < 0.9:
                shares[dice.choice(names)].append(network)
        wanted = peers_from_list(
            [
                {"public_key": key(n), "allowed_ips": share, "persistent_keepalive": dice.choice([0, 0, 25])}
                | ({"preshared_key": key(n, "preshared")} if dice.random() < 0.5 else {})
                for n, share in shares.items()
            ]
        )
        reconcile_peers(device, wanted)
        assert configurations() == shown_as(wanted)
        assert not reconcile_peers(device, wanted, check=True).changed


def test_a_refused_shrink_changes_nothing(device: KernelDevice) -> None:
    wanted = peers_from_list([record(n) for n in range(30)])
    reconcile_peers(device, wanted)
    for broken in ({}, dict(list(wanted.items())[:14])):
        with pytest.raises(ShrinkRefused):
            reconcile_peers(device, broken)
        assert configurations() == shown_as(wanted)
    assert reconcile_peers(device, {}, allow_shrink=True).counts()["removed"] == 30
    assert wg_show() == {}


def test_emptying_a_full_interface_costs_no_time_per_peer(device: KernelDevice) -> None:
    """Removed one by one, each peer would wait for the kernel's grace periods."""
    wanted = peers_from_list([record(n) for n in range(2000)])
    reconcile_peers(device, wanted)
    begin = time.perf_counter()
    reconcile_peers(device, {}, allow_shrink=True)
    assert wg_show() == {}
    assert time.perf_counter() - begin < 5


def test_the_interfaces_own_key_is_refused(device: KernelDevice) -> None:
    device.configure(private_key=GATEWAY)
    own = Peer(GATEWAY.public_key())
    with pytest.raises(InvalidValue, match="is the public key of wg0 itself"):
        reconcile_peers(device, {own.public_key: own})
