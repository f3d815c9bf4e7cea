# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's interface in the kernel: one key, one peer, which is the gateway in use.

An interface has one private key, so its change ends the session with the gateway. It costs one handshake, a round
trip: what is sent meanwhile waits in the kernel. The new addresses are there before the change, and those before are
gone after it, so that the interface is never without one and its routes stay. Connections that are bound to an address
from before end with it, as they would a little later when the gateways forget it.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from ..gateways import Gateway
from ..wireguard.addresses import AllowedIPs, Endpoint
from ..wireguard.device import Device, KernelDevice
from ..wireguard.errors import InterfaceNotFound, LetheError
from ..wireguard.interface import (
    InterfaceOptions,
    carries_ipv6,
    ensure_interface,
    ensure_routes,
    exchange_addresses,
    leads_to,
    remove_interface,
)
from ..wireguard.keys import NO_PRESHARED_KEY
from ..wireguard.links import Address, read_link
from ..wireguard.peers import Peer, PeerState
from .rotation import Own
from .silence import Heard

_log = logging.getLogger(__name__)

_HANDSHAKE = 12.0  # seconds that a gateway may take to answer at first: three initiations
_SESSION = 210.0  # seconds: REJECT_AFTER_TIME, after which a session is no more, and some to make the next


class GatewayNotFound(LetheError):
    def __init__(self, gateway: Gateway) -> None:
        super().__init__(
            f"the address of the gateway {gateway.name} is not found; see to the name service of this host"
        )


class GatewayInside(LetheError):
    def __init__(self, gateway: Gateway) -> None:
        super().__init__(
            f"the address of the gateway {gateway.name} is in allowed_ips, and no other route leads there: the tunnel "
            "would go into itself; take the network that it is in out of them (client_allowed_ips)"
        )


class NoFamily(LetheError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"the registry gives IPv6 addresses alone, and this host has no IPv6 on {name}; "
            "see: sysctl net.ipv6.conf.all.disable_ipv6"
        )


class NoGateway(LetheError):
    def __init__(self) -> None:
        super().__init__("there is no gateway to connect to; see the registry's list of them")


@dataclass(frozen=True, slots=True)
class TunnelOptions:
    """What the interface is, beside its key, its addresses and its peer."""

    name: str
    allowed_ips: tuple[str, ...]  # what goes through the tunnel
    keepalive: int = 25  # seconds: it also shows whether the gateway still answers
    mtu: int = 1420  # bytes


class Links:
    """What is changed of the host's network: the kernel's. A test has its own."""

    def index(self, name: str) -> int | None:
        link = read_link(name)
        return None if link is None else link.index

    def ensure(self, options: InterfaceOptions) -> None:
        ensure_interface(options)

    def carries_ipv6(self, name: str) -> bool:
        return carries_ipv6(name)

    def leads_to(self, name: str, address: str, networks: Sequence[str]) -> bool:
        return leads_to(name, address, networks)

    def addresses(self, name: str) -> tuple[Address, ...]:
        link = read_link(name)
        return () if link is None else link.addresses

    def exchange_addresses(self, name: str, wanted: tuple[Address, ...], between: Callable[[], None]) -> None:
        exchange_addresses(name, wanted, between)

    def ensure_routes(self, name: str, networks: Sequence[str]) -> None:
        ensure_routes(name, networks)

    def remove(self, name: str) -> None:
        remove_interface(name)


