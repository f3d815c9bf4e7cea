# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the client's interface, in memory; tests/kernel/client has the kernel's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.rotation import Own, Registration
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.tunnel import (
    GatewayInside,
    GatewayNotFound,
    KernelTunnel,
    Links,
    NoFamily,
    NoGateway,
    TunnelOptions,
    looked_up,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.gateways import Gateway
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import (
    InterfaceNotFound,
    KernelWithoutWireGuard,
    RouteTaken,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.interface import (
    InterfaceOptions,
    address_from_text,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    PresharedKey,
    PrivateKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.links import Address
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import PeerUpdate, Plan

ONE = Gateway("gateway1", PublicKey.from_text(key(901)), "192.0.2.1", 51820)
TWO = Gateway("gateway2", PublicKey.from_text(key(902)), "2001:db8::2", 443)
BOTH = (ONE, TWO)
NEXT = PublicKey.from_text(key(911))
ONE_WITH_NEXT = replace(ONE, next_public_key=NEXT)
ONE_CHANGED = replace(ONE, public_key=NEXT)


def own(number: int) -> Own:
    addresses = (address_from_text(f"10.64.0.{number}/32"), address_from_text(f"fd00::{number}/128"))
    preshared_key = PresharedKey.from_text(key(number, "preshared"))
    return Own(PrivateKey.from_text(key(number, "private")), Registration(addresses, preshared_key))


class FakeLinks(Links):
    """A host with one interface; it writes down what is done to it."""

    def __init__(self) -> None:
        self.done: list[tuple[Address, ...] | tuple[str, ...]] = []
        self.there: int | None = None
        self.has: tuple[Address, ...] = ()
        self.has_ipv6 = True
        self.led_to: str | None = None  # an address
        self.taken: tuple[str, ...] = ()  # networks that are routed elsewhere

    def index(self, name: str) -> int | None:
        return self.there

    def ensure(self, options: InterfaceOptions) -> None:
        assert options.addresses is None
        self.there = self.there or 7

    def carries_ipv6(self, name: str) -> bool:
        return self.has_ipv6

    def leads_to(self, name: str, address: str, networks: Sequence[str]) -> bool:
        return address == self.led_to

    def addresses(self, name: str) -> tuple[Address, ...]:
        return self.has

    def exchange_addresses(self, name: str, wanted: tuple[Address, ...], between: Callable[[], None]) -> None:
        self.done.append((*self.has, *wanted))
        between()
        self.has = wanted
        self.done.append(wanted)

    def ensure_routes(self, name: str, networks: Sequence[str]) -> None:
        for network in networks:
            if network in self.taken:
                raise RouteTaken(name, network)
        self.done.append(tuple(networks))

    def remove(self, name: str) -> None:
        self.there, self.has = None, ()


class Host:
    def __init__(self) -> None:
        self.links = FakeLinks()
        self.device = MemoryDevice("lethe0")
        self.now = 1_000_000.0
        self.tunnel = self.started()

    def started(self, choose: Callable[[Sequence[Gateway]], Gateway] = lambda some: some[0]) -> KernelTunnel:
        """As the service begins with it: the kernel has what it had."""
        options = TunnelOptions("lethe0", ("10.64.0.0/10", "fd00::/48"))
        return KernelTunnel(options, links=self.links, device=self.device, choose=choose, clock=lambda: self.now)

    def handshake(self) -> None:
        for name in self.device.peers:
            self.device.hear(name, handshake=int(self.now * 1e9))

    def count(self, received: int, sent: int) -> None:
        """What the kernel counts from the gateway and to it."""
        for name in self.device.peers:
            self.device.hear(name, received=received, sent=sent)


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_new_interface_has_the_key_the_addresses_and_one_gateway(host: Host) -> None:
    host.tunnel.bring(own(1), BOTH)
    assert host.device.settings().public_key == own(1).public_key
    (peer,) = host.device.peers.values()
    assert peer.public_key == ONE.public_key
    assert peer.preshared_key == PresharedKey.from_text(key(1, "preshared"))
    assert peer.endpoint is not None
    assert peer.endpoint.text == "192.0.2.1:51820"
    assert sorted(peer.allowed_ips.texts) == ["10.64.0.0/10", "fd00::/48"]
    assert peer.persistent_keepalive == 25
    assert [str(address) for address in host.links.has] == ["10.64.0.1/32", "fd00::1/128"]
    assert host.links.done[0] == ("10.64.0.0/10", "fd00::/48")


def test_what_is_so_already_is_not_touched(host: Host) -> None:
    host.tunnel.bring(own(1), BOTH)
    done = list(host.links.done)
    host.handshake()
    host.tunnel.bring(own(1), (TWO, ONE))
    assert host.links.done == done
    assert host.tunnel.is_answered()


def test_a_change_of_key_has_both_addresses_at_its_moment(host: Host) -> None:
    host.tunnel.bring(own(1), BOTH)
    host.handshake()
    host.links.done.clear()
    host.tunnel.bring(own(2), BOTH)
    _routes, both, after = ([str(one) for one in each] for each in host.links.done)
    assert both == ["10.64.0.1/32", "fd00::1/128", "10.64.0.2/32", "fd00::2/128"]
    assert after == ["10.64.0.2/32", "fd00::2/128"]
    assert host.device.settings().public_key == own(2).public_key
    assert not host.tunnel.is_answered()  # nobody has answered this key
    host.handshake()
    assert host.tunnel.is_answered()


def test_an_interface_that_was_removed_or_made_anew_is_brought_again(host: Host) -> None:
    host.tunnel.bring(own(1), BOTH)
    host.links.there = 8
    host.device.flush()
    host.tunnel.bring(own(1), BOTH)
    assert len(host.device.peers) == 1


def test_an_interface_that_is_not_there_is_answered_by_nobody(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not host.tunnel.is_answered()
    host.tunnel.bring(own(1), BOTH)
    host.handshake()

    def gone(*_: object) -> None:
        raise InterfaceNotFound("lethe0")

    monkeypatch.setattr(host.device, "read", gone)
    assert not host.tunnel.is_answered()
    assert not host.tunnel.is_silent()


def test_a_gateway_with_another_key_is_connected_anew(host: Host) -> None:
    host.tunnel.bring(own(1), (ONE,))
    other = replace(ONE, public_key=PublicKey.from_text(key(903)))
    host.tunnel.bring(own(1), (other,))
    assert list(host.device.peers) == [other.public_key]


def test_silence_is_a_session_without_another_handshake(host: Host) -> None:
    assert not host.tunnel.is_silent()
    host.tunnel.bring(own(1), BOTH)
    assert not host.tunnel.is_silent()
    host.now += 12
    assert host.tunnel.is_silent()
    host.handshake()
    assert not host.tunnel.is_silent()
    host.now += 209
    assert not host.tunnel.is_silent()
    host.now += 1
    assert host.tunnel.is_silent()
    host.tunnel.take_another(BOTH)
    assert not host.tunnel.is_silent()
    host.tunnel.bring(own(1), BOTH)
    assert list(host.device.peers) == [TWO.public_key]


def test_silence_is_also_what_is_sent_and_not_answered(host: Host) -> None:
    host.tunnel.bring(own(1), BOTH)
    host.handshake()
    host.count(received=92, sent=148)
    assert not host.tunnel.is_silent()
    host.now += 1
    host.count(received=92, sent=1148)
    assert not host.tunnel.is_silent()
    host.now += 24
    assert not host.tunnel.is_silent()
    host.now += 1
    assert host.tunnel.is_silent()
    host.count(received=124, sent=1148)
    assert not host.tunnel.is_silent()
    host.tunnel.bring(own(2), BOTH)  # counts from nothing
    host.now += 11
    assert not host.tunnel.is_silent()


def test_a_gateway_whose_next_key_becomes_known_keeps_its_session(host: Host) -> None:
    host.tunnel.bring(own(1), BOTH)
    done = list(host.links.done)
    host.handshake()
    host.tunnel.bring(own(1), (TWO, ONE_WITH_NEXT))
    assert host.links.done == done
    assert host.tunnel.is_answered()


def test_a_gateway_that_is_silent_is_first_tried_with_its_next_key(host: Host) -> None:
    gateways = (ONE_WITH_NEXT, TWO)
    host.tunnel.bring(own(1), gateways)
    host.tunnel.take_another(gateways)
    host.tunnel.bring(own(1), gateways)
    (peer,) = host.device.peers.values()
    assert peer.public_key == NEXT
    assert peer.endpoint is not None
    assert peer.endpoint.text == ONE.endpoint
    # It stays with it: while the list is as it was, and when the list has it as the gateway's key.
    host.handshake()
    for listed in (gateways, (TWO, ONE_CHANGED)):
        host.tunnel.bring(own(1), listed)
        assert host.tunnel.is_answered()
    # If that is not it either, it is another gateway's turn.
    host.tunnel.take_another(gateways)
    host.tunnel.bring(own(1), gateways)
    assert list(host.device.peers) == [TWO.public_key]


def test_the_only_gateway_is_tried_with_its_key_and_its_next_in_turn(host: Host) -> None:
    tried = []
    for _ in range(3):
        host.tunnel.bring(own(1), (ONE_WITH_NEXT,))
        tried += list(host.device.peers)
        host.tunnel.take_another((ONE_WITH_NEXT,))
    assert tried == [ONE.public_key, NEXT, ONE.public_key]


def test_a_gateway_that_is_not_listed_with_the_key_in_use_is_connected_anew(host: Host) -> None:
    host.tunnel.bring(own(1), (ONE_WITH_NEXT,))
    host.tunnel.take_another((ONE_WITH_NEXT,))
    host.tunnel.bring(own(1), (ONE_WITH_NEXT,))
    host.tunnel.bring(own(1), (ONE,))  # the change was called off
    assert list(host.device.peers) == [ONE.public_key]


def test_without_another_gateway_it_tries_the_same_again(host: Host) -> None:
    host.tunnel.bring(own(1), (ONE,))
    host.handshake()
    host.tunnel.take_another((ONE,))
    host.tunnel.bring(own(1), (ONE,))
    assert list(host.device.peers) == [ONE.public_key]
    assert not host.tunnel.is_answered()


def test_a_gateway_that_cannot_be_found_changes_nothing(host: Host) -> None:
    host.tunnel.bring(own(1), (ONE,))
    with pytest.raises(GatewayNotFound, match="gateway9"):
        host.tunnel.bring(own(2), (replace(ONE, name="gateway9", host="gateway9.invalid"),))
    assert host.device.settings().public_key == own(1).public_key
    with pytest.raises(NoGateway):
        host.tunnel.bring(own(2), ())


def test_a_service_that_is_started_again_goes_on_with_its_session(host: Host) -> None:
    host.tunnel.bring(own(1), (TWO,))
    host.handshake()
    host.count(received=92, sent=148)
    host.now += 60
    host.links.done.clear()
    again = host.started(choose=lambda some: pytest.fail("it has a gateway"))
    again.bring(own(1), BOTH)
    assert again.gateway == TWO
    assert host.links.done == [("10.64.0.0/10", "fd00::/48")]
    assert again.is_answered()
    assert not again.is_silent()
    host.now += 150  # of the session, not of the service
    assert again.is_silent()


def test_an_interface_that_is_not_there_is_not_looked_at(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the module is not loaded, its making loads it."""

    def unloaded(*_: object) -> None:
        if host.links.there is None:
            raise KernelWithoutWireGuard

    monkeypatch.setattr(host.device, "read", unloaded)
    host.tunnel.bring(own(1), BOTH)
    assert list(host.device.peers) == [ONE.public_key]


@pytest.mark.parametrize("change", ["key", "addresses", "preshared key", "endpoint", "keepalive", "gateway"])
def test_a_service_that_is_started_again_changes_what_is_not_so_any_more(host: Host, change: str) -> None:
    host.tunnel.bring(own(1), (ONE,))
    host.handshake()
    wanted, gateway = own(1), ONE
    assert wanted.registration is not None
    if change == "key":
        wanted = replace(wanted, private_key=own(2).private_key)
    elif change == "addresses":
        host.links.has = host.links.has[:1]
    elif change == "preshared key":
        preshared_key = PresharedKey.from_text(key(2, "preshared"))
        wanted = replace(wanted, registration=wanted.registration._replace(preshared_key=preshared_key))
    elif change == "endpoint":
        gateway = replace(ONE, port=443)
    elif change == "keepalive":
        host.device.apply(Plan(updated=[PeerUpdate(ONE.public_key, persistent_keepalive=0)]))
    else:
        gateway = TWO
    again = host.started()
    again.bring(wanted, (gateway,))
    (state,) = host.device.peers.values()
    assert state.handshake == 0
    assert (state.public_key, state.persistent_keepalive) == (gateway.public_key, 25)
    assert host.device.settings().public_key == wanted.public_key
    assert host.links.has == own(1).registration.addresses  # type: ignore[union-attr]


def test_a_host_without_ipv6_has_the_rest_and_is_told_once(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.links.has_ipv6 = False
    for number in (1, 2):
        host.tunnel.bring(own(number), BOTH)
        assert [str(address) for address in host.links.has] == [f"10.64.0.{number}/32"]
        assert ("10.64.0.0/10",) in host.links.done
        host.links.done.clear()
    assert [record.message for record in caplog.records] == [
        "this host has no IPv6 on lethe0: the tunnel carries IPv4 alone"
    ]


def test_a_host_without_ipv6_cannot_be_in_a_fleet_that_has_nothing_else(host: Host) -> None:
    host.links.has_ipv6 = False
    only = own(1)
    assert only.registration is not None
    only = replace(only, registration=only.registration._replace(addresses=only.registration.addresses[1:]))
    with pytest.raises(NoFamily, match="no IPv6 on lethe0"):
        host.tunnel.bring(only, BOTH)


def test_a_network_that_is_routed_elsewhere_changes_nothing(host: Host) -> None:
    host.tunnel.bring(own(1), BOTH)
    host.handshake()
    host.links.taken = ("fd00::/48",)
    with pytest.raises(RouteTaken, match=r"^fd00::/48 should go through lethe0"):
        host.tunnel.bring(own(2), BOTH)
    assert host.device.settings().public_key == own(1).public_key
    assert host.links.has == own(1).registration.addresses  # type: ignore[union-attr]


@pytest.mark.parametrize("gateway", BOTH, ids=["IPv4", "IPv6"])
def test_a_gateway_that_the_tunnel_itself_would_lead_to_is_refused(host: Host, gateway: Gateway) -> None:
    host.links.led_to = gateway.host
    with pytest.raises(GatewayInside, match=rf"{gateway.name} is in allowed_ips.*client_allowed_ips"):
        host.tunnel.bring(own(1), (gateway,))
    assert host.links.there is None


def test_it_is_taken_down(host: Host) -> None:
    host.tunnel.bring(own(1), BOTH)
    host.tunnel.take_down()
    assert host.links.there is None


def test_addresses_need_no_name_service() -> None:
    for gateway, text in ((ONE, "192.0.2.1:51820"), (TWO, "[2001:db8::2]:443")):
        found = looked_up(gateway.host, gateway.port)
        assert found is not None
        assert found.text == text
    assert looked_up("gateway9.invalid", 1) is None
