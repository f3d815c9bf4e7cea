# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that site.yml made, on a machine of its own: it changes its key under traffic, is told what becomes of it,
and leaves nothing behind.

The tests tell one story and run in their order, on a fleet that was rolled out with a registry.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
from fleet.gateway import Gateway
from fleet.hosts import CommandFailed, Host
from fleet.registry import Registry, allowed_ips, play
from fleet.rotating import ACCOUNT, INTERFACE, RotatingClient

UNIT = "lethe-client.service"
EXPOSURE_LIMIT = 2.0  # systemd's score: it has CAP_NET_ADMIN
DAYS = 31  # after which a key has expired


@pytest.fixture(scope="module")
def client(machines: dict[str, list[Host]]) -> RotatingClient:
    return RotatingClient(machines["others"][0])


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds:.0f} s"
        time.sleep(1)


class TestRollOut:
    def test_it_is_connected_when_the_playbook_ends(
        self, client: RotatingClient, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        assert client.roll_out().total("changed") > 0
        registry.wait_for(gateways)
        for gateway in gateways:
            assert allowed_ips(gateway, client.public_key) == client.addresses
        assert client.gateway(gateways).handshake_age(client.public_key) is not None
        client.host.run(f"ping -n -c 1 -W 5 {client.gateway(gateways).tunnel_ipv4}")

    def test_the_second_run_changes_nothing(self, client: RotatingClient) -> None:
        key = client.public_key
        assert client.roll_out().total("changed") == 0
        assert client.public_key == key

    def test_the_service_is_sandboxed(self, client: RotatingClient) -> None:
        verdict = client.host.run(f"systemd-analyze security --no-pager {UNIT} | tail -n 1")
        assert float(verdict.split(": ")[1].split()[0]) <= EXPOSURE_LIMIT, verdict
        assert client.host.run(f"systemd-analyze verify {UNIT} 2>&1 || true") == ""

    def test_private_keys_are_for_the_client_alone(self, client: RotatingClient) -> None:
        (holds,) = client.files_with(client.private_key())
        assert client.host.run(f"stat --format='%a %U' {holds}") == "600 lethe-client"
        assert client.host.run("stat --format='%a %U' /etc/lethe/client.credential") == "600 root"

    def test_the_journal_knows_neither_key_nor_address(self, client: RotatingClient) -> None:
        said = client.host.run(f"journalctl --unit={UNIT} --output=cat --no-pager")
        assert "registered" in said
        for secret in (client.public_key, client.private_key(), *(one.partition("/")[0] for one in client.addresses)):
            assert secret not in said


class TestRotation:
    def test_a_rotation_under_traffic_costs_at_most_a_second(
        self,
        client: RotatingClient,
        registry: Registry,
        gateways: tuple[Gateway, ...],
        record_property: Callable[[str, object], None],
    ) -> None:
        key, addresses = client.public_key, client.addresses
        secrets = (client.private_key(), *(one.partition("/")[0] for one in addresses))
        assert client.files_with(*secrets) != []
        with client.traffic(client.gateway(gateways).tunnel_ipv4) as seen:
            client.rotate()
            time.sleep(5)
        successor, given = client.public_key, client.addresses
        record_property("lost", f"{seen.lost} of {seen.sent} packets")

        assert successor != key
        assert not set(given) & set(addresses)
        assert seen.sent > 50
        assert seen.longest_silence <= 1.0
        registry.wait_for(gateways)
        for gateway in gateways:
            peers = gateway.peers()
            assert key not in peers
            assert allowed_ips(gateway, successor) == given
        assert client.files_with(*secrets) == []

    def test_it_goes_on_after_a_reboot(self, client: RotatingClient, gateways: tuple[Gateway, ...]) -> None:
        key = client.public_key
        client.host.reboot()
        client.command("wait --timeout 120")
        assert client.public_key == key
        client.host.run(f"ping -n -c 1 -W 5 {client.gateway(gateways).tunnel_ipv4}")


class TestEnforcement:
    def test_a_suspended_client_is_told_so(
        self, client: RotatingClient, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        play("suspend", account=ACCOUNT)
        registry.wait_for(gateways)
        assert all(client.public_key not in gateway.peers() for gateway in gateways)
        with pytest.raises(CommandFailed, match="the account is suspended"):
            client.command("rotate --timeout 20")

        play("suspend", account=ACCOUNT, state="active")
        with contextlib.suppress(CommandFailed):
            client.command("rotate --timeout 5")  # asks at once; it need not be done with it
        wait_until(lambda: not client.status()["problem"], 60, "peace with the registry")
        client.command("wait --timeout 120")

    def test_a_revoked_client_is_told_so_and_gets_another_key_when_asked(self, client: RotatingClient) -> None:
        key = client.public_key
        play("revoke", public_key=key)
        # By itself: when it renews its session, at the latest, the gateway does not answer, and it asks.
        wait_until(lambda: client.status()["slug"] == "key-removed", 240, "the notice")
        with pytest.raises(CommandFailed, match="revoked or deleted"):
            client.command("status")

        client.command("rotate --timeout 120")
        client.command("wait --timeout 120")
        assert client.public_key != key

    def test_a_key_that_expired_is_replaced(
        self, client: RotatingClient, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        """As after a month in which the client was off."""
        key = client.public_key
        client.host.run(f"systemctl stop {UNIT}")
        for host in (registry.host, client.host):
            host.run(f"date --set=@$(($(date +%s) + {DAYS * 86400}))")
        try:
            wait_until(lambda: all(key not in each.peers() for each in gateways), 300, "the key's end")
            client.host.run(f"systemctl start {UNIT}")
            wait_until(lambda: client.status().get("keys"), 120, "another key")
            client.command("wait --timeout 120")
            assert client.public_key != key
        finally:
            for host in (registry.host, client.host):
                host.run(f"date --set=@$(($(date +%s) - {DAYS * 86400}))")


class TestLogout:
    def test_nothing_is_left_anywhere(
        self, client: RotatingClient, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        before = registry.status()["registrations"]
        secrets = (client.public_key, client.private_key(), *(one.partition("/")[0] for one in client.addresses))
        client.command("logout --timeout 120")
        registry.wait_for(gateways)

        assert registry.status()["registrations"] == before - 1
        assert all(secrets[0] not in gateway.peers() for gateway in gateways)
        assert client.files_with(*secrets) == []
        assert client.host.try_to_run(f"ip link show {INTERFACE}").returncode == 1
        assert client.host.try_to_run(f"systemctl is-active {UNIT}").stdout.strip() == "inactive"
        assert client.host.run(f"systemctl is-failed {UNIT} || true") == "inactive"

    def test_it_stays_so_after_a_reboot(self, client: RotatingClient) -> None:
        client.host.reboot()
        assert client.host.try_to_run(f"systemctl is-active {UNIT}").stdout.strip() == "inactive"
        assert client.files_with("PrivateKey", "private_key") == []
