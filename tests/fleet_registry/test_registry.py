# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rolled-out registry does, seen by its operator, a client and the gateways' kernels.

The tests tell one story and run in their order: a client is registered, connects with what it was given, is suspended
and comes back; the registry is backed up and restored; the same again on PostgreSQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from fleet.client import Client
from fleet.fleet import PEERS_FILE
from fleet.gateway import Gateway
from fleet.hosts import CommandFailed
from fleet.registry import (
    ALL_AT_ONCE,
    METRICS_PORT,
    Registry,
    allowed_ips,
    clock_set,
    cut_off,
    play,
    roll_out_agents,
    take,
)
from fleet.registry import register as register_key

ACCOUNT = "customer-4711"
UNIT, FEED_UNIT, AGENT_UNIT = "lethe-registry.service", "lethe-feed.service", "lethe-key-sync.service"
# systemd's score, 0 (nothing allowed) to 10. What is left is the network and the state directory.
EXPOSURE_LIMIT = 1.5
AGENT_EXPOSURE_LIMIT = 2.0  # it has CAP_NET_ADMIN as well
IPV4, IPV6 = ip_network("10.64.0.0/10"), ip_network("fd00:6c65:7468::/48")
GATEWAYS_OWN = {"10.64.0.1/32", "10.64.0.2/32", "fd00:6c65:7468::1/128", "fd00:6c65:7468::2/128"}

Given = Callable[[], dict[str, Any]]


def register(kept: Path, public_key: str, name: str = "carol", account: str = ACCOUNT) -> tuple[int, dict[str, Any]]:
    """Register a key; returns the changes, and what the client is given."""
    recap, registration = register_key(kept, public_key, name, account)
    return recap.total("changed"), registration


@pytest.fixture
def given(kept: Path) -> Given:
    """What the client was given when it was registered."""
    return lambda: json.loads((kept / "carol.json").read_text())


@pytest.fixture
def token(kept: Path) -> str:
    """The credential of the client's account."""
    return (kept / f"{ACCOUNT}.token").read_text().strip()


def other_key(client: Client) -> str:
    return client.host.run("wg genkey | wg pubkey")


class TestRollOut:
    def test_agents_take_the_place_of_the_peers_file(self, gateways: tuple[Gateway, ...]) -> None:
        PEERS_FILE.unlink()
        assert all(gateway.peers() for gateway in gateways)

        assert roll_out_agents().total("changed") > 0
        assert [gateway.peers() for gateway in gateways] == [[], []]

    def test_the_second_run_changes_nothing(self) -> None:
        assert roll_out_agents().total("changed") == 0


class TestClient:
    def test_is_registered_and_gets_addresses_that_the_gateways_route(
        self, carol: Client, kept: Path, registry: Registry
    ) -> None:
        changed, registration = register(kept, carol.public_key)

        assert changed > 0
        ipv4, ipv6 = (ip_interface(text) for text in registration["allowed_ips"])
        assert ipv4.network.subnet_of(IPV4)
        assert ipv6.network.subnet_of(IPV6)
        assert not GATEWAYS_OWN & set(registration["allowed_ips"])
        assert registry.status()["registrations"] == 1

    def test_registered_again_has_the_same_and_nothing_changes(self, carol: Client, kept: Path, given: Given) -> None:
        before = given()
        assert register(kept, carol.public_key) == (0, before)

    def test_what_the_operator_keeps_is_for_the_operator_alone(self, kept: Path) -> None:
        modes = {path.name: path.stat().st_mode & 0o777 for path in kept.iterdir()}
        assert modes == {f"{ACCOUNT}.token": 0o600, "carol.json": 0o600}

    def test_asks_the_api_over_the_network_and_gets_the_same(
        self, carol: Client, registry: Registry, token: str, given: Given
    ) -> None:
        status, answer = registry.ask(carol, "POST", "/v1/registrations", token, public_key=carol.public_key)

        assert (status, answer["changed"]) == (200, False)
        assert answer["allowed_ips"] == given()["allowed_ips"]
        assert registry.ask(carol, "GET", "/v1/status", token)[0] == 403

    def test_connects_through_every_gateway_with_the_addresses_it_was_given(
        self, carol: Client, gateways: tuple[Gateway, ...], given: Given
    ) -> None:
        """Nobody brings the key to the gateways: their agents follow the registry."""
        take(carol, given())
        carol.connect(gateways)

        for gateway in gateways:
            assert allowed_ips(gateway, carol.public_key) == sorted(given()["allowed_ips"])
            assert carol.reach(gateway.tunnel_ipv4) is not None
            assert carol.reach(gateway.tunnel_ipv6) is not None
            assert gateway.handshake_age(carol.public_key) is not None

    def test_suspended_is_off_at_once_and_resumed_it_is_back(
        self, carol: Client, gateways: tuple[Gateway, ...], given: Given
    ) -> None:
        assert play("suspend", account=ACCOUNT).total("changed") == 1
        assert [gateway.peers() for gateway in gateways] == [[], []]
        assert carol.ping(gateways[0].tunnel_ipv4) is None

        assert play("suspend", account=ACCOUNT, state="active").total("changed") == 1
        assert allowed_ips(gateways[0], carol.public_key) == sorted(given()["allowed_ips"])
        assert carol.reach(gateways[0].tunnel_ipv4) is not None


