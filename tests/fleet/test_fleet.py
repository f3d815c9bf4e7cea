# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rolled-out fleet does, seen from a real client and by the kernel's own tools.

The tests tell one story and run in their order: a client connects, falls silent, is forgotten, comes back; another is
revoked. tests/fleet_registry goes on from there.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from fleet.fleet import BOUND, IDLE_AFTER, Fleet, recap_of, start_playbook
from fleet.gateway import INTERFACE, Gateway
from fleet.hosts import CHECKOUT, CommandFailed
from fleet.witnesses import can_connect, connected, seen_beyond

# What emulation adds to a second-by-second look at two machines.
SLACK = 20  # seconds

UNITS = (
    f"lethe-firewall@{INTERFACE}.service",
    f"lethe-interface@{INTERFACE}.service",
    f"lethe-purge@{INTERFACE}.service",
)
# systemd's score, 0 (nothing allowed) to 10. What is left is CAP_NET_ADMIN, netlink and the host's network.
EXPOSURE_LIMIT = 1.5


@pytest.fixture(params=[0, 1], ids=["gateway1", "gateway2"])
def gateway(request: pytest.FixtureRequest, fleet: Fleet) -> Gateway:
    return fleet.gateways[request.param]


def preflight(gateway: Gateway) -> dict[str, Any]:
    """What the gateway role finds on a gateway before it does anything."""
    script = (CHECKOUT / "roles/gateway/files/preflight.sh").read_text()
    return yaml.safe_load(gateway.host.run(f"sh -s {INTERFACE} eth1 <<'PREFLIGHT'\n{script}\nPREFLIGHT"))


@contextmanager
def wg_quick_configuration(gateway: Gateway) -> Iterator[None]:
    path = f"/etc/wireguard/{INTERFACE}.conf"
    gateway.host.run(f"install -D /dev/null {path}")
    try:
        yield
    finally:
        gateway.host.run(f"rm {path}")


@pytest.fixture(scope="module", autouse=True)
def check_run() -> Iterator[subprocess.Popen[str]]:
    """site.yml in check mode, in the background from the beginning: it takes longer than a client has to be silent."""
    run = start_playbook("--check", "--diff", "--extra-vars", '{"site_serial": ["100%"]}')
    yield run
    with run:
        run.kill()


class TestConnected:
    def test_a_client_reaches_the_gateway_through_the_tunnel(self, fleet: Fleet, gateway: Gateway) -> None:
        assert fleet.alice.reach(gateway.tunnel_ipv4) is not None
        assert fleet.alice.reach(gateway.tunnel_ipv6) is not None
        assert gateway.handshake_age(fleet.alice.public_key) is not None

    def test_the_world_sees_the_gateways_address(self, fleet: Fleet, gateway: Gateway) -> None:
        beyond = next(other for other in fleet.gateways if other is not gateway)

        assert seen_beyond(fleet.alice, beyond) == [gateway.host.wan_ipv4, gateway.host.wan_ipv6]

    def test_clients_cannot_reach_each_other(self, fleet: Fleet) -> None:
        assert fleet.bob.reach(fleet.gateways[0].tunnel_ipv4) is not None  # bob's gateway would know the way

        assert fleet.alice.ping(fleet.bob.ipv4) is None

    def test_clients_cannot_reach_the_services_of_a_gateway(self, fleet: Fleet, gateway: Gateway) -> None:
        gateway.host.run("ss -Hltn 'sport = 22' | grep -q :22")  # there is one to reach

        assert not can_connect(fleet.alice, gateway.tunnel_ipv4, 22)

    def test_connection_tracking_does_not_know_a_connected_client(self, fleet: Fleet, gateway: Gateway) -> None:
        assert fleet.alice.reach(gateway.tunnel_ipv4) is not None
        assert gateway.tracked(fleet.alice.ipv4) != []  # tracking is on: the tunnel's inside is there, for NAT

        assert gateway.tracked(fleet.alice.host.wan_ipv4) == []


