# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: who watches the gateway's packets, or lets the kernel write about them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from . import rulesets
from .finding import Leak, Severity, check
from .host import CannotLook, Host
from .network import ruleset

_CONTROLS = ("/proc/dynamic_debug/control", "/sys/kernel/debug/dynamic_debug/control")
# FILE:LINE [MODULE]FUNCTION =FLAGS "FORMAT", Documentation/admin-guide/dynamic-debug-howto.rst
_DEBUGGED = re.compile(r"^\S+ \[wireguard\]\S* =[a-z]*p")
_DEBUG_OPTION = re.compile(r"\bdyndbg\b(?!==_)")  # as a module's option; "=_" is none of them

# The protocols whose sockets see IP packets: ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 (include/uapi/linux/if_ether.h).
_SEES_IP = {0x0003, 0x0800, 0x86DD}
# They ask for the host's own address, and their sockets have a filter for the answers.
_ADDRESS_CLIENTS = {"dhclient", "dhcpcd", "systemd-networkd", "NetworkManager", "udhcpc"}

_TRACING = "/sys/kernel/tracing"


@check("dynamic-debug", Severity.HIGH, "WireGuard's debug messages, which name endpoints, are off")
def dynamic_debug(host: Host) -> Iterator[Leak]:
    control = next((name for name in _CONTROLS if host.path(name).exists()), None)
    printing = sum(1 for line in host.lines(control) if _DEBUGGED.match(line)) if control else 0
    if printing:
        yield Leak(
            "WireGuard logs the endpoints of clients",
            f"{printing} messages are on in dynamic_debug/control",
            "echo 'module wireguard =_' >/proc/dynamic_debug/control",
        )


@check("dynamic-debug-boot", Severity.MEDIUM, "nothing switches them on when the module is loaded")
def dynamic_debug_boot(host: Host) -> Iterator[Leak]:
    options = [
        line
        for place in ("/etc", "/run", "/usr/lib", "/lib")
        for path in host.files(f"{place}/modprobe.d", "*.conf")
        for line in host.lines(path)
        if line.split()[:2] == ["options", "wireguard"]
    ]
    count = sum(1 for line in options if _DEBUG_OPTION.search(line))
    count += len(re.findall(r"\bwireguard\.dyndbg\b(?!==_)", host.text("/proc/cmdline") or ""))
    if count:
        yield Leak(
            "WireGuard's debug messages are switched on when it is loaded",
            f"{count} options on the kernel's command line or in modprobe.d",
            "remove wireguard.dyndbg, and 'options wireguard dyndbg=+p'",
        )


def _iptables(host: Host) -> tuple[int, int]:
    """How many rules of iptables log or copy, and how many trace."""
    commands = []
    if any(rule.opaque for rule in ruleset(host)):
        commands += ["iptables-nft-save", "ip6tables-nft-save"]
    for table, command in (("ip_tables_names", "iptables-legacy-save"), ("ip6_tables_names", "ip6tables-legacy-save")):
        if host.lines(f"/proc/net/{table}"):
            commands.append(command)
    counts = [rulesets.logging_lines(host.run(command)) for command in commands]
    return sum(logs for logs, _traces in counts), sum(traces for _logs, traces in counts)


@check("packet-log", Severity.HIGH, "no rule of the packet filter logs or copies packets")
def packet_log(host: Host) -> Iterator[Leak]:
    logs, _traces = _iptables(host)
    logs += sum(1 for rule in ruleset(host) if rule.logs and rule.sees_udp)
    if logs:
        yield Leak(
            "the packet filter logs or copies packets, with their addresses",
            f"{logs} rules that can see UDP",
            "nft list ruleset, iptables-save: remove log, dup, LOG, NFLOG and TEE, or limit them to another protocol",
        )


@check("packet-trace", Severity.HIGH, "no rule of the packet filter traces packets")
def packet_trace(host: Host) -> Iterator[Leak]:
    _logs, traces = _iptables(host)
    traces += sum(1 for rule in ruleset(host) if rule.traces)
    if traces:
        yield Leak(
            "the packet filter traces packets, with their addresses",
            f"{traces} rules",
            "nft list ruleset, iptables-save: remove 'meta nftrace set 1' and TRACE",
        )


