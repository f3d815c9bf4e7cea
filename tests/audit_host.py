# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway in a directory: Debian 12 as site.yml leaves it, on which leaks are planted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.host import CannotLook, Host
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.kernel import Kernel
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.clock import ClockReading, read_clocks
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import Device
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.purge_run import purge

PORT = 51820
SECOND = 1_000_000_000

# Of three peers: one connected, one that is never heard of, one with a fixed address that is exempt.
CONNECTED, SILENT, SITE = PublicKey.from_text(key(1)), PublicKey.from_text(key(2)), PublicKey.from_text(key(3))
CONNECTED_AT, CONNECTED_AT_V6 = "198.51.100.77", "2001:db8:77::4711"
SITE_AT = "203.0.113.200"
# A peer that was here once, of whom nothing should be left.
GONE_AT, GONE_AT_V6 = "192.0.2.147", "2001:db8:147::1"
NAME = "alice-of-wonderland"

SECRETS = (
    CONNECTED_AT,
    CONNECTED_AT_V6,
    SITE_AT,
    GONE_AT,
    GONE_AT_V6,
    NAME,
    key(1),
    key(2),
    key(3),
    key(4, "private"),
)

_BASE_CHAINS = [
    {"chain": {"family": "inet", "table": "lethe_wg0", "name": name, "type": "filter", "hook": hook, "prio": priority}}
    for name, hook, priority in (
        ("untracked_in", "prerouting", -300),
        ("untracked_out", "output", -300),
        ("input", "input", 0),
    )
]


def match(field: str, value: object, protocol: str = "udp") -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": value}}


def rule(chain: str, *statements: dict[str, Any], family: str = "inet", table: str = "lethe_wg0") -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": chain, "handle": 7, "expr": list(statements)}}


EXEMPT_IN = rule("untracked_in", match("dport", PORT), {"notrack": None})
EXEMPT_OUT = rule("untracked_out", match("sport", PORT), {"notrack": None})


class PlantedKernel(Kernel):
    """One in memory, which passes for a gateway's."""

    def __init__(self) -> None:
        self.devices = {"wg0": MemoryDevice("wg0")}
        self.entries = 0
        self.routes: list[float] = []
        self.attached: list[str] = []

    def device(self, name: str) -> Device:
        return self.devices[name]

    def tracked(self, port: int) -> int:
        return self.entries if port == PORT else 0

    def kept_routes(self) -> list[float]:
        return self.routes

    def programs(self) -> list[str]:
        return self.attached


class PlantedHost(Host):
    """Its files are in a directory, and its commands print what is planted."""

    def __init__(self, root: Path) -> None:
        self.planted = PlantedKernel()
        super().__init__(root, kernel=self.planted, clocks=self.read_clocks)
        self.ahead = 0  # seconds by which its clocks are
        self.rules: list[dict[str, Any]] = [*_BASE_CHAINS, EXEMPT_IN, EXEMPT_OUT]
        self.commands: dict[str, str] = {"dmesg": "Linux version 6.1\nwireguard: WireGuard 1.0.0 loaded.\n"}
        self.enabled = {"lethe-purge@wg0.timer"}

    def read_clocks(self) -> ClockReading:
        now = read_clocks()
        return ClockReading(now.realtime + self.ahead * SECOND, now.boottime + self.ahead * SECOND)

    def write(self, name: str, text: str = "", mode: int = 0o600) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def peer(self, public_key: PublicKey, endpoint: str | None = None, *, handshake_ago: int | None = None) -> None:
        """Add a peer, or change it: where it is, and how many seconds ago its handshake was."""
        device = self.planted.devices["wg0"]
        device.apply(Plan(added=[Peer(public_key)]))
        device.hear(
            public_key,
            endpoint=Endpoint.from_text(endpoint) if endpoint else None,
            handshake=0 if handshake_ago is None else time.time_ns() - handshake_ago * SECOND,
        )

    def purge(self) -> None:
        purge(
            self.planted.devices["wg0"],
            exempt=frozenset([SITE]),
            state_directory=self.path("/run/lethe/purge"),
            now=self.read_clocks(),
        )

    def run(self, *command: str) -> str:
        if command[0] == "nft":
            return json.dumps({"nftables": [{"metainfo": {}}, *self.rules]})
        if command[0] == "systemctl":
            return "\n\n".join(self._unit(name) for name in command[3:])
        if command[0] not in self.commands:
            raise CannotLook(f"the command {command[0]} is not there")
        return self.commands[command[0]]

    def _unit(self, name: str) -> str:
        on = name in self.enabled
        state = ("loaded", "active", "enabled") if on else ("not-found", "inactive", "")
        return "Id={}\nLoadState={}\nActiveState={}\nUnitFileState={}\nResult=success".format(name, *state)