class TestHost:
    @pytest.mark.parametrize("unit", UNITS)
    def test_a_unit_is_sandboxed(self, gateway: Gateway, unit: str) -> None:
        report = gateway.host.run(f"systemd-analyze security --no-pager {unit}")

        (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+)", report)
        assert float(exposure) <= EXPOSURE_LIMIT

    def test_systemd_finds_no_fault_in_the_units(self, gateway: Gateway) -> None:
        units = " ".join((*UNITS, f"lethe-purge@{INTERFACE}.timer"))

        assert gateway.host.run(f"systemd-analyze verify --man=no {units} 2>&1 | grep lethe || true") == ""

    def test_nothing_keeps_memory_on_a_disk(self, gateway: Gateway) -> None:
        assert gateway.host.run("tail -n +2 /proc/swaps; sysctl -n kernel.core_pattern fs.suid_dumpable").split() == [
            "|/bin/false",
            "0",
        ]
        assert gateway.host.run("systemctl show --property=LoadState --value swap.target") == "masked"

    def test_no_peer_and_no_secret_is_on_a_disk(self, fleet: Fleet, gateway: Gateway) -> None:
        secrets = [str(fleet.alice.peer()["preshared_key"]), fleet.alice.public_key]
        patterns = " ".join(f"-e {secret}" for secret in secrets)

        found = gateway.host.run(
            f"grep --recursive --fixed-strings --files-with-matches {patterns} "
            "/etc /var /root /home /tmp /opt /run 2>/dev/null || true",
            seconds=300,
        )
        assert found == ""

    def test_the_journal_names_no_peer(self, fleet: Fleet, gateway: Gateway) -> None:
        journal = gateway.host.run("journalctl --no-pager --unit='lethe-*'")

        assert "purge" in journal
        assert fleet.alice.public_key not in journal
        assert fleet.alice.host.wan_ipv4 not in journal


class TestForgotten:
    def test_the_endpoint_of_a_silent_client_is_forgotten_within_the_bound(self, fleet: Fleet) -> None:
        key = fleet.alice.public_key
        ages = {gateway.name: gateway.handshake_age(key) for gateway in fleet.gateways}
        begin = time.monotonic()
        for gateway in fleet.gateways:
            assert gateway.endpoint(key) is not None

        for gateway in fleet.gateways:
            age = ages[gateway.name]
            assert age is not None
            left = BOUND - age - (time.monotonic() - begin) + SLACK
            took = gateway.wait_until_forgotten(key, seconds=left)
            assert took is not None, f"{gateway.name} still has the endpoint: {gateway.last_purge()}"
            assert gateway.handshake_age(key) is None
            assert gateway.transferred(key) == (0, 0)
            assert gateway.tracked(fleet.alice.host.wan_ipv4) == []
        assert time.monotonic() - begin + max(filter(None, ages.values())) >= IDLE_AFTER

    def test_the_operator_sees_figures_and_no_peer(self, fleet: Fleet, gateway: Gateway) -> None:
        status = json.loads(gateway.host.run("lethe purge --status --json"))[INTERFACE]

        assert status["peers"] == len(gateway.peers())
        assert status["seconds_ago"] < BOUND
        assert fleet.alice.public_key not in gateway.last_purge()

    def test_a_second_run_would_change_nothing(self, fleet: Fleet, check_run: subprocess.Popen[str]) -> None:
        recap = recap_of(check_run)

        assert sorted(recap.hosts) == [*(gateway.name for gateway in fleet.gateways), "registry1"]
        assert recap.total("changed") == 0, recap.output

    def test_the_tunnel_comes_back_when_the_client_speaks(self, fleet: Fleet, gateway: Gateway) -> None:
        assert fleet.alice.reach(gateway.tunnel_ipv4) is not None
        assert gateway.endpoint(fleet.alice.public_key) is not None


