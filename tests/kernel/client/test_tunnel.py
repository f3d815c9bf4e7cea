# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's interface in the kernel, a gateway, and at last a registry: what a change of key costs those who are
speaking.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from clients import Client, FollowingGateway
from made_up import key
from namespaces import PORT, Namespace, ip, run, wait_until
from registry.site import Site, served
from registry.support import Clock, Registry, migrate

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.rotation import Own, Registration, Stage
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.silence import PATIENCE
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.tunnel import (
    GatewayInside,
    KernelTunnel,
    TunnelOptions,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.gateways import Gateway
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import RouteTaken
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.interface import (
    address_from_text,
    ensure_routes,
    leads_to,
    read_interface,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PrivateKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer, PeerState
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan

T = TypeVar("T")

GATEWAY = PrivateKey.from_text(key(0, "gateway"))
GATEWAYS = (Gateway("gateway1", GATEWAY.public_key(), "192.0.2.1", PORT),)
INSIDE = "10.64.0.1"
EVERY = 0.02  # seconds between packets


def own(number: int) -> Own:
    addresses = (address_from_text(f"10.64.1.{number}/32"), address_from_text(f"fd00::{number}/128"))
    return Own(
        PrivateKey.from_text(key(number, "private")),
        Registration(addresses, PresharedKey.from_text(key(number, "preshared"))),
    )


def peer(one: Own) -> Peer:
    assert one.registration is not None
    allowed_ips = AllowedIPs.from_texts([str(address) for address in one.registration.addresses])
    return Peer(one.public_key, one.registration.preshared_key, 0, allowed_ips)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[KernelDevice]:
    """In a network of its own, where this test is not; it sends back what it gets. This test is in the client's."""
    outer, inner = Namespace(), Namespace()
    stop = threading.Event()
    with inner:
        ip(f"link add eth0 type veth peer name eth0 netns {outer.path}", "addr add 192.0.2.2/24 dev eth0")
        ip("link set eth0 up")
        with outer:
            ip("addr add 192.0.2.1/24 dev eth0", "link set eth0 up", "link add wg0 type wireguard")
            ip(f"addr add {INSIDE}/10 dev wg0", "addr add fd00::1:1/48 dev wg0", "link set wg0 up")
            device = InNamespace(outer, tmp_path)
            device.configure(private_key=GATEWAY, listen_port=PORT)
            echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            echo.bind((INSIDE, 7))
            echo.settimeout(0.1)

        def send_back() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError, OSError):
                    data, who = echo.recvfrom(100)
                    echo.sendto(data, who)

        thread = threading.Thread(target=send_back)
        thread.start()
        yield device
        stop.set()
        thread.join()
        echo.close()
    inner.close()
    outer.close()


class InNamespace(KernelDevice):
    """The gateway's interface, from outside its namespace."""

    def __init__(self, network: Namespace, directory: Path) -> None:
        super().__init__("wg0", lock=directory / "lock")
        self._network = network

    def apply(self, plan: Plan) -> None:
        with self._network:
            super().apply(plan)

    def configure(
        self, *, private_key: PrivateKey | None = None, listen_port: int | None = None, fwmark: int | None = None
    ) -> None:
        with self._network:
            super().configure(private_key=private_key, listen_port=listen_port, fwmark=fwmark)

    def read(self, fold: Callable[[Iterator[PeerState]], T]) -> T:
        with self._network:
            return super().read(fold)


@pytest.fixture
def tunnel(gateway: KernelDevice, tmp_path: Path) -> KernelTunnel:
    return KernelTunnel(
        TunnelOptions("lethe0", ("10.64.0.0/10", "fd00::/48")),
        device=KernelDevice("lethe0", lock=tmp_path / "client.lock"),
    )


class Speaker:
    """Sends a packet every 20 ms, from whatever address the host has, and counts what comes back."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.heard: dict[int, float] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", 0))
        self._socket.settimeout(0.5)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._send, self._hear)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                self._socket.sendto(str(len(self.sent)).encode(), (INSIDE, 7))
            self.sent.append(time.monotonic())
            self._stop.wait(EVERY)

    def _hear(self) -> None:
        while not self._stop.is_set() or time.monotonic() < self.sent[-1] + 1:
            with contextlib.suppress(TimeoutError):
                number = int(self._socket.recv(100))
                self.heard[number] = time.monotonic()

    def stop(self) -> tuple[int, int, float]:
        """Packets that were sent, packets that never came back, the longest time in seconds without one."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()
        moments = sorted(self.heard.values())
        gap = max((later - earlier for earlier, later in itertools.pairwise(moments)), default=0.0)
        return len(self.sent), len(self.sent) - len(self.heard), gap


def carries_packets() -> None:
    speaker = Speaker()
    wait_until(lambda: speaker.heard, 60, "an answer")
    speaker.stop()


def routes_to(network: str) -> list[str]:
    """The interfaces that a network's routes lead through."""
    version = "-6" if ":" in network else "-4"
    told = run("ip", "-json", version, "route", "show", "exact", network)
    return [route["dev"] for route in json.loads(told or "[]")]


def answered(tunnel: KernelTunnel) -> None:
    wait_until(tunnel.is_answered, 60, "the gateway's answer")


def test_it_is_answered_by_a_gateway_that_has_the_key_and_by_no_other(
    gateway: KernelDevice, tunnel: KernelTunnel
) -> None:
    tunnel.bring(own(1), GATEWAYS)
    time.sleep(2)
    assert not tunnel.is_answered()
    gateway.apply(Plan(added=[peer(own(1))]))
    answered(tunnel)  # without anything that is sent through it
    carries_packets()
    state = read_interface("lethe0")
    assert state is not None
    assert {str(address) for address in state.addresses} == {"10.64.1.1/32", "fd00::1/128"}


def test_a_change_of_key_loses_next_to_nothing(
    gateway: KernelDevice, tunnel: KernelTunnel, record_property: pytest.RecordProperty
) -> None:
    gateway.apply(Plan(added=[peer(own(1)), peer(own(2))]))
    tunnel.bring(own(1), GATEWAYS)
    answered(tunnel)
    speaker = Speaker()
    wait_until(lambda: len(speaker.heard) > 20, 60, "answers")
    tunnel.bring(own(2), GATEWAYS)
    switched = len(speaker.sent)
    answered(tunnel)
    wait_until(lambda: any(number > switched + 20 for number in list(speaker.heard)), 60, "answers with the new key")
    sent, lost, gap = speaker.stop()
    record_property("sent", sent)
    record_property("lost", lost)
    record_property("gap", gap)
    print(f"of {sent} packets {lost} were lost; the longest silence was {1000 * gap:.0f} ms")
    assert lost <= 1 / EVERY  # one second
    state = read_interface("lethe0")
    assert state is not None
    assert state.public_key == own(2).public_key
    assert {str(address) for address in state.addresses} == {"10.64.1.2/32", "fd00::2/128"}


def test_a_key_that_the_gateway_lacks_is_put_back(gateway: KernelDevice, tunnel: KernelTunnel) -> None:
    gateway.apply(Plan(added=[peer(own(1))]))
    tunnel.bring(own(1), GATEWAYS)
    answered(tunnel)
    tunnel.bring(own(3), GATEWAYS)
    time.sleep(1)
    assert not tunnel.is_answered()
    tunnel.bring(own(1), GATEWAYS)
    answered(tunnel)
    carries_packets()
    tunnel.take_down()
    assert read_interface("lethe0") is None


def test_a_gateway_that_changes_its_key_is_found_again_by_its_next(
    gateway: KernelDevice, tunnel: KernelTunnel, record_property: pytest.RecordProperty
) -> None:
    coming = PrivateKey.from_text(key(1, "gateway"))
    gateways = tuple(replace(each, next_public_key=coming.public_key()) for each in GATEWAYS)
    gateway.apply(Plan(added=[peer(own(1))]))
    tunnel.bring(own(1), gateways)
    answered(tunnel)
    speaker = Speaker()
    wait_until(lambda: len(speaker.heard) > 20, 60, "answers")
    assert not tunnel.is_silent()
    gateway.configure(private_key=coming)
    switched = len(speaker.sent)
    assert [state.public_key for state in gateway.read(list)] == [own(1).public_key]

    def is_found() -> bool:
        if tunnel.is_silent():
            tunnel.take_another(gateways)
            tunnel.bring(own(1), gateways)
        return any(number > switched + 20 for number in list(speaker.heard))

    wait_until(is_found, 120, "answers to the next key")
    _sent, _lost, gap = speaker.stop()
    record_property("gap", gap)
    print(f"the client was without its gateway for {gap:.1f} s")
    assert tunnel.gateway is not None
    assert tunnel.gateway.public_key == coming.public_key()
    assert PATIENCE - 5 < gap < PATIENCE + 15


def test_a_service_that_is_started_again_keeps_the_session(
    gateway: KernelDevice, tunnel: KernelTunnel, tmp_path: Path
) -> None:
    gateway.apply(Plan(added=[peer(own(1))]))
    tunnel.bring(own(1), GATEWAYS)
    answered(tunnel)
    device = KernelDevice("lethe0", lock=tmp_path / "client.lock")
    (before,) = device.read(list)
    again = KernelTunnel(TunnelOptions("lethe0", ("10.64.0.0/10", "fd00::/48")), device=device)
    again.bring(own(1), GATEWAYS)
    assert again.is_answered()
    (after,) = device.read(list)
    assert after.handshake >= before.handshake > 0
    assert after.sent >= before.sent


def test_a_host_without_ipv6_is_connected_all_the_same(gateway: KernelDevice, tunnel: KernelTunnel) -> None:
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")  # of this network namespace
    gateway.apply(Plan(added=[peer(own(1))]))
    tunnel.bring(own(1), GATEWAYS)
    answered(tunnel)
    carries_packets()
    state = read_interface("lethe0")
    assert state is not None
    assert [str(address) for address in state.addresses] == ["10.64.1.1/32"]


@pytest.mark.parametrize("network", ["10.64.0.0/10", "fd00::/48"])
def test_a_route_through_another_interface_is_left_alone(
    gateway: KernelDevice, tunnel: KernelTunnel, network: str
) -> None:
    ip(f"route add {network} dev eth0")
    with pytest.raises(RouteTaken, match=f"^{network} should go through lethe0"):
        tunnel.bring(own(1), GATEWAYS)
    tunnel.take_down()
    assert routes_to(network) == ["eth0"]
    ip(f"route del {network}")
    tunnel.bring(own(1), GATEWAYS)
    assert routes_to(network) == ["lethe0"]
    ensure_routes("lethe0", [network])
    assert routes_to(network) == ["lethe0"]


@pytest.mark.parametrize("prefix", [0, 24, 25])
def test_a_gateway_is_reached_past_the_tunnel_by_a_more_specific_route(
    gateway: KernelDevice, tmp_path: Path, prefix: int
) -> None:
    """The one to 192.0.2.0/24."""
    name = "lethe0"
    networks = ["0.0.0.0/1", "128.0.0.0/1"] if prefix == 0 else [f"192.0.2.0/{prefix}"]
    assert leads_to(name, "192.0.2.1", networks) == (prefix >= 24)
    assert not leads_to(name, "198.51.100.1", ["10.0.0.0/8"])
    ip("route add default via 192.0.2.1")
    assert leads_to(name, "198.51.100.1", ["198.51.100.0/24"])
    options = TunnelOptions(name, tuple(networks))
    tunnel = KernelTunnel(options, device=KernelDevice(name, lock=tmp_path / "client.lock"))
    if prefix >= 24:
        with pytest.raises(GatewayInside, match="gateway1"):
            tunnel.bring(own(1), GATEWAYS)
        assert read_interface(name) is None
    else:
        gateway.apply(Plan(added=[peer(own(1))]))
        tunnel.bring(own(1), GATEWAYS)
        answered(tunnel)


class Advancing(Clock):
    """The real time, and more where nobody wants to wait for it."""

    ahead = 0.0

    def __init__(self) -> None:
        pass

    @property
    def now(self) -> float:  # type: ignore[override]
        return time.time() + self.ahead

    def __call__(self) -> float:
        return self.now


class KernelFollower(FollowingGateway):
    """A gateway whose kernel has what the registry says."""

    def __init__(self, registry: Registry, device: KernelDevice) -> None:
        super().__init__(registry, GATEWAYS[0])
        self._device = device
        registry.store.write(lambda tx: credentials.issue(tx, credentials.GATEWAY, "gateway1"))

    def follow(self) -> None:
        before = set(self.keys)
        super().follow()
        found = self._registry.exported()
        new = [
            Peer(one.public_key, one.preshared_key or NO_PRESHARED_KEY, 0, AllowedIPs.from_texts(one.addresses))
            for one in found.values()
            if one.public_key in self.keys - before
        ]
        self._device.apply(Plan(added=new, removed=sorted(before - self.keys), unchanged=1))


@pytest.fixture
def site(gateway: KernelDevice, tmp_path: Path) -> Iterator[Site]:
    """In the client's network."""
    file = tmp_path / "gateways.json"
    file.write_text(json.dumps({"gateways": [each.as_json() for each in GATEWAYS]}))
    database = f"sqlite:///{tmp_path}/registry.sqlite3"
    migrate(database)
    ranges = {"ipv4_ranges": ("10.64.0.0/10",), "ipv6_ranges": ("fd00::/48",), "reserved": (INSIDE, "fd00::1:1")}
    with served(database, Advancing(), gateways_file=str(file), preshared_keys=True, **ranges) as site:
        yield site


def test_a_rotation_from_the_registry_to_the_kernel_loses_next_to_nothing(
    gateway: KernelDevice, tunnel: KernelTunnel, site: Site, tmp_path: Path
) -> None:
    registry = site.registry
    follower = KernelFollower(registry, gateway)
    client = Client(site, [follower], tmp_path / "client", "alice")
    client.runner._tunnel = tunnel

    def goes_on(keys: int) -> bool:
        client.runner.step()
        follower.follow()
        follower.report()
        state = client.runner.state
        assert state is not None
        if state.stage is Stage.CONFIRMING:
            registry.clock.ahead = registry.clock.ahead + 120  # type: ignore[attr-defined]
        return client.runner.keys == keys and state.stage is Stage.SETTLED and tunnel.is_answered()

    wait_until(lambda: goes_on(1), 120, "the first key")
    ((before, had),) = registry.of("alice").items()
    speaker = Speaker()
    wait_until(lambda: len(speaker.heard) > 20, 60, "answers")
    client.runner.rotate()
    wait_until(lambda: goes_on(2), 120, "the second key")
    said = len(speaker.sent)
    wait_until(lambda: any(number > said + 20 for number in list(speaker.heard)), 60, "answers with the new key")
    sent, lost, gap = speaker.stop()
    print(f"of {sent} packets {lost} were lost; the longest silence was {1000 * gap:.0f} ms")
    assert lost <= 1 / EVERY  # one second
    follower.follow()
    ((after, has),) = registry.of("alice").items()
    assert before != after
    assert set(had.addresses).isdisjoint(has.addresses)
    assert gateway.read(lambda states: {state.public_key for state in states}) == {after}
    state = read_interface("lethe0")
    assert state is not None
    assert {str(address) for address in state.addresses} == set(has.addresses)
