# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients: each is a network namespace on the lab's client machine whose only way out is its tunnel."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .gateway import PORT, Gateway
from .hosts import Host

OTHER_CLIENTS = "10.77.0.0/24"


@dataclass(frozen=True)
class Client:
    """One client with a key of its own. The namespace, the interface and the client have one name."""

    name: str
    host: Host
    number: int

    @property
    def ipv4(self) -> str:
        return f"10.77.0.{self.number}"

    @property
    def ipv6(self) -> str:
        return f"fd00:6c65:7468:77::{self.number}"

    def create(self) -> None:
        """Make the namespace with an interface in it, and its keys; they never leave the machine."""
        name = self.name
        self.host.run(f"""set -e
            ip netns delete {name} 2>/dev/null || true
            ip netns add {name}
            umask 077
            wg genkey >/run/{name}.key
            wg genpsk >/run/{name}.psk
            ip link add {name} type wireguard
            ip link set {name} netns {name} mtu 1420
            ip netns exec {name} wg set {name} private-key /run/{name}.key
            ip -n {name} address add {self.ipv4}/32 dev {name}
            ip -n {name} address add {self.ipv6}/128 dev {name} nodad
            ip -n {name} link set lo up
            ip -n {name} link set {name} up
            ip -n {name} route add default dev {name}
            ip -n {name} -6 route add default dev {name}
        """)

    @cached_property
    def public_key(self) -> str:
        return self.host.run(f"wg pubkey </run/{self.name}.key")

    def peer(self) -> dict[str, object]:
        """This client as a gateway's peer: one line of the peers file."""
        return {
            "public_key": self.public_key,
            "preshared_key": self.host.run(f"cat /run/{self.name}.psk"),
            "allowed_ips": [f"{self.ipv4}/32", f"{self.ipv6}/128"],
        }

    def connect(self, gateways: Sequence[Gateway]) -> None:
        """Know the gateways. WireGuard speaks to one when something is to be sent to it.

        Through each goes what is addressed to it, and to the public addresses of the others: "the internet", here.
        """
        arguments = []
        for gateway in gateways:
            beyond = [other.host for other in gateways if other is not gateway]
            networks = [
                f"{gateway.tunnel_ipv4}/32",
                f"{gateway.tunnel_ipv6}/128",
                *(f"{host.wan_ipv4}/32" for host in beyond),
                *(f"{host.wan_ipv6}/128" for host in beyond),
                *([OTHER_CLIENTS] if gateway is gateways[0] else []),
            ]
            arguments.append(
                f"peer {gateway.public_key()} preshared-key /run/{self.name}.psk"
                f" endpoint {gateway.host.wan_ipv4}:{PORT} allowed-ips {','.join(networks)}"
            )
        self.inside(f"wg set {self.name} {' '.join(arguments)}")

    def inside(self, command: str) -> str:
        """Run a command where the tunnel is the only network. Raises CommandFailed."""
        return self.host.run(f"ip netns exec {self.name} {command}")

    def ping(self, address: str, *, seconds: int = 2) -> float | None:
        """The round-trip time in ms of one packet through the tunnel; None without an answer."""
        result = self.host.try_to_run(f"ip netns exec {self.name} ping -n -c 1 -W {seconds} {address}")
        found = re.search(r"time=([\d.]+) ms", result.stdout)
        return float(found[1]) if found else None

    def reach(self, address: str, *, seconds: float = 30) -> float | None:
        """Ping until there is an answer: the first packets wait for the handshake. Returns the last ping's ms."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answered = self.ping(address)
            if answered is not None:
                return answered
        return None
