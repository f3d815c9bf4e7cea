# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of the lab and their addresses; a plain table without behaviour."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """One machine. Its number is the last part of its addresses on the network "wan" (eth1)."""

    name: str
    group: str
    number: int
    usual: bool = True  # whether `lab up` starts it without being told

    @property
    def wan_ipv4(self) -> str:
        return f"10.99.0.{self.number}"

    @property
    def wan_ipv6(self) -> str:
        return f"2001:db8:99::{self.number}"

    @property
    def machine_id(self) -> str:
        return hashlib.sha256(f"lethe-lab {self.name}".encode()).hexdigest()[:32]

    def mac(self, device: int) -> str:
        """The hardware address of ethDEVICE: locally administered, different for every device of the lab."""
        return f"52:54:00:{device:02x}:00:{self.number:02x}"


HOSTS = (
    Host("gateway1", "gateways", 1),
    Host("gateway2", "gateways", 2),
    Host("client1", "others", 10),
    Host("registry1", "registries", 5, usual=False),
)
USUAL = tuple(host for host in HOSTS if host.usual)

# Where the machines' default routes point: as on a real gateway, the uplink is the public interface.
# Nothing answers there, and nothing of the lab reaches another network.
WAN_ROUTERS = ("10.99.0.254", "2001:db8:99::fe")


def host_named(name: str) -> Host | None:
    return next((host for host in HOSTS if host.name == name), None)


def hosts_file() -> str:
    """The text of /etc/hosts on every machine."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    for host in HOSTS:
        lines += [f"{host.wan_ipv4} {host.name}", f"{host.wan_ipv6} {host.name}"]
    return "\n".join(lines) + "\n"