class TestAgents:
    def test_the_service_is_sandboxed(self, gateways: tuple[Gateway, ...]) -> None:
        report = gateways[0].host.run(f"systemd-analyze security --no-pager {AGENT_UNIT}")

        (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+)", report)
        assert float(exposure) <= AGENT_EXPOSURE_LIMIT

    def test_systemd_finds_no_fault_in_the_unit(self, gateways: tuple[Gateway, ...]) -> None:
        assert gateways[0].host.run(f"systemd-analyze verify --man=no {AGENT_UNIT} 2>&1 | grep lethe || true") == ""

    def test_each_has_a_credential_of_its_own_that_only_root_can_read(self, gateways: tuple[Gateway, ...]) -> None:
        looked = "stat --format='%a %U' /etc/lethe/key-sync.credential; sha256sum </etc/lethe/key-sync.credential"
        modes, tokens = zip(*(gateway.host.run(looked).splitlines() for gateway in gateways), strict=True)
        assert set(modes) == {"600 root"}
        assert len(set(tokens)) == len(gateways)

    def test_the_disk_and_the_journal_know_no_client(
        self, carol: Client, gateways: tuple[Gateway, ...], given: Given
    ) -> None:
        addresses = [text.partition("/")[0] for text in given()["allowed_ips"]]
        for secret in (carol.public_key, given()["preshared_key"], *addresses):
            found = gateways[0].host.run(
                f"grep --recursive --fixed-strings --files-with-matches -e {secret} "
                "/etc /var /root /home /tmp /run 2>/dev/null || true; "
                f"journalctl --no-pager --unit {AGENT_UNIT} | grep --fixed-strings -e {secret} || true",
                seconds=300,
            )
            assert found == ""

    def test_the_status_of_the_fleet_is_a_table(self, gateways: tuple[Gateway, ...]) -> None:
        shown = play("status").output
        for gateway in gateways:
            assert re.search(rf"{gateway.name} +wg0 +\d+ +\d+ s +1 ", shown)

    def test_a_push_brings_a_gateway_without_an_agent_what_it_lacks(
        self, carol: Client, gateways: tuple[Gateway, ...], given: Given, kept: Path
    ) -> None:
        host = gateways[0].host
        host.run(f"systemctl stop {AGENT_UNIT}; wg set wg0 peer {carol.public_key} remove")
        try:
            pushed = play("push", keep_snapshot_file=kept / "snapshot")
            assert [pushed.hosts[gateway.name]["changed"] for gateway in gateways] == [1, 0]
            assert allowed_ips(gateways[0], carol.public_key) == sorted(given()["allowed_ips"])
            assert (kept / "snapshot").stat().st_mode & 0o777 == 0o600
            # From the file, without the registry, and to one gateway alone.
            pushed = play("push", "--limit", gateways[0].name, snapshot_file=kept / "snapshot")
            assert list(pushed.hosts) == [gateways[0].name]
            assert pushed.total("changed") == 0
        finally:
            host.run(f"systemctl start {AGENT_UNIT}")
        assert host.run("ls /run /dev/shm | grep snapshot || true") == ""
        # The session went with the peer, which the client notices 15 s after it has sent something.
        assert carol.reach(gateways[0].tunnel_ipv4) is not None

    def test_the_first_handshake_succeeds_on_every_gateway_without_a_wait(
        self, dave: Client, registry: Registry, gateways: tuple[Gateway, ...], token: str
    ) -> None:
        status, registration = registry.ask(dave, "POST", "/v1/registrations", token, public_key=dave.public_key)
        assert status == 201
        take(dave, registration)
        dave.connect(gateways)

        for gateway in gateways:
            # WireGuard sends a second initiation after 5 s: who has an answer by then needed one.
            assert dave.ping(gateway.tunnel_ipv4, seconds=4) is not None

    def test_a_revoked_key_is_gone_from_every_gateway_when_the_playbook_ends(
        self, dave: Client, gateways: tuple[Gateway, ...]
    ) -> None:
        assert all(dave.public_key in gateway.peers() for gateway in gateways)
        play("revoke", public_key=dave.public_key)
        assert not any(dave.public_key in gateway.peers() for gateway in gateways)
        assert [dave.ping(gateway.tunnel_ipv4) for gateway in gateways] == [None, None]

    def test_a_gateway_that_does_not_follow_is_named_when_a_key_is_revoked(
        self, carol: Client, registry: Registry, gateways: tuple[Gateway, ...], token: str
    ) -> None:
        key = other_key(carol)
        registry.register(carol, token, key)
        registry.wait_for(gateways)
        away = gateways[1]
        away.host.run(f"systemctl stop {AGENT_UNIT}")
        try:
            with pytest.raises(CommandFailed, match=f"These gateways may still have the key: {away.name}"):
                play("revoke", public_key=key, timeout="5")
            assert key not in gateways[0].peers()
            assert key in away.peers()
        finally:
            away.host.run(f"systemctl start {AGENT_UNIT}")
        registry.wait_for([away])
        assert key not in away.peers()


