# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever knows a client on a gateway is found by audit.yml, goes away with the role and the operator, and stays away.

The tests tell one story and run in their order: everything at once is planted on one gateway, found, mended, and looked
for again. Each run of a playbook costs a minute under emulation, so there are few.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import made_up
import pytest
from fleet.client import Client
from fleet.gateway import INTERFACE, PORT, Gateway
from fleet.hosts import CHECKOUT, CommandFailed, Host
from fleet.registry import play

PACKET_TOO_BIG = (CHECKOUT / "tests/packet_too_big.py").read_text()

# A peer that was here and is not any more: at this address, by this name, with this key.
GONE_AT, GONE_AT_V6, GONE_NAME, GONE_KEY = "198.51.100.23", "2001:db8:99::23", "mallory", made_up.key(23)
CLOCK_AHEAD = 300  # seconds: more than the bound

# By size, because some of it is written while the clock is ahead.
FORGET_LOGS = "dmesg --clear; journalctl --rotate --vacuum-size=1K"

# Services that write down what they see, as far as an audit can tell: the lab cannot install the real ones.
DAEMONS = {
    "syslog": "rsyslog.service",
    "log-export": "systemd-journal-upload.service",
    "flow-export": "softflowd.service",
    "kernel-audit": "auditd.service",
    "statistics": "sysstat.service",
    "kdump": "kdump-tools.service",
}


@dataclass(frozen=True)
class Leak:
    """How it is planted on a gateway, and how its operator removes it; empty if the roles do."""

    plant: str
    remove: str = ""


def bound_over(file: str, content: str) -> Leak:
    """Another content of a file that cannot be written."""
    copy = f"/run/leak.{Path(file).name}"
    return Leak(f"echo {content} >{copy}; mount --bind {copy} {file}", f"umount {file}; rm {copy}")