def gateway(root: Path) -> PlantedHost:
    """A gateway in order, with a client that is connected."""
    host = PlantedHost(root)
    for name in ("lo", "eth0", "wg0"):
        host.write(f"/sys/class/net/{name}/uevent", "DEVTYPE=wireguard\nINTERFACE=wg0\n" if name == "wg0" else "")
        host.write(f"/proc/sys/net/ipv4/conf/{name}/log_martians", "0\n")
    for name, text in {
        "/proc/cmdline": "root=/dev/vda console=ttyS0\n",
        "/proc/dynamic_debug/control": (
            "# filename:lineno [module]function flags format\n"
            'drivers/net/wireguard/peer.c:192 [wireguard]wg_peer_remove =_ "%s: Peer %llu (%pISpfsc) destroyed"\n'
            'net/core/dev.c:10 [kernel]dev_open =p "%s: p"\n'
        ),
        "/proc/net/packet": "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n",
        "/proc/swaps": "Filename\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
        "/proc/sys/kernel/core_pattern": "|/bin/false\n",
        "/proc/sys/kernel/kexec_load_disabled": "1\n",
        "/proc/sys/kernel/osrelease": "6.1.0-28-cloud-amd64\n",
        "/proc/sys/net/ipv4/neigh/default/gc_thresh1": "0\n",
        "/proc/sys/net/ipv4/route/mtu_expires": "60\n",
        "/proc/sys/net/ipv6/neigh/default/gc_thresh1": "0\n",
        "/proc/sys/net/ipv6/route/mtu_expires": "60\n",
        "/proc/sys/net/netfilter/nf_conntrack_max": "65536\n",
        "/proc/sys/net/netfilter/nf_conntrack_log_invalid": "0\n",
        "/sys/kernel/kexec_crash_loaded": "0\n",
        "/sys/kernel/kexec_loaded": "0\n",
        "/sys/kernel/tracing/current_tracer": "nop\n",
        "/sys/kernel/tracing/kprobe_events": "",
        "/sys/kernel/tracing/set_event": "",
        "/sys/module/wireguard/version": "1.0.0\n",
        "/sys/power/disk": "[platform] shutdown reboot suspend\n",
        "/sys/power/state": "freeze mem disk\n",
        "/etc/fstab": "# nothing but the root\n/dev/vda1 / ext4 defaults 0 1\n",
        "/etc/lethe/wg0.key": f"{key(4, 'private')}\n",
        "/etc/lethe/wg0.nft": "table inet lethe_wg0 {}\n",
        "/etc/modprobe.d/lethe.conf": "options wireguard dyndbg==_\n",
        "/etc/systemd/coredump.conf.d/lethe.conf": "[Coredump]\nStorage=none\n",
        "/etc/systemd/journald.conf": "[Journal]\n#Storage=auto\n",
        "/etc/systemd/journald.conf.d/lethe.conf": "[Journal]\nStorage=volatile\n",
        "/etc/systemd/sleep.conf.d/lethe.conf": "[Sleep]\nAllowHibernation=no\n",
        "/etc/systemd/system/lethe-purge@wg0.service": (
            f"[Service]\nExecStart=/usr/local/bin/lethe purge %i --idle-after 180 --exempt {SITE.text}\n"
        ),
        "/etc/systemd/system/lethe-purge@wg0.timer": "[Timer]\nOnBootSec=15\nOnUnitActiveSec=15\nAccuracySec=1s\n",
        "/run/log/journal/4711/system.journal": "MESSAGE=wg0: 3 peers, 0 purged\0MESSAGE=13:30:45 of 127.0.0.1\0",
        "/var/log/wtmp": "",
        "/root/.bash_history": "apt update\nlethe purge --status\n",
    }.items():
        host.write(name, text)
    for name in ("/etc/wireguard", "/home", "/var/log/journal"):
        host.path(name).mkdir(mode=0o700, parents=True)
    host.planted.devices["wg0"].configure(listen_port=PORT)
    host.peer(CONNECTED, f"{CONNECTED_AT}:4500", handshake_ago=30)
    host.peer(SILENT)
    host.peer(SITE, f"{SITE_AT}:51820", handshake_ago=10_000)
    host.purge()
    return host