class TestTrouble:
    """After each, the gateways have what the registry has, and nobody lost a session who should have kept it."""

    def test_gateways_that_hear_nothing_keep_their_peers_and_catch_up(
        self, carol: Client, registry: Registry, gateways: tuple[Gateway, ...], token: str
    ) -> None:
        added, deleted = other_key(carol), other_key(carol)
        registry.register(carol, token, deleted)
        registry.wait_for(gateways)
        first, second = gateways
        assert all(carol.reach(gateway.tunnel_ipv4) is not None for gateway in gateways)
        # Of the second what it sends still arrives: its connection is half open.
        with cut_off(first, "input", "output"), cut_off(second, "input"):
            registry.register(carol, token, added)
            registry.delete(carol, token, deleted)
            for gateway in gateways:
                gateway.wait_until_disconnected()
                assert sorted(gateway.peers()) == sorted([carol.public_key, deleted])
                assert carol.ping(gateway.tunnel_ipv4) is not None

        registry.wait_for(gateways)
        for gateway in gateways:
            assert sorted(gateway.peers()) == sorted([carol.public_key, added])
            journal = gateway.host.run(f"journalctl --no-pager --unit {AGENT_UNIT}")
            assert "nothing was heard from" in journal
            assert added not in journal
        registry.delete(carol, token, added)

    def test_clocks_that_are_set_stop_no_change(
        self, carol: Client, registry: Registry, gateways: tuple[Gateway, ...], token: str
    ) -> None:
        for days in (400, -400):
            key = other_key(carol)
            with clock_set(gateways[0], days):
                registry.register(carol, token, key)
                registry.wait_for(gateways)
                assert all(sorted(gateway.peers()) == sorted([carol.public_key, key]) for gateway in gateways)
            registry.delete(carol, token, key)
            registry.wait_for(gateways)
            assert [gateway.peers() for gateway in gateways] == [[carol.public_key]] * 2

    def test_a_gateway_that_reboots_has_its_peers_again(
        self, carol: Client, registry: Registry, gateways: tuple[Gateway, ...], given: Given
    ) -> None:
        gateway = gateways[1]
        key = gateway.public_key()

        gateway.host.reboot()

        registry.wait_for([gateway])
        units = "lethe-firewall@wg0.service lethe-interface@wg0.service lethe-purge@wg0.timer"
        assert gateway.host.run(f"systemctl is-active {units} {AGENT_UNIT}").split() == ["active"] * 4
        assert gateway.host.run("systemctl --failed --quiet --plain --no-legend") == ""
        assert "notrack" in gateway.host.run("nft list table inet lethe_wg0")
        assert gateway.public_key() == key
        assert allowed_ips(gateway, carol.public_key) == sorted(given()["allowed_ips"])
        assert carol.reach(gateway.tunnel_ipv4, seconds=60) is not None