def leaks(host: Host, client: Client) -> dict[str, Leak]:
    """A leak for each check, in the order in which they are planted and removed."""
    narrow = f"{host.wan_ipv6} {GONE_AT_V6} {PORT} 1300"
    return {
        "tracking-rules": Leak(f"nft delete table inet lethe_{INTERFACE}"),
        # A packet to the port makes the entry; it is to be there for as long as this takes.
        "tracked": Leak(
            "nft 'table inet leak { chain state { type filter hook input priority 0; ct state established accept; }; }'"
            "; sysctl net.netfilter.nf_conntrack_udp_timeout=900 net.netfilter.nf_conntrack_udp_timeout_stream=900",
            "sysctl net.netfilter.nf_conntrack_udp_timeout=30 net.netfilter.nf_conntrack_udp_timeout_stream=120",
        ),
        "packet-log": Leak(
            "nft 'table inet leaklog { chain seen { type filter hook input priority -1;"
            f' udp dport {PORT} log prefix "leak "; }}; }}\'',
            "nft delete table inet leaklog",
        ),
        "packet-trace": Leak(
            "nft 'table inet leaktrace { chain trace { type filter hook prerouting priority -400;"
            f" udp dport {PORT} meta nftrace set 1; }}; }}'",
            "nft delete table inet leaktrace; nft delete table inet leak",
        ),
        "kernel-packet-log": Leak(
            "sysctl net.ipv4.conf.eth1.log_martians=1", "sysctl net.ipv4.conf.eth1.log_martians=0"
        ),
        "neighbours": Leak("sysctl net.ipv4.neigh.default.gc_thresh1=128"),
        "kept-routes-time": Leak("sysctl net.ipv6.route.mtu_expires=600"),
        "kept-routes": Leak(
            f"python3 - {narrow} <<'SCRIPT'\n{PACKET_TOO_BIG}\nSCRIPT\n",
            "ip -6 route flush cache; ip route flush cache",
        ),
        "packet-sockets": Leak(
            "systemd-run --unit=leak-capture tcpdump -i eth1 -w /dev/null; sleep 3",
            "systemctl stop leak-capture.service",
        ),
        "link-programs": Leak(
            "tc qdisc add dev eth1 clsact; tc filter add dev eth1 ingress matchall action mirred egress mirror dev lo",
            "tc qdisc delete dev eth1 clsact",
        ),
        "kernel-tracing": Leak(
            "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing;"
            "echo p:lethe_leak do_nanosleep >/sys/kernel/tracing/kprobe_events",
            "echo >/sys/kernel/tracing/kprobe_events",
        ),
        "dynamic-debug": Leak("echo 'module wireguard +p' >/proc/dynamic_debug/control"),
        "dynamic-debug-boot": Leak(
            "echo 'options wireguard dyndbg=+p' >/etc/modprobe.d/leak.conf", "rm /etc/modprobe.d/leak.conf"
        ),
        "journal-on-disk": Leak(
            "printf '[Journal]\\nStorage=persistent\\n' >/etc/systemd/journald.conf.d/lethe.conf;"
            "systemctl restart systemd-journald.service; journalctl --flush",
        ),
        "hibernation": Leak("grep -qw disk /sys/power/state; rm /etc/systemd/sleep.conf.d/lethe.conf"),
        "core-dumps": Leak("sysctl kernel.core_pattern=core"),
        # Nothing can set it back, not even for a test; and what the role writes goes there as well.
        "kexec": bound_over("/proc/sys/kernel/kexec_load_disabled", "0"),
        "swap": Leak(
            "dd if=/dev/zero of=/leak.swap bs=1M count=8; chmod 600 /leak.swap; mkswap /leak.swap; swapon /leak.swap",
            "rm /leak.swap",
        ),
        "swap-at-boot": Leak(
            "echo '/leak.swap none swap sw,nofail 0 0' >>/etc/fstab; systemctl unmask swap.target",
            "sed -i '/leak.swap/d' /etc/fstab",
        ),
        "wg-quick": Leak(
            "umask 077; printf '[Interface]\\nSaveConfig = true\\n[Peer]\\nPublicKey = "
            f"{GONE_KEY}\\nEndpoint = {GONE_AT}:{PORT}\\n' >/etc/wireguard/{GONE_NAME}.conf",
            f"rm /etc/wireguard/{GONE_NAME}.conf",
        ),
        "wireguard-files": Leak(
            f"umask 077; wg genkey >/etc/wireguard/{GONE_NAME}.key", f"rm /etc/wireguard/{GONE_NAME}.key"
        ),
        "shell-history": Leak(
            f"echo 'wg set {INTERFACE} peer {GONE_KEY} remove' >>/root/.bash_history", "rm /root/.bash_history"
        ),
        "readable-keys": Leak(f"chmod 644 /etc/lethe/{INTERFACE}.key", f"chmod 600 /etc/lethe/{INTERFACE}.key"),
        "kernel-version": bound_over("/sys/module/wireguard/version", "1.0.20210606"),
        "agent": Leak(
            "systemctl stop lethe-key-sync.service || true;"
            "[ -e /etc/lethe/key-sync.json ] || echo '{}' >/etc/lethe/key-sync.json",
            "[ -e /etc/systemd/system/lethe-key-sync.service ] || rm -f /etc/lethe/key-sync.json",
        ),
        **{
            check: Leak(
                f"printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\n'"
                f" >/etc/systemd/system/{unit}; systemctl start {unit}",
                f"systemctl stop {unit}; rm /etc/systemd/system/{unit}",
            )
            for check, unit in DAEMONS.items()
        },
        # A run that has begun would still end.
        "purge-timer": Leak(
            f"unit=lethe-purge@{INTERFACE}; systemctl disable --now $unit.timer; systemctl stop $unit.service"
        ),
        "purge-late": Leak(f"rm /run/lethe/purge/{INTERFACE}.json"),
        # An address without a handshake; nobody has seen since when.
        "ghosts": Leak(f"wg set {INTERFACE} peer {GONE_KEY} endpoint {GONE_AT}:{PORT}"),
        # A handshake that is minutes old, by the clock.
        "endpoints": Leak(
            f"date --set=@$(($(date +%s) + {CLOCK_AHEAD}))", f"date --set=@$(($(date +%s) - {CLOCK_AHEAD}))"
        ),
        # Last: until all that writes is gone, it writes.
        "logged-endpoints": Leak(
            f"logger 'connection from {client.host.wan_ipv4} port 4500'; journalctl --sync", FORGET_LOGS
        ),
    }  # fmt: skip


def run_each(host: Host, parts: Iterable[tuple[str, str]]) -> str:
    """Run parts of a script on a host, each in a shell of its own; returns what those said that failed."""
    return host.run(
        "\n".join(
            f"sh -ec {shlex.quote(part)} >/dev/null 2>/run/leak.said || echo {name}: $(cat /run/leak.said)"
            for name, part in parts
            if part
        ),
        seconds=600,
    )


