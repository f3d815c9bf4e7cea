# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every WireGuard device does, the kernel's and the one in memory: the same tests run on both.

A test module takes them over with `from device_contract import *` and gives a fixture ``device``: an interface
``wg0`` without peers and without a private key.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs, Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import Device
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PrivateKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import (
    Configuration,
    ConfiguredPeersInOrder,
    Peer,
    PeerState,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import PeerUpdate, Plan

A, B, C = (PublicKey.from_text(key(n)) for n in range(3))
PSK = PresharedKey.from_text(key(0, "preshared"))
OTHER_PSK = PresharedKey.from_text(key(1, "preshared"))
PRIVATE = PrivateKey.from_text(key(0, "private"))
ENDPOINT = Endpoint.from_text("192.0.2.1:1234")
ENDPOINT6 = Endpoint.from_text("[2001:db8::1]:1234")


def ips(*texts: str) -> AllowedIPs:
    return AllowedIPs.from_texts(texts)


def states(device: Device) -> dict[PublicKey, PeerState]:
    return device.read(lambda found: {state.public_key: state for state in found})


def texts(device: Device) -> dict[PublicKey, list[str]]:
    """Each peer's allowed IPs, sorted: their order is the device's affair."""
    return {name: sorted(state.allowed_ips.texts) for name, state in states(device).items()}


def add(device: Device, *peers: Peer) -> None:
    device.apply(Plan(added=list(peers)))


def update(device: Device, *updates: PeerUpdate) -> None:
    device.apply(Plan(updated=list(updates)))


def fresh(peer: Peer) -> PeerState:
    """The state of a peer that nobody has spoken to."""
    return PeerState(*peer, handshake=0, received=0, sent=0)


def test_a_new_device_has_no_peers_and_no_key(device: Device) -> None:
    assert states(device) == {}
    assert device.settings().public_key is None
    assert device.settings().fwmark == 0


def test_settings_that_are_not_given_stay(device: Device) -> None:
    device.configure(private_key=PRIVATE, listen_port=1111, fwmark=7)
    device.configure(listen_port=2222)
    assert device.settings() == (PRIVATE.public_key(), 2222, 7)
    device.configure()
    assert device.settings() == (PRIVATE.public_key(), 2222, 7)
    device.configure(fwmark=0)
    assert device.settings() == (PRIVATE.public_key(), 2222, 0)


@pytest.mark.parametrize(
    "peer",
    [
        Peer(A),
        Peer(A, PSK, 25, ips("10.0.0.1/32", "fd00::1/128", "10.1.0.0/16", "fd01::/64"), ENDPOINT),
        Peer(A, NO_PRESHARED_KEY, 65535, ips("0.0.0.0/0", "::/0"), ENDPOINT6),
    ],
    ids=["bare", "full", "wide"],
)
def test_an_added_peer_is_read_as_it_was_given(device: Device, peer: Peer) -> None:
    add(device, peer)
    assert states(device) == {A: fresh(peer)}


def test_a_peer_added_again_is_replaced_but_for_its_endpoint(device: Device) -> None:
    add(device, Peer(A, PSK, 25, ips("10.0.0.1/32", "10.0.0.2/32"), ENDPOINT))
    add(device, Peer(A, OTHER_PSK, 0, ips("10.0.0.3/32")))
    assert states(device) == {A: fresh(Peer(A, OTHER_PSK, 0, ips("10.0.0.3/32"), ENDPOINT))}


def test_peers_that_come_as_configurations_are_added_like_others(device: Device) -> None:
    device.configure(private_key=PRIVATE)
    own = Peer(PRIVATE.public_key(), allowed_ips=ips("10.0.0.9/32"))
    add(device, Peer(A, PSK, 25, ips("10.0.0.1/32"), ENDPOINT), Peer(B, PSK, 0, ips("10.0.0.2/32", "10.0.0.4/32")))
    again, new = Peer(A, OTHER_PSK, 5, ips("10.0.0.3/32", "fd00::1/128")), Peer(C, PSK, 0, ips("10.0.0.2/32"))
    configured = ((peer.public_key, Configuration.of(peer)) for peer in (again, new, own))
    device.apply(Plan(added=ConfiguredPeersInOrder(configured)))
    assert states(device) == {
        A: fresh(again._replace(endpoint=ENDPOINT)),
        B: fresh(Peer(B, PSK, 0, ips("10.0.0.4/32"))),
        C: fresh(new),
    }


def test_an_update_changes_what_it_says_and_nothing_else(device: Device) -> None:
    whole = Peer(A, PSK, 25, ips("10.0.0.1/32"), ENDPOINT)
    other = Peer(B, OTHER_PSK, 5, ips("10.0.0.9/32"), ENDPOINT6)
    add(device, whole, other)
    steps = (
        (PeerUpdate(A, preshared_key=OTHER_PSK), {"preshared_key": OTHER_PSK}),
        (PeerUpdate(A, preshared_key=NO_PRESHARED_KEY), {"preshared_key": NO_PRESHARED_KEY}),
        (PeerUpdate(A, persistent_keepalive=0), {"persistent_keepalive": 0}),
        (PeerUpdate(A, endpoint=ENDPOINT6), {"endpoint": ENDPOINT6}),
        (PeerUpdate(A, allowed_ips=ips("10.0.0.2/32")), {"allowed_ips": ips("10.0.0.2/32")}),
        (PeerUpdate(A, allowed_ips=ips()), {"allowed_ips": ips()}),
    )
    for change, difference in steps:
        update(device, change)
        whole = whole._replace(**difference)  # type: ignore[arg-type]
        assert states(device) == {A: fresh(whole), B: fresh(other)}


def test_an_update_can_keep_the_other_allowed_ips(device: Device) -> None:
    add(device, Peer(A, allowed_ips=ips("10.0.0.1/32")))
    update(device, PeerUpdate(A, allowed_ips=ips("10.0.0.2/32"), keep_other_allowed_ips=True))
    assert texts(device) == {A: ["10.0.0.1/32", "10.0.0.2/32"]}


def test_an_update_of_a_peer_that_is_gone_does_not_bring_it_back(device: Device) -> None:
    update(device, PeerUpdate(A, preshared_key=PSK, persistent_keepalive=5, endpoint=ENDPOINT, allowed_ips=ips("::/0")))
    assert states(device) == {}


def test_a_removed_peer_and_its_allowed_ips_are_gone(device: Device) -> None:
    add(device, Peer(A, allowed_ips=ips("10.0.0.1/32")), Peer(B, allowed_ips=ips("10.0.0.2/32")))
    device.apply(Plan(removed=[A], unchanged=1))
    assert texts(device) == {B: ["10.0.0.2/32"]}
    add(device, Peer(C, allowed_ips=ips("10.0.0.1/32")))
    assert texts(device) == {B: ["10.0.0.2/32"], C: ["10.0.0.1/32"]}


def test_removing_a_peer_that_is_not_there_is_no_error(device: Device) -> None:
    add(device, Peer(A))
    device.apply(Plan(removed=[B], unchanged=1))
    assert states(device).keys() == {A}


def test_an_allowed_ip_belongs_to_the_peer_that_took_it_last(device: Device) -> None:
    add(device, Peer(A, allowed_ips=ips("10.0.0.1/32", "10.0.0.2/32")), Peer(B, allowed_ips=ips("10.0.0.2/32")))
    assert texts(device) == {A: ["10.0.0.1/32"], B: ["10.0.0.2/32"]}
    update(device, PeerUpdate(A, allowed_ips=ips("10.0.0.2/32"), keep_other_allowed_ips=True))
    assert texts(device) == {A: ["10.0.0.1/32", "10.0.0.2/32"], B: []}


def test_an_allowed_ip_that_is_given_twice_is_there_once(device: Device) -> None:
    twice = AllowedIPs(ips("10.0.0.1/32", "10.0.0.2/32") + ips("10.0.0.1/32"))
    add(device, Peer(A, allowed_ips=twice))
    assert texts(device) == {A: ["10.0.0.1/32", "10.0.0.2/32"]}
    update(device, PeerUpdate(A, allowed_ips=ips("10.0.0.1/32", "10.0.0.3/32"), keep_other_allowed_ips=True))
    assert texts(device) == {A: ["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"]}


def test_networks_inside_one_another_can_be_of_two_peers(device: Device) -> None:
    add(device, Peer(A, allowed_ips=ips("10.0.0.0/8")), Peer(B, allowed_ips=ips("10.0.0.0/24", "10.0.0.0/32")))
    assert texts(device) == {A: ["10.0.0.0/8"], B: ["10.0.0.0/24", "10.0.0.0/32"]}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_peers_can_swap_their_allowed_ips(device: Device, order: Iterable[int]) -> None:
    add(device, Peer(A, allowed_ips=ips("10.0.0.1/32", "::/0")), Peer(B, allowed_ips=ips("10.0.0.2/32")))
    swap = [PeerUpdate(A, allowed_ips=ips("10.0.0.2/32")), PeerUpdate(B, allowed_ips=ips("10.0.0.1/32", "::/0"))]
    update(device, *(swap[i] for i in order))
    assert texts(device) == {A: ["10.0.0.2/32"], B: ["10.0.0.1/32", "::/0"]}


def test_removals_come_before_updates_and_updates_before_additions(device: Device) -> None:
    add(device, Peer(A, allowed_ips=ips("10.0.0.1/32")), Peer(B, allowed_ips=ips("10.0.0.2/32")))
    device.apply(
        Plan(
            added=[Peer(C, allowed_ips=ips("10.0.0.2/32"))],
            updated=[PeerUpdate(B, allowed_ips=ips("10.0.0.1/32"))],
            removed=[A],
        )
    )
    assert texts(device) == {B: ["10.0.0.1/32"], C: ["10.0.0.2/32"]}


def test_a_plan_that_removes_all_can_add_others(device: Device) -> None:
    add(device, Peer(A, allowed_ips=ips("10.0.0.1/32")))
    plan = Plan(removed=[A], added=[Peer(B, allowed_ips=ips("10.0.0.1/32"))])
    assert plan.removes_all
    device.apply(plan)
    assert texts(device) == {B: ["10.0.0.1/32"]}


def test_an_empty_plan_changes_nothing(device: Device) -> None:
    add(device, Peer(A, PSK))
    before = states(device)
    device.apply(Plan(unchanged=1))
    assert states(device) == before


def test_reinstating_forgets_the_endpoint_and_keeps_the_rest(device: Device) -> None:
    kept = Peer(A, PSK, 25, ips("10.0.0.1/32", "fd00::1/128"))
    other = Peer(B, OTHER_PSK, 5, ips("10.0.0.9/32"), ENDPOINT6)
    add(device, kept._replace(endpoint=ENDPOINT), other)
    assert device.reinstate([kept]) >= 0
    assert states(device) == {A: fresh(kept), B: fresh(other)}


def test_reinstating_brings_back_a_peer_that_is_gone(device: Device) -> None:
    """This is why all of Lethe's writers hold a lock."""
    device.reinstate([Peer(A, allowed_ips=ips("10.0.0.1/32"))])
    assert texts(device) == {A: ["10.0.0.1/32"]}


def test_flushing_removes_all_peers_and_leaves_the_settings(device: Device) -> None:
    device.configure(private_key=PRIVATE, listen_port=1111)
    add(device, Peer(A, allowed_ips=ips("10.0.0.1/32")), Peer(B))
    device.flush()
    assert states(device) == {}
    assert device.settings() == (PRIVATE.public_key(), 1111, 0)
    add(device, Peer(C, allowed_ips=ips("10.0.0.1/32")))
    assert texts(device) == {C: ["10.0.0.1/32"]}


def test_a_peer_with_the_devices_own_key_is_silently_left_out(device: Device) -> None:
    device.configure(private_key=PRIVATE)
    own = PRIVATE.public_key()
    add(device, Peer(own, allowed_ips=ips("10.0.0.1/32")), Peer(A))
    device.reinstate([Peer(own)])
    assert states(device).keys() == {A}


def test_a_private_key_removes_the_peer_that_has_its_public_key(device: Device) -> None:
    own = PRIVATE.public_key()
    add(device, Peer(own, allowed_ips=ips("10.0.0.1/32")), Peer(A))
    device.configure(private_key=PRIVATE)
    assert states(device).keys() == {A}


def test_a_peer_can_have_more_allowed_ips_than_a_message_holds(device: Device) -> None:
    many = ips(*(f"10.0.{n >> 8}.{n & 255}/32" for n in range(3000)))
    wanted = Peer(A, PSK, 25, many)
    add(device, wanted)
    assert states(device) == {A: fresh(wanted)}
    device.reinstate([wanted])
    assert states(device) == {A: fresh(wanted)}
    more = ips(*(f"10.1.{n >> 8}.{n & 255}/32" for n in range(3000)))
    update(device, PeerUpdate(A, allowed_ips=more, keep_other_allowed_ips=True))
    assert states(device) == {A: fresh(wanted._replace(allowed_ips=AllowedIPs(many + more)))}


def test_comparing_gives_what_differs_and_what_is_left(device: Device) -> None:
    same = [Peer(PublicKey.from_text(key(n)), PSK, 25, ips(f"10.0.0.{n}/32", f"fd00::{n}/128")) for n in range(20)]
    changed = Peer(PublicKey.from_text(key(50)), PSK, 0, ips("10.0.1.1/32"))
    unknown, missing = Peer(PublicKey.from_text(key(51))), Peer(PublicKey.from_text(key(52)))
    # What it is compared with has no endpoint: one that is there makes no difference.
    add(device, *(peer._replace(endpoint=ENDPOINT) for peer in same), changed, unknown)
    wanted = [*same, changed._replace(allowed_ips=ips("10.0.1.1/32", "10.0.1.2/32")), missing]
    expected: dict[bytes, bytes] = {peer.public_key: Configuration.of(peer) for peer in wanted}
    before = dict(expected)
    given, left = device.compare(expected, lambda found, left: (list(found), left))
    assert expected == before
    assert {changed.public_key, unknown.public_key} <= {state.public_key for state in given}
    assert {changed.public_key, missing.public_key} <= left.keys()
    # Each peer as expected is in neither, or, where it could not be told, in both.
    assert {peer.public_key for peer in same} & left.keys() == {peer.public_key for peer in same} & {
        state.public_key for state in given
    }


def test_the_result_of_reading_is_what_the_fold_returns(device: Device) -> None:
    add(device, Peer(A), Peer(B))
    assert device.read(lambda found: sum(1 for _ in found)) == 2
    assert device.read(lambda found: next(found).sent) == 0
    assert device.read(lambda _: "not read") == "not read"


def test_a_device_that_becomes_another_has_that_key_and_that_peer_alone(device: Device) -> None:
    device.configure(listen_port=1111, fwmark=7)
    add(device, Peer(A, PSK, 25, ips("10.0.0.1/32"), ENDPOINT), Peer(B))
    peer = Peer(A, OTHER_PSK, 0, ips("0.0.0.0/0", "::/0"), ENDPOINT6)
    device.become(PRIVATE, peer)
    assert states(device) == {A: fresh(peer)}
    assert device.settings() == (PRIVATE.public_key(), 1111, 7)
    device.become(PRIVATE, Peer(C, allowed_ips=ips("10.0.0.1/32")))
    assert texts(device) == {C: ["10.0.0.1/32"]}
