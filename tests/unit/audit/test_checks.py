# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check finds its leak where it is planted, nothing on a gateway in order, and says so where it cannot look."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from xml.etree import ElementTree

import pytest
from audit_host import (
    CONNECTED,
    CONNECTED_AT,
    CONNECTED_AT_V6,
    EXEMPT_IN,
    EXEMPT_OUT,
    GONE_AT,
    GONE_AT_V6,
    NAME,
    SECRETS,
    SILENT,
    PlantedHost,
    gateway,
    match,
    rule,
)
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent import status
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit import logs
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.finding import Check, Severity
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.host import CannotLook
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.report import FORMATS, Report
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.run import CHECKS, audit
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.clock import read_clocks
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

Plant = Callable[[PlantedHost], None]
LEAKS: list[tuple[str, str, Plant]] = []  # the check that finds it, what it is, how it comes about


def leak(check: str, what: str) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        LEAKS.append((check, what, plant))
        return plant

    return add


@pytest.fixture
def host(tmp_path: Path) -> PlantedHost:
    return gateway(tmp_path)


def found(host: PlantedHost, accepted: Collection[str] = ()) -> Report:
    return audit(host, "gateway1", accepted=accepted)


def checks_of(report: Report) -> set[str]:
    return {finding.check for finding in report.findings}


def file(check: str, what: str, name: str, text: str, mode: int = 0o600) -> None:
    leak(check, what)(lambda host: host.write(name, text, mode) and None)


def service(check: str, name: str) -> None:
    leak(check, name.partition(".")[0])(lambda host: host.enabled.add(name))


def rules(check: str, what: str, *planted: dict) -> None:
    leak(check, what)(lambda host: host.rules.extend(planted))


# --- peers ------------------------------------------------------------------------------------------------


@leak("endpoints", "a peer that left and was not purged")
def _left(host: PlantedHost) -> None:
    host.peer(SILENT, f"{GONE_AT}:4500", handshake_ago=300)


@leak("ghosts", "an address without a handshake, for too long")
def _ghost(host: PlantedHost) -> None:
    host.peer(SILENT, f"[{GONE_AT_V6}]:4500")
    host.purge()
    host.ahead = 170
    host.purge()  # not due
    host.ahead = 240  # due 60 s ago
    host.peer(CONNECTED, f"{CONNECTED_AT}:4500", handshake_ago=-240)


@leak("ghosts", "an address without a handshake where no purge has run")
def _ghost_without_purge(host: PlantedHost) -> None:
    host.peer(SILENT, f"{GONE_AT}:4500")
    host.path("/run/lethe/purge/wg0.json").unlink()


@leak("purge-timer", "the timer is stopped")
def _no_timer(host: PlantedHost) -> None:
    host.enabled.clear()


@leak("purge-late", "the purge hangs")
def _late(host: PlantedHost) -> None:
    host.ahead = 60


@leak("purge-late", "the purge has never run")
def _never(host: PlantedHost) -> None:
    host.path("/run/lethe/purge/wg0.json").unlink()


file("kernel-version", "an old kernel", "/proc/sys/kernel/osrelease", "5.10.42-amd64\n")
file("kernel-version", "a kernel of a dead series", "/proc/sys/kernel/osrelease", "5.11.22-custom\n")
file("kernel-version", "a module from elsewhere", "/sys/module/wireguard/version", "1.0.20210606\n")


def _agent_status(host: PlantedHost, heard_ago: int, written_ago: int = 0) -> None:
    now = read_clocks().boottime
    second = 1_000_000_000
    document = status.InterfaceStatus("wg0", "following", heard=now - heard_ago * second).as_json(None)
    document["written"] = now - written_ago * second
    host.write("/etc/lethe/key-sync.json", "{}")
    host.write("/run/lethe/key-sync/wg0.json", json.dumps(document))


@leak("agent", "the agent is dead")
def _dead_agent(host: PlantedHost) -> None:
    _agent_status(host, heard_ago=5, written_ago=60)


@leak("agent", "the agent hears nothing")
def _deaf_agent(host: PlantedHost) -> None:
    _agent_status(host, heard_ago=301)


# --- the network ------------------------------------------------------------------------------------------


@leak("tracked", "an entry of connection tracking")
def _entry(host: PlantedHost) -> None:
    host.planted.entries = 1


@leak("tracking-rules", "replies are tracked")
def _no_rule_out(host: PlantedHost) -> None:
    host.rules.remove(EXEMPT_OUT)