@pytest.fixture(scope="module")
def gateway(gateways: tuple[Gateway, ...]) -> Gateway:
    """The one that leaks."""
    return gateways[0]


@pytest.fixture(scope="module")
def frank(machines: dict[str, list[Host]], gateway: Gateway) -> Client:
    """A client that this gateway alone knows, and that was connected a moment ago."""
    client = Client("frank", machines["others"][0], 12)
    client.create()
    peer = client.peer()
    gateway.host.run(
        f"echo {peer['preshared_key']} | wg set {INTERFACE} peer {client.public_key}"
        f" preshared-key /dev/stdin allowed-ips {client.ipv4}/32,{client.ipv6}/128"
    )
    client.connect([gateway])
    assert client.reach(gateway.tunnel_ipv4) is not None
    return client


@pytest.fixture(scope="module")
def planted(gateway: Gateway, frank: Client) -> dict[str, Leak]:
    """All leaks are there."""
    every = leaks(gateway.host, frank)
    said = run_each(gateway.host, ((check, leak.plant) for check, leak in every.items()))
    assert said == "", f"could not be planted:\n{said}"
    # To be tracked it need not be WireGuard's; a handshake now would be a fresh one.
    frank.host.run(f"bash -c 'echo hello >/dev/udp/{gateway.host.wan_ipv4}/{PORT}'")
    return every


class TestPlanted:
    def test_every_check_has_something_to_find(self, gateway: Gateway, planted: dict[str, Leak]) -> None:
        listed = gateway.host.run("lethe audit --list").splitlines()
        assert {line.split()[0] for line in listed} == set(planted)

    def test_the_playbook_finds_every_leak_and_names_nobody(
        self,
        gateway: Gateway,
        planted: dict[str, Leak],
        frank: Client,
        tmp_path: Path,
        record_property: Callable[[str, object], None],
    ) -> None:
        with pytest.raises(CommandFailed) as stopped:
            play("audit", "--limit", gateway.name, audit_report_dir=tmp_path)

        said = str(stopped.value)
        reports = {path.name: path.read_text() for path in tmp_path.iterdir()}
        assert sorted(reports) == [f"{gateway.name}.{kind}" for kind in ("json", "prom", "txt", "xml")], said
        findings = json.loads(reports[f"{gateway.name}.json"])["findings"]
        record_property("findings", reports[f"{gateway.name}.txt"])
        assert {finding["check"] for finding in findings} == set(planted), said
        assert [finding for finding in findings if not finding["looked"]] == []
        secrets = [
            frank.public_key, frank.host.wan_ipv4, frank.host.wan_ipv6, GONE_AT, GONE_AT_V6, GONE_NAME, GONE_KEY
        ]  # fmt: skip
        assert [secret for secret in secrets if any(secret in text for text in (said, *reports.values()))] == []


class TestMended:
    def test_after_the_role_and_the_operator_nothing_is_found(
        self, gateways: tuple[Gateway, ...], gateway: Gateway, planted: dict[str, Leak], frank: Client
    ) -> None:
        play("site", "--limit", gateway.name)
        said = run_each(gateway.host, ((check, leak.remove) for check, leak in planted.items()))
        assert said == "", f"could not be removed:\n{said}"
        frank.host.run(f"ip netns delete {frank.name}")
        # The tests before this one switched WireGuard's debug messages on, for a moment, on the others as well.
        for other in gateways:
            other.host.run(FORGET_LOGS)

        recap = play("audit")

        assert sorted(recap.hosts) == [other.name for other in gateways]
        assert recap.output.count(" checks: no findings") == len(gateways)

    def test_nothing_is_found_after_a_reboot(self, gateway: Gateway) -> None:
        gateway.host.reboot()
        # Until the first purge, a quarter of a minute after the boot, that is what it finds.
        gateway.host.run(
            f"for each in $(seq 60); do test -e /run/lethe/purge/{INTERFACE}.json && exit 0; sleep 1; done; exit 1",
            seconds=300,
        )
        try:
            assert gateway.host.run("lethe audit", seconds=300).endswith(" checks: no findings")
            # No check knows what an operator has set here, and a parameter of a module is easily too early at boot.
            assert gateway.host.run("sysctl --values net.netfilter.nf_conntrack_tcp_timeout_established") == "7440"
        finally:
            play("site", "--limit", gateway.name, "--tags", "peers")  # it has none after a reboot
