# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients far away, behind a router: only WireGuard learns their addresses, and who looks into its packets.

The lab's other clients are in the gateway's neighbour table, as clients of a gateway in the world are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .client import Client
from .gateway import PORT, Gateway
from .hosts import Host
from .traces import Address

# Where the machines' default routes point, and nobody is until now (lethe_lab/hosts.py).
_ROUTERS = ("10.99.0.254/24", "2001:db8:99::fe/64")
_HERE = ("192.0.2.1", "fe80::1")  # the router's addresses towards travellers


@contextmanager
def router(host: Host) -> Iterator[None]:
    """The machine is the one behind which the rest of the world is."""
    forward = "sysctl -qw net.ipv4.ip_forward={0} net.ipv6.conf.all.forwarding={0};"
    addresses = "".join(f"ip address add {address} dev eth1 {'nodad' * (':' in address)};" for address in _ROUTERS)
    host.run(forward.format(1) + addresses)
    try:
        yield
    finally:
        host.run(forward.format(0) + "".join(f"ip address del {address} dev eth1;" for address in _ROUTERS))


@dataclass
class Link:
    """The cable from the router to a traveller, and what has become of it."""

    address: Address
    mtu: int = 1500
    deaf: bool = False  # what is for the traveller does not arrive


@dataclass(frozen=True)
class Traveller(Client):
    """A client whose tunnel leads through another namespace, the road, which has the address that is looked for."""

    link: Link = field(kw_only=True)

    @property
    def road(self) -> str:
        return f"road-{self.name}"

    @property
    def cable(self) -> str:
        return f"to-{self.name}"

    def create(self) -> None:
        """Make the namespaces, the cable and the tunnel."""
        name, road, cable = self.name, self.road, self.cable
        self.host.run(f"""set -e
            ip netns delete {name} 2>/dev/null || true
            ip netns delete {road} 2>/dev/null || true
            ip netns add {name}
            ip netns add {road}
            ip link add {cable} mtu {self.link.mtu} type veth peer name uplink mtu {self.link.mtu} netns {road}
            ip address add {_HERE[0]}/32 dev {cable}
            ip address add {_HERE[1]}/64 dev {cable} nodad
            ip link set {cable} up
            ip -n {road} link set uplink up
            ip -n {road} route add {_HERE[0]} dev uplink
            umask 077
            wg genkey >/run/{name}.key
            wg genpsk >/run/{name}.psk
            ip -n {road} link add {name} type wireguard
            ip -n {road} link set {name} netns {name} mtu 1420
            ip netns exec {name} wg set {name} private-key /run/{name}.key
            ip -n {name} address add {self.ipv4}/32 dev {name}
            ip -n {name} link set {name} up
            ip -n {name} route add default dev {name}
            {self._settling()}
        """)

    def _settling(self) -> str:
        """The commands that give the road its address, and the router the way to it."""
        address, road, cable = self.link.address, self.road, self.cable
        here = _HERE[address.version == 6]
        family = f"-{address.version}"
        way = f"blackhole {address}" if self.link.deaf else f"{address} dev {cable}"
        return f"""
            ip -n {road} address add {address} dev uplink {"nodad" * (address.version == 6)}
            ip -n {road} {family} route replace default via {here} dev uplink src {address}
            ip {family} route add {way}
        """

    def move(self, address: Address) -> None:
        """Have another address, as one who changes networks."""
        before = self.link.address
        self.link.address = address
        self.host.run(f"""set -e
            {self._settling()}
            ip -n {self.road} address del {before} dev uplink
            ip -{before.version} route del {before}
        """)

    def know(self, gateway: Gateway, public_key: str) -> None:
        """Know one gateway, by the kind of address that the traveller has."""
        ipv6 = self.link.address.version == 6
        endpoint = f"[{gateway.host.wan_ipv6}]" if ipv6 else gateway.host.wan_ipv4
        self.inside(
            f"wg set {self.name} peer {public_key} preshared-key /run/{self.name}.psk"
            f" endpoint {endpoint}:{PORT} allowed-ips {gateway.tunnel_ipv4}/32"
        )

    def transfer(self, gateway: Gateway) -> None:
        """Send some packets of nearly the tunnel's size, and have them answered. Raises CommandFailed if none is."""
        self.inside(f"ping -n -q -c 12 -i 0.2 -W 3 -s 1380 {gateway.tunnel_ipv4}")

    def call(self, gateway: Gateway) -> None:
        """Send one packet, for which the tunnel has to be made, and wait for nothing."""
        self.host.run(f"ip netns exec {self.name} ping -n -q -c 1 -W 1 {gateway.tunnel_ipv4} || true")

    def remove(self) -> None:
        name = self.name
        self.host.run(f"""
            ip netns delete {name}
            ip netns delete {self.road}
            ip -{self.link.address.version} route flush {self.link.address}
            rm /run/{name}.key /run/{name}.psk
        """)


def cut_off(travellers: Collection[Traveller]) -> None:
    """Cut their cables: no goodbye, nothing arrives any more, and the router tells nobody so."""
    (host,) = {each.host for each in travellers}
    host.run(
        "".join(
            f"ip link set {each.cable} down;"
            f" ip -{each.link.address.version} route replace blackhole {each.link.address};"
            for each in travellers
        )
    )