@leak("tracking-rules", "only IPv4 is exempt")
def _only_ipv4(host: PlantedHost) -> None:
    host.rules.remove(EXEMPT_IN)
    chain = {"family": "ip", "table": "raw", "name": "in", "hook": "prerouting", "prio": -300, "type": "filter"}
    host.rules.append({"chain": chain})
    host.rules.append(rule("in", match("dport", 51820), {"notrack": None}, family="ip", table="raw"))


@leak("tracking-rules", "the rule is too late to matter")
def _late_rule(host: PlantedHost) -> None:
    host.rules.remove(EXEMPT_IN)
    host.rules.append(rule("input", match("dport", 51820), {"notrack": None}))


@leak("tracking-rules", "the rule is about another port")
def _other_port(host: PlantedHost) -> None:
    host.rules[host.rules.index(EXEMPT_OUT)] = rule("untracked_out", match("sport", 51821), {"notrack": None})


file("neighbours", "the kernel's own limit", "/proc/sys/net/ipv6/neigh/default/gc_thresh1", "128\n")


@leak("kept-routes", "a route to a client with a small MTU")
def _route(host: PlantedHost) -> None:
    host.planted.routes = [594.0, 12.0]


@leak("kept-routes", "a route to a client without an end")
def _endless_route(host: PlantedHost) -> None:
    host.planted.routes = [float("inf")]


file("kept-routes-time", "the kernel's own time", "/proc/sys/net/ipv6/route/mtu_expires", "600\n")


# --- tracing ----------------------------------------------------------------------------------------------

file(
    "dynamic-debug",
    "debug messages",
    "/proc/dynamic_debug/control",
    'drivers/net/wireguard/receive.c:163 [wireguard]wg_receive_handshake_packet =pmf "%s: from peer %llu (%pISpfsc)"\n',
)
file("dynamic-debug-boot", "an option of the module", "/etc/modprobe.d/debug.conf", "options wireguard dyndbg=+p\n")
file("dynamic-debug-boot", "the command line", "/proc/cmdline", "root=/dev/vda wireguard.dyndbg=+p quiet\n")

rules(
    "packet-log", "a log rule", rule("input", match("dport", 51820), {"log": {"prefix": f"{NAME} "}}, {"accept": None})
)
rules("packet-log", "a log rule for everything", rule("input", {"log": None}))
rules("packet-log", "a copy of packets", rule("input", {"dup": {"addr": GONE_AT, "dev": "eth0"}}))
rules("packet-log", "a target of iptables", rule("input", {"xt": {"type": "target", "name": "NFLOG"}}))


@leak("packet-log", "a rule of iptables that nft cannot read")
def _opaque(host: PlantedHost) -> None:
    host.rules.append(rule("input", {"xt": None}))
    host.commands["iptables-nft-save"] = f"*filter\n-A INPUT -s {GONE_AT}/32 -p udp -j LOG --log-prefix x\nCOMMIT\n"
    host.commands["ip6tables-nft-save"] = ""


@leak("packet-log", "a rule of the old iptables")
def _legacy(host: PlantedHost) -> None:
    host.write("/proc/net/ip6_tables_names", "filter\n")
    host.commands["ip6tables-legacy-save"] = "*filter\n-A FORWARD -j LOG\nCOMMIT\n"


rules(
    "packet-trace",
    "a trace of packets",
    rule("input", {"mangle": {"key": {"meta": {"key": "nftrace"}}, "value": 1}}),
)


@leak("packet-trace", "a trace by the old iptables")
def _legacy_trace(host: PlantedHost) -> None:
    host.write("/proc/net/ip_tables_names", "raw\n")
    host.commands["iptables-legacy-save"] = "*raw\n-A PREROUTING -p udp -j TRACE\nCOMMIT\n"


file("kernel-packet-log", "invalid packets", "/proc/sys/net/netfilter/nf_conntrack_log_invalid", "255\n")
file("kernel-packet-log", "impossible addresses", "/proc/sys/net/ipv4/conf/eth0/log_martians", "1\n")