class KernelTunnel:
    """As runner.py wants it."""

    def __init__(
        self,
        options: TunnelOptions,
        *,
        links: Links | None = None,
        device: Device | None = None,
        choose: Callable[[Sequence[Gateway]], Gateway] = random.choice,
        resolve: Callable[[str, int], Endpoint | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.gateway: Gateway | None = None  # in use, with the key that it is believed to have
        self._options = options
        self._links = links or Links()
        self._device = device or KernelDevice(options.name)
        self._choose = choose
        self._resolve = resolve or looked_up
        self._clock = clock
        self._brought: tuple[Own, Gateway, int | None] | None = None
        self._since = 0.0  # seconds since 1970: it has had this key and this gateway; 0: not yet
        self._heard: Heard | None = None  # of it, since then
        self._has_told = False  # that this host has no IPv6

    def bring(self, own: Own, gateways: tuple[Gateway, ...]) -> None:
        """Raises LetheError."""
        gateway = self._of(gateways)
        name = self._options.name
        index = self._links.index(name)
        if index is not None and self._brought == (own, gateway, index):
            return
        is_first = not self._since
        self._brought = self._heard = None
        peer = self._peer(own, gateway)
        self._links.ensure(InterfaceOptions(name, mtu=self._options.mtu))
        addresses, networks = self._carried(own)
        # Before the rest: there may be another route, and then nothing is changed.
        self._links.ensure_routes(name, networks)
        with self._device.exclusive():
            found = self._found(own, peer, addresses) if is_first else None
            if found is None:
                self._links.exchange_addresses(name, addresses, lambda: self._device.become(own.private_key, peer))
        self._since = found.handshake / 1e9 if found is not None and found.handshake else self._clock()
        self._brought = (own, gateway, self._links.index(name))

    def is_answered(self) -> bool:
        """Raises LetheError. With a keepalive the kernel begins a handshake by itself."""
        state = self._state() if self._brought is not None else None
        return state is not None and state.handshake > 0

    def is_silent(self) -> bool:
        """Raises LetheError. It is to be called every second or so: it looks what the counters do."""
        if self._brought is None:
            return False
        state, now = self._state(), self._clock()
        if state is None or not state.handshake:
            return not 0 <= now - self._since < _HANDSHAKE
        if self._heard is None:
            self._heard = Heard(now, state.received, state.sent)
        self._heard = self._heard.after(now, state.received, state.sent, self._options.keepalive)
        return self._heard.is_silence(now) or not 0 <= now - max(state.handshake / 1e9, self._since) < _SESSION

    def take_another(self, gateways: tuple[Gateway, ...]) -> None:
        listed = next((each for each in gateways if self.gateway in each.ways), None)
        others = [each for each in gateways if each is not listed]
        if listed is not None and self.gateway != listed.ways[-1]:
            self.gateway = listed.ways[-1]
        elif others:
            self.gateway = self._choose(others).ways[0]
        elif listed is not None:
            self.gateway = listed.ways[0]
        self._since = self._clock()
        self._brought = None

    def take_down(self) -> None:
        self._links.remove(self._options.name)
        self._brought = None

    def _of(self, gateways: tuple[Gateway, ...]) -> Gateway:
        """The one in use, if it is still listed with that key, be it its next; else any."""
        self.gateway = self.gateway or self._kernels(gateways)
        if self.gateway is not None and any(self.gateway in each.ways for each in gateways):
            return self.gateway
        if not gateways:
            raise NoGateway
        self.gateway = self._choose(gateways).ways[0]
        return self.gateway

    def _kernels(self, gateways: tuple[Gateway, ...]) -> Gateway | None:
        """The one that the interface has: the service may have been started again, with a session that goes on."""
        if self._links.index(self._options.name) is None:
            return None
        with contextlib.suppress(LetheError):  # what is wrong with the interface is said when it is to be changed
            if (state := self._state()) is not None:
                ways = (way for each in gateways for way in each.ways)
                return next((way for way in ways if way.public_key == state.public_key), None)
        return None

    def _peer(self, own: Own, gateway: Gateway) -> Peer:
        endpoint = self._resolve(gateway.host, gateway.port)
        if endpoint is None:
            raise GatewayNotFound(gateway)
        address = endpoint.text.rpartition(":")[0].strip("[]")
        if self._links.leads_to(self._options.name, address, self._options.allowed_ips):
            raise GatewayInside(gateway)
        allowed_ips = AllowedIPs.from_texts(list(self._options.allowed_ips))
        preshared_key = own.registration.preshared_key if own.registration else NO_PRESHARED_KEY
        return Peer(gateway.public_key, preshared_key, self._options.keepalive, allowed_ips, endpoint)

    def _carried(self, own: Own) -> tuple[tuple[Address, ...], tuple[str, ...]]:
        """Its addresses, and what goes through the tunnel: of IPv6 only where this host has that."""
        addresses = own.registration.addresses if own.registration else ()
        networks = self._options.allowed_ips
        if self._links.carries_ipv6(self._options.name):
            return addresses, networks
        if not self._has_told:
            _log.warning("this host has no IPv6 on %s: the tunnel carries IPv4 alone", self._options.name)
            self._has_told = True
        carried = tuple(address for address in addresses if address.version == 4)
        if addresses and not carried:
            raise NoFamily(self._options.name)
        return carried, tuple(network for network in networks if ip_network(network).version == 4)

    def _found(self, own: Own, peer: Peer, addresses: tuple[Address, ...]) -> PeerState | None:
        """The gateway as the kernel has it, if all is as it should be: to send that again would end the session."""
        state = self._state()
        if state is None or self._device.settings().public_key != own.public_key:
            return None
        if set(self._links.addresses(self._options.name)) != set(addresses):
            return None
        is_so = state[:3] == peer[:3] and state.endpoint == peer.endpoint
        return state if is_so and set(state.allowed_ips.nests()) == set(peer.allowed_ips.nests()) else None

    def _state(self) -> PeerState | None:
        """What the kernel has of the gateway; None if the interface is gone, and is to be brought again."""
        try:
            states: list[PeerState] = self._device.read(list)
        except InterfaceNotFound:
            return None
        return states[0] if states else None


def looked_up(host: str, port: int) -> Endpoint | None:
    """The endpoint behind a name or an address; None if there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    for family, _kind, _protocol, _name, address in found:
        if family == socket.AF_INET:
            return Endpoint.from_text(f"{address[0]}:{port}")
        if family == socket.AF_INET6:
            return Endpoint.from_text(f"[{address[0]}]:{port}")
    return None