class TestRevoked:
    def test_the_ad_hoc_command_removes_a_key_everywhere(self, fleet: Fleet) -> None:
        for gateway in fleet.gateways:
            assert fleet.bob.reach(gateway.tunnel_ipv4) is not None
        sessions = [gateway.handshake_age(fleet.alice.public_key) for gateway in fleet.gateways]

        assert sorted(fleet.revoke(fleet.bob)) == [gateway.name for gateway in fleet.gateways]

        for gateway, session in zip(fleet.gateways, sessions, strict=True):
            assert gateway.peers() == [fleet.alice.public_key]
            assert fleet.bob.ping(gateway.tunnel_ipv4) is None
            assert session is not None
            after = gateway.handshake_age(fleet.alice.public_key)
            assert after is not None  # alice's session went on
            assert after >= session

    def test_revoking_again_changes_nothing(self, fleet: Fleet) -> None:
        assert fleet.revoke(fleet.bob) == []


class TestLeftOpen:
    @pytest.mark.parametrize("family", ["ipv4", "ipv6"])
    def test_a_connection_that_a_client_never_closes_is_not_kept_for_days(
        self, fleet: Fleet, gateway: Gateway, family: str
    ) -> None:
        beyond = next(other for other in fleet.gateways if other is not gateway)
        inside, outside = getattr(fleet.alice, family), getattr(beyond.host, f"wan_{family}")

        assert fleet.alice.reach(gateway.tunnel_ipv4) is not None
        with connected(fleet.alice, outside, 22):
            entries = [line for line in gateway.tracked(inside) if f"dst={outside} " in line and "dport=22 " in line]

        assert entries != []
        for entry in entries:
            assert "ESTABLISHED" in entry
            assert 7000 < int(entry.split()[2]) <= 7440


class TestDisturbed:
    """What stands in a roll-out's way, and what happens to a gateway afterwards."""

    def test_a_configuration_of_wg_quick_is_reported(self, gateway: Gateway) -> None:
        with wg_quick_configuration(gateway):
            found = preflight(gateway)

        assert f"/etc/wireguard/{INTERFACE}.conf exists" in found["problems"][0]

    def test_a_gateway_in_order_has_nothing_to_be_done(self, gateway: Gateway) -> None:
        assert preflight(gateway) == {
            "problems": [], "runtime": True, "nft": True, "parameters": True, "firewall": True, "kexec": True,
            "dynamic_debug": False, "journal_on_disk": False, "swap": False, "swap_target": False, "zramswap": False,
            "accept_ra": 2,
        }  # fmt: skip

    def test_drift_is_noticed(self, gateway: Gateway) -> None:
        gateway.host.run("echo 'module wireguard +p' >/proc/dynamic_debug/control; sysctl -qw net.ipv4.ip_forward=0")
        try:
            found = preflight(gateway)
        finally:
            gateway.host.run(
                "echo 'module wireguard =_' >/proc/dynamic_debug/control; sysctl -qw net.ipv4.ip_forward=1"
            )

        assert found["dynamic_debug"]
        assert not found["parameters"]

    def test_a_broken_gateway_stops_the_roll_out_before_the_next_one(self, fleet: Fleet) -> None:
        first, second = fleet.gateways
        with wg_quick_configuration(first), pytest.raises(CommandFailed) as stopped:
            recap_of(start_playbook("--tags", "gateway"))

        assert f"fatal: [{first.name}]" in str(stopped.value)
        assert f"[{second.name}]" not in str(stopped.value)

    @pytest.mark.parametrize("verb", ["start", "restart", "reload"])
    def test_the_firewall_survives_the_hosts_own(self, fleet: Fleet, verb: str) -> None:
        gateway = fleet.gateways[1]

        gateway.host.run(f"systemctl {verb} nftables.service")  # which flushes every table

        table = f"nft list table inet lethe_{INTERFACE} 2>/dev/null"
        assert "notrack" in gateway.host.run(f"timeout 30 sh -c 'until {table}; do sleep 0.2; done'")