def _packet_socket(host: PlantedHost, program: str, protocol: str = "0003") -> None:
    head = "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n"
    host.write("/proc/net/packet", f"{head}0000000000000000 3      3    {protocol}   2     1 0      0      4711\n")
    for name, target in (("exe", f"/usr/sbin/{program}"), ("fd/3", "socket:[4711]")):
        path = host.path(f"/proc/815/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


@leak("packet-sockets", "tcpdump")
def _tcpdump(host: PlantedHost) -> None:
    _packet_socket(host, "tcpdump")


@leak("packet-sockets", "a capture that nobody answers for")
def _unknown_capture(host: PlantedHost) -> None:
    _packet_socket(host, "dhclient", "0800")
    host.path("/proc/815/fd/3").unlink()


@leak("link-programs", "programs on the uplink")
def _programs(host: PlantedHost) -> None:
    host.planted.attached = ["XDP", "tc", "tc"]


file("kernel-tracing", "a tracer", "/sys/kernel/tracing/current_tracer", "function\n")
file("kernel-tracing", "a probe", "/sys/kernel/tracing/kprobe_events", "p:kprobes/p_wg wg_socket_set_peer_endpoint\n")


# --- logs -------------------------------------------------------------------------------------------------

file("journal-on-disk", "a later drop-in", "/etc/systemd/journald.conf.d/zz.conf", "[Journal]\nStorage=persistent\n")
file("journal-on-disk", "an old journal", "/var/log/journal/4711/system@0.journal", "LPKSHHRH")


@leak("journal-on-disk", "the distribution's setting")
def _stock_journal(host: PlantedHost) -> None:
    host.path("/etc/systemd/journald.conf.d/lethe.conf").unlink()


file(
    "logged-endpoints",
    "the journal names a peer that is here",
    "/run/log/journal/4711/system.journal",
    f"MESSAGE=Connection from {CONNECTED_AT}:4500 closed\0",
)
file("logged-endpoints", "a log names a peer that is here", "/var/log/auth.log", f"sshd: from {CONNECTED_AT}.\n")
file(
    "logged-endpoints",
    "a log names a peer that left",
    "/var/log/kern.log",
    f"wireguard: wg0: Receiving handshake initiation from peer 3 ({GONE_AT}:4500)\n",
)
file(
    "logged-endpoints",
    "the packet filter named a peer that left",
    f"/var/log/{NAME}.log",
    f"IN=eth0 OUT= SRC={GONE_AT_V6} DST=2001:db8::1 LEN=196 TC=0 HOPLIMIT=64 PROTO=UDP SPT=4500 DPT=51820 LEN=156\n",
)


@leak("logged-endpoints", "IPv6, in other words than the kernel's, and packed")
def _packed_log(host: PlantedHost) -> None:
    host.peer(SILENT, f"[{CONNECTED_AT_V6}]:4500", handshake_ago=20)
    host.write("/var/log/syslog.2.gz").write_bytes(gzip.compress(b"from 2001:0DB8:77:0:0:0:0:4711 port 4500"))


@leak("logged-endpoints", "the kernel's own log names a peer that left")
def _dmesg(host: PlantedHost) -> None:
    host.commands["dmesg"] = f"wireguard: wg0: Sending keepalive packet to peer 3 ([{GONE_AT_V6}]:4500)\n"


service("syslog", "rsyslog.service")
service("log-export", "systemd-journal-upload.service")
service("flow-export", "softflowd.service")
file("flow-export", "a module of the kernel", "/sys/module/ipt_NETFLOW/refcnt", "0\n")
service("kernel-audit", "auditd.service")
service("statistics", "sysstat.service")


# --- memory -----------------------------------------------------------------------------------------------

file("swap", "a swap area", "/proc/swaps", "Filename Type Size Used Priority\n/dev/vda2 partition 1048572 0 -2\n")
file("swap-at-boot", "fstab", "/etc/fstab", "UUID=4711 none swap sw 0 0\n")
file("swap-at-boot", "a unit", "/etc/systemd/system/swapfile.swap", "[Swap]\nWhat=/swapfile\n")


@leak("hibernation", "the distribution's setting")
def _hibernation(host: PlantedHost) -> None:
    host.path("/etc/systemd/sleep.conf.d/lethe.conf").unlink()


file("hibernation", "a later drop-in", "/etc/systemd/sleep.conf.d/z.conf", "[Sleep]\nAllowHybridSleep=yes\n")
file("core-dumps", "to a file", "/proc/sys/kernel/core_pattern", "core\n")
file("core-dumps", "to a program", "/proc/sys/kernel/core_pattern", "|/usr/share/apport/apport -p%p\n")
file("core-dumps", "an old dump", f"/var/lib/systemd/coredump/core.{NAME}.zst", CONNECTED_AT)


@leak("core-dumps", "to systemd, which stores it")
def _stored_core(host: PlantedHost) -> None:
    host.write("/proc/sys/kernel/core_pattern", "|/lib/systemd/systemd-coredump %P\n")
    host.path("/etc/systemd/coredump.conf.d/lethe.conf").unlink()


file("kdump", "a crash kernel", "/sys/kernel/kexec_crash_loaded", "1\n")
file("kdump", "memory for one", "/proc/cmdline", "root=/dev/vda crashkernel=384M-:128M\n")
service("kdump", "kdump-tools.service")
file("kexec", "another kernel is loaded", "/sys/kernel/kexec_loaded", "1\n")
file("kexec", "another kernel can be loaded", "/proc/sys/kernel/kexec_load_disabled", "0\n")


# --- files ------------------------------------------------------------------------------------------------

file(
    "wg-quick",
    "SaveConfig",
    f"/etc/wireguard/{NAME}.conf",
    f"[Interface]\nPrivateKey = {key(4, 'private')}\nSaveConfig = true\n",
)
file(
    "wg-quick",
    "an endpoint",
    "/etc/wireguard/wg9.conf",
    f"[Peer]\nPublicKey = {CONNECTED.text}\nendpoint={GONE_AT}:4500\n",
)
file("wireguard-files", "a peer's key", f"/etc/wireguard/clients/{NAME}.key", key(4, "private"))
file("shell-history", "a key", "/root/.bash_history", f"wg set wg0 peer {SILENT.text} remove\n")
file("shell-history", "a peer that is here", f"/home/{NAME}/.zsh_history", f": 1:0;ping -c 1 {CONNECTED_AT}\n")
file("shell-history", "a peer that left", "/root/.bash_history", f"tcpdump -n host {GONE_AT_V6}\n")
file("readable-keys", "the gateway's key", "/etc/lethe/wg0.key", key(4, "private"), 0o640)
file("readable-keys", "the agent's credential", "/etc/lethe/key-sync.credential", "secret", 0o644)


# --- the tests --------------------------------------------------------------------------------------------

each_leak = pytest.mark.parametrize(
    ("check", "plant"), [(check, plant) for check, _what, plant in LEAKS], ids=[f"{c}: {what}" for c, what, _p in LEAKS]
)
each_check = pytest.mark.parametrize("check", CHECKS, ids=[one.id for one in CHECKS])

# What is planted here is a leak in another respect as well.
_SEEN_BY_OTHERS = {
    "ghosts": {"purge-late"},
    "wg-quick": {"wireguard-files"},
    "swap-at-boot": set(),
}


def test_a_gateway_in_order_has_no_findings(host: PlantedHost) -> None:
    assert found(host).findings == ()


@each_leak
def test_a_planted_leak_is_found_by_its_check_and_by_no_other(host: PlantedHost, check: str, plant: Plant) -> None:
    plant(host)

    report = found(host)

    assert check in checks_of(report)
    assert checks_of(report) - {check} <= _SEEN_BY_OTHERS.get(check, set())
    assert all(finding.looked for finding in report.findings)


def test_every_check_has_a_leak_that_it_finds() -> None:
    assert {check for check, _what, _plant in LEAKS} == {one.id for one in CHECKS}


@each_leak
@pytest.mark.parametrize("form", FORMATS)
def test_no_report_names_anybody(host: PlantedHost, check: str, plant: Plant, form: str) -> None:
    plant(host)

    text = FORMATS[form](found(host))

    assert check in text
    assert [secret for secret in SECRETS if secret in text] == []


class Blind(PlantedHost):
    """A host of which nothing can be looked at."""

    blind = False

    def path(self, name: str | Path) -> Path:
        if self.blind:
            raise CannotLook("a file cannot be read: Permission denied")
        return super().path(name)

    def run(self, *command: str) -> str:
        raise CannotLook(f"the command {command[0]} is not there")


@each_check
def test_a_check_that_cannot_look_is_a_finding(host: PlantedHost, check: Check) -> None:
    host.__class__ = Blind
    host.planted.programs = host.planted.kept_routes = lambda: host.path("")  # type: ignore[assignment,return-value]
    host.blind = True  # type: ignore[attr-defined]

    (finding,) = audit(host, "gateway1", checks=[check]).findings

    assert not finding.looked
    assert finding.severity == check.severity
    assert finding.what.startswith("could not be checked")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_file_without_permission_is_a_finding(host: PlantedHost) -> None:
    host.path("/proc/swaps").chmod(0)

    (finding,) = found(host).findings

    assert (finding.check, finding.looked) == ("swap", False)


def test_a_file_with_something_else_is_a_finding_that_does_not_repeat_it(host: PlantedHost) -> None:
    host.write("/proc/sys/kernel/kexec_load_disabled", GONE_AT)
    host.write("/proc/sys/kernel/osrelease", GONE_AT.replace(".", "-"))

    findings = found(host).findings

    assert {(each.check, each.looked) for each in findings} == {("kexec", False), ("kernel-version", False)}
    assert GONE_AT not in json.dumps([each.evidence for each in findings])


@pytest.mark.parametrize("name", ["/var/log/old.zst", "/var/log/old.gz"], ids=["unknown", "broken"])
def test_a_packed_log_that_cannot_be_read_is_a_finding(host: PlantedHost, name: str) -> None:
    host.write(name, GONE_AT)

    (finding,) = found(host).findings

    assert (finding.check, finding.looked) == ("logged-endpoints", False)


def test_a_log_that_is_a_hole_of_a_terabyte_is_read_where_there_is_something(host: PlantedHost) -> None:
    with host.write("/var/log/lastlog").open("r+b") as log:
        log.truncate(1 << 40)
        log.seek(1 << 39)
        log.write(b"\0from " + CONNECTED_AT.encode() + b"\0")

    (finding,) = found(host).findings

    assert (finding.check, finding.evidence.partition(" below")[0]) == ("logged-endpoints", "1 places in 1 files")


def test_each_place_in_a_long_log_counts_once(host: PlantedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_PIECE", 100)
    line = f"{'x' * 70} {CONNECTED_AT} {'x' * 70}\n"
    host.write("/var/log/syslog", line * 50)
    host.write("/var/log/syslog.1.gz").write_bytes(gzip.compress(line.encode() * 50))

    (finding,) = found(host).findings

    assert finding.evidence.startswith("100 places in 2 files")


def test_more_logs_than_are_searched_are_a_finding(host: PlantedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SEARCHED_BYTES", 100)

    (finding,) = found(host).findings

    assert (finding.check, finding.looked) == ("logged-endpoints", False)


class TestInOrder:
    """What looks like a leak and is none."""

    @pytest.mark.parametrize(
        "statement", [match("dport", 22, "tcp"), match("type", "echo-request", "icmp")], ids=["tcp", "icmp"]
    )
    def test_a_log_of_another_protocol(self, host: PlantedHost, statement: dict) -> None:
        host.rules.append(rule("input", statement, {"log": None}))
        assert found(host).findings == ()

    @pytest.mark.parametrize(("program", "protocol"), [("dhclient", "0003"), ("lldpd", "88cc")])
    def test_a_packet_socket_that_sees_no_clients(self, host: PlantedHost, program: str, protocol: str) -> None:
        _packet_socket(host, program, protocol)
        assert found(host).findings == ()

    def test_a_peer_that_left_a_moment_ago(self, host: PlantedHost) -> None:
        host.peer(SILENT, f"{GONE_AT}:4500", handshake_ago=196)
        assert found(host).findings == ()

    def test_a_peer_that_begins_a_handshake(self, host: PlantedHost) -> None:
        host.peer(SILENT, f"{GONE_AT}:4500")
        host.purge()
        assert found(host).findings == ()

    def test_an_address_that_is_part_of_another(self, host: PlantedHost) -> None:
        host.write("/var/log/syslog", f"{CONNECTED_AT}1 1{CONNECTED_AT} {CONNECTED_AT}.5 {CONNECTED_AT_V6}1\n")
        assert found(host).findings == ()

    def test_swap_that_is_masked(self, host: PlantedHost) -> None:
        host.write("/etc/fstab", "UUID=4711 none swap sw 0 0\n")
        host.path("/etc/systemd/system/swap.target").symlink_to("/dev/null")
        assert found(host).findings == ()

    def test_no_connection_tracking_at_all(self, host: PlantedHost) -> None:
        host.path("/proc/sys/net/netfilter/nf_conntrack_max").unlink()
        host.rules.clear()
        assert found(host).findings == ()

    def test_a_kernel_that_was_mended(self, host: PlantedHost) -> None:
        for release in ("5.10.43", "5.12.10", "5.13.0", "5.15.0-119-generic", "6.1.0-28-amd64", "6.8.0-45-generic"):
            host.write("/proc/sys/kernel/osrelease", f"{release}\n")
            assert found(host).findings == ()

    def test_a_kernel_without_hibernation(self, host: PlantedHost) -> None:
        host.path("/etc/systemd/sleep.conf.d/lethe.conf").unlink()
        host.write("/sys/power/state", "freeze mem\n")
        assert found(host).findings == ()

    def test_an_agent_that_follows(self, host: PlantedHost) -> None:
        _agent_status(host, heard_ago=20)
        assert found(host).findings == ()


class TestAccepted:
    def test_an_accepted_finding_is_reported_and_does_not_count(self, host: PlantedHost) -> None:
        host.enabled.add("rsyslog.service")
        assert [each.check for each in found(host).counting(Severity.LOW)] == ["syslog"]

        report = found(host, accepted=["syslog"])

        assert report.counting(Severity.LOW) == []
        assert "syslog (accepted)" in FORMATS["table"](report)
        assert "1 accepted" in FORMATS["table"](report)

    def test_a_check_that_does_not_exist_is_named_by_its_place(self, host: PlantedHost) -> None:
        with pytest.raises(InvalidValue, match=r"accept\[1\]: is no check; take one of: agent, core-dumps"):
            found(host, accepted=["swap", "swop"])


class TestReports:
    @pytest.fixture
    def report(self, host: PlantedHost) -> Report:
        host.enabled.add("sysstat.service")
        host.planted.entries = 3
        host.write("/proc/swaps", "Filename\n/dev/vda2\n")
        del host.commands["dmesg"]
        return audit(host, "gateway<1>", accepted=["swap"], now=1_800_000_000.0)

    def test_people_read_the_worst_first(self, report: Report) -> None:
        lines = FORMATS["table"](report).splitlines()

        assert lines[0] == "gateway<1>, 2027-01-15 08:00:00Z, 36 checks: 2 high, 1 low, 1 accepted"
        heads = [line for line in lines if line and not line.startswith(" ")][1:]
        assert heads == [
            "HIGH    tracked",
            "HIGH    logged-endpoints (not checked)",
            "HIGH    swap (accepted)",
            "LOW     statistics",
        ]
        assert "        seen: 3 entries" in lines
        assert max(map(len, lines)) <= 100

    def test_machines_read_json(self, report: Report) -> None:
        document = json.loads(FORMATS["json"](report))

        assert (document["host"], document["time"], document["checks"]) == ("gateway<1>", 1_800_000_000, 36)
        assert document["findings"][0] == {
            "check": "tracked",
            "severity": "high",
            "what": "connection tracking has clients' public addresses, of the port of wg0",
            "evidence": "3 entries",
            "fix": "roll out the role gateway; remove the entries now: lethe untrack 51820",
            "looked": True,
            "accepted": False,
        }

    def test_every_check_is_a_test_of_junit(self, report: Report) -> None:
        suites = ElementTree.fromstring(FORMATS["junit"](report))

        (suite,) = suites
        assert (suite.get("name"), suite.get("timestamp")) == ("gateway<1>", "2027-01-15T08:00:00")
        counts = {name: int(suite.get(name, "")) for name in ("tests", "failures", "errors", "skipped")}
        assert counts == {"tests": len(CHECKS), "failures": 2, "errors": 1, "skipped": 1}
        outcomes = {case.get("name"): [outcome.tag for outcome in case] for case in suite}
        assert outcomes.keys() == {one.id for one in CHECKS}
        assert {name: tags for name, tags in outcomes.items() if tags} == {
            "tracked": ["failure"],
            "logged-endpoints": ["error"],
            "swap": ["skipped"],
            "statistics": ["failure"],
        }

    def test_every_check_is_a_gauge_of_prometheus(self, report: Report) -> None:
        lines = FORMATS["prometheus"](report).splitlines()

        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        assert len(values) == 2 * len(CHECKS) + 1
        assert values['lethe_audit_findings{check="tracked",severity="high"}'] == "1"
        assert values['lethe_audit_findings{check="swap",severity="high"}'] == "0"  # accepted
        assert values['lethe_audit_findings{check="kexec",severity="low"}'] == "0"
        assert values['lethe_audit_checked{check="logged-endpoints",severity="high"}'] == "0"
        assert values['lethe_audit_checked{check="tracked",severity="high"}'] == "1"
        assert values["lethe_audit_timestamp_seconds"] == "1800000000"