class TestHost:
    @pytest.mark.parametrize("unit", [UNIT, FEED_UNIT])
    def test_the_service_is_sandboxed(self, registry: Registry, unit: str) -> None:
        report = registry.host.run(f"systemd-analyze security --no-pager {unit}")

        (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+)", report)
        assert float(exposure) <= EXPOSURE_LIMIT

    @pytest.mark.parametrize("unit", [UNIT, FEED_UNIT])
    def test_systemd_finds_no_fault_in_the_unit(self, registry: Registry, unit: str) -> None:
        assert registry.host.run(f"systemd-analyze verify --man=no {unit} 2>&1 | grep lethe || true") == ""

    def test_metrics_are_served_on_the_host_itself_alone(self, carol: Client, registry: Registry, token: str) -> None:
        read = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{METRICS_PORT}/metrics').read().decode())"
        assert "\nlethe_registry_registrations 1.0\n" in registry.host.run(f'python3 -c "{read}"')
        assert (
            registry.host.run(f"ss -Hltn 'sport = {METRICS_PORT}' | tr -s ' ' | cut -d ' ' -f 4")
            == f"127.0.0.1:{METRICS_PORT}"
        )
        assert registry.ask(carol, "GET", "/metrics", token)[0] == 404

    def test_secrets_are_for_those_who_need_them(self, registry: Registry) -> None:
        files = "/etc/lethe/registry.json /etc/lethe/registry.key /etc/lethe/registry.secrets /var/lib/lethe"
        assert registry.host.run(f"stat --format='%a %U %G' {files}").splitlines() == [
            "640 root lethe-registry",
            "600 root root",
            "600 lethe-registry lethe-registry",
            "700 lethe-registry lethe-registry",
        ]

    def test_nothing_but_the_database_knows_the_client_and_nothing_an_account_or_a_token(
        self, carol: Client, registry: Registry, token: str, given: Given
    ) -> None:
        addresses = [text.partition("/")[0] for text in given()["allowed_ips"]]
        for secret in (ACCOUNT, token, carol.public_key, given()["preshared_key"], *addresses):
            found = registry.host.run(
                f"grep --recursive --fixed-strings --files-with-matches -e {secret} "
                "/etc /var /root /home /tmp /run 2>/dev/null || true; "
                f"journalctl --no-pager | grep --fixed-strings -e {secret} || true",
                seconds=300,
            )
            assert found == ""

    def test_the_snapshot_on_its_way_to_the_gateways_is_gone(self, registry: Registry) -> None:
        assert registry.host.run("ls /run /dev/shm | grep snapshot || true") == ""