@check("kernel-packet-log", Severity.HIGH, "the kernel does not log packets by itself")
def kernel_packet_log(host: Host) -> Iterator[Leak]:
    invalid = host.number("/proc/sys/net/netfilter/nf_conntrack_log_invalid")
    if invalid:
        yield Leak(
            "connection tracking logs packets that it thinks invalid, with their addresses",
            "net.netfilter.nf_conntrack_log_invalid is set",
            "sysctl net.netfilter.nf_conntrack_log_invalid=0, also in /etc/sysctl.d",
        )
    links = [path for path in host.files("/proc/sys/net/ipv4/conf", "*") if host.number(path / "log_martians")]
    if links:
        yield Leak(
            "the kernel logs packets from addresses that it thinks impossible",
            f"log_martians is set for {len(links)} entries of net.ipv4.conf",
            "sysctl net.ipv4.conf.all.log_martians=0, the same for the others, also in /etc/sysctl.d",
        )


@check("packet-sockets", Severity.HIGH, "nobody captures packets")
def packet_sockets(host: Host) -> Iterator[Leak]:
    text = host.text("/proc/net/packet")
    if text is None:
        raise CannotLook("/proc/net/packet is not there")
    # sk RefCnt Type Proto Iface R Rmem User Inode
    rows = [line.split() for line in text.splitlines()[1:]]
    inodes = {row[8] for row in rows if len(row) >= 9 and int(row[3], 16) in _SEES_IP}
    capturing = [programs for programs in _holders(host, inodes) if not programs or not programs <= _ADDRESS_CLIENTS]
    if capturing:
        yield Leak(
            "somebody captures packets",
            f"{len(capturing)} packet sockets",
            "ss --packet --processes shows who; end it",
        )


def _holders(host: Host, inodes: set[str]) -> Collection[set[str]]:
    """For each of these sockets the programs that have it open; none if that cannot be seen."""
    found: dict[str, set[str]] = {inode: set() for inode in inodes}
    for process in host.files("/proc", "[1-9]*") if inodes else ():
        try:
            program = (process / "exe").readlink().name
            descriptors = list((process / "fd").iterdir())
        except OSError:
            continue  # it is gone, or of the kernel: then nobody answers for its sockets
        for descriptor in descriptors:
            inode = _socket(descriptor)
            if inode in found:
                found[inode].add(program)
    return found.values()


def _socket(descriptor: Path) -> str:
    try:
        target = os.readlink(descriptor)
    except OSError:
        return ""
    return target.removeprefix("socket:[").removesuffix("]") if target.startswith("socket:[") else ""


@check("link-programs", Severity.HIGH, "no program and no mirror is attached to a link")
def link_programs(host: Host) -> Iterator[Leak]:
    kinds = host.kernel.programs()
    if kinds:
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        yield Leak(
            "programs or mirrors on network links see every packet",
            counts,
            "bpftool net, tc filter show: detach them",
        )


@check("kernel-tracing", Severity.MEDIUM, "the kernel's functions are not traced")
def kernel_tracing(host: Host) -> Iterator[Leak]:
    if not host.files(_TRACING, "current_tracer"):
        return  # not mounted: nobody can have switched it on through it
    tracer = (host.text(f"{_TRACING}/current_tracer") or "nop").strip()
    events = len(host.lines(f"{_TRACING}/set_event"))
    probes = len(host.lines(f"{_TRACING}/kprobe_events"))
    if tracer != "nop" or events or probes:
        yield Leak(
            "functions of the kernel are traced, and their arguments can be addresses",
            f"{'a' if tracer != 'nop' else 'no'} tracer, {events} events, {probes} probes",
            f"switch them off: echo nop >{_TRACING}/current_tracer; echo >{_TRACING}/set_event; "
            f"echo >{_TRACING}/kprobe_events",
        )