def back_up_and_restore(carol: Client, registry: Registry, token: str, kept: Path, name: str) -> None:
    """A restore brings back what was, and nothing that came after; gateways see another epoch."""
    backup, secrets = kept / f"{name}.backup", kept / f"{name}.secrets"
    play("backup", backup_file=backup, secrets_file=secrets)
    assert backup.stat().st_mode & 0o777 == 0o600
    assert secrets.read_text().strip() == registry.host.run("cat /etc/lethe/registry.secrets")
    assert carol.public_key.encode() not in backup.read_bytes()

    before = registry.status()
    registry.register(carol, token, other_key(carol))

    play("restore", backup_file=backup, secrets_file=secrets, confirm=registry.host.name)
    after = registry.status()
    assert after["registrations"] == before["registrations"]
    assert after["epoch"] != before["epoch"]
    assert registry.host.run("ls /var/lib/lethe | grep -e backup -e restore || true") == ""


class TestBackup:
    def test_is_restored_in_a_new_epoch_that_the_gateways_follow(
        self, carol: Client, registry: Registry, gateways: tuple[Gateway, ...], token: str, kept: Path
    ) -> None:
        back_up_and_restore(carol, registry, token, kept, "sqlite")

        registry.wait_for(gateways)
        assert [gateway.peers() for gateway in gateways] == [[carol.public_key]] * 2

    def test_what_would_be_lost_is_not_without_a_word(self, registry: Registry, kept: Path) -> None:
        with pytest.raises(CommandFailed, match="is there already"):
            play("backup", backup_file=kept / "sqlite.backup")
        with pytest.raises(CommandFailed, match=f"confirm={registry.host.name}"):
            play("restore", backup_file=kept / "sqlite.backup")

    def test_the_client_is_still_registered(self, carol: Client, registry: Registry, token: str, given: Given) -> None:
        status, answer = registry.ask(carol, "POST", "/v1/registrations", token, public_key=carol.public_key)
        assert (status, answer["allowed_ips"]) == (200, given()["allowed_ips"])


class TestPostgresql:
    """The same host, on a PostgreSQL that the role installs."""

    SETTING = ("--extra-vars", "registry_install_postgresql=true")

    def test_is_rolled_out(self, registry: Registry) -> None:
        # Another database knows none of the credentials.
        play("site", "--limit", "registries", *self.SETTING, registry_replace_credentials="true")
        assert registry.status()["registrations"] == 0

    def test_the_second_run_changes_only_what_the_gateways_are_known_by(
        self, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        changed = {
            name: counts["changed"]
            for name, counts in play(
                "site", *ALL_AT_ONCE, *self.SETTING, "--tags", "registry,key_sync", key_sync_replace_credential="true"
            ).hosts.items()
        }
        assert changed.pop(registry.host.name) == 0
        assert all(changed[gateway.name] > 0 for gateway in gateways)

    def test_registers_a_client_that_the_gateways_know_then(
        self, carol: Client, kept: Path, gateways: tuple[Gateway, ...], given: Given
    ) -> None:
        (kept / f"{ACCOUNT}.token").unlink()
        changed, _ = register(kept, carol.public_key)
        assert changed > 0
        take(carol, given())
        carol.connect(gateways)

        for gateway in gateways:
            assert allowed_ips(gateway, carol.public_key) == sorted(given()["allowed_ips"])
            assert carol.reach(gateway.tunnel_ipv4) is not None

    def test_is_restored_in_a_new_epoch(self, carol: Client, registry: Registry, token: str, kept: Path) -> None:
        back_up_and_restore(carol, registry, token, kept, "postgresql")

    def test_its_server_listens_on_no_network_and_logs_no_values(self, registry: Registry) -> None:
        assert registry.host.run("ss -Hltn 'sport = 5432'") == ""
        assert (
            registry.host.run("grep --ignore-case --files-with-matches 'public_key' /var/log/postgresql/* || true")
            == ""
        )

    def test_the_service_comes_back_after_a_reboot(self, registry: Registry) -> None:
        registry.host.reboot()
        assert registry.host.run(f"systemctl is-active {UNIT}") == "active"
        assert registry.status()["registrations"] == 1
