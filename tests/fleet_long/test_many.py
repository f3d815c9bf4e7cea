# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet that has been rolled out, and 100,000 registrations.

The tests tell one story and run in their order: the registry gets them by a restore, the agents follow, one more client
comes, and a gateway without an agent gets what it lacks by a push.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

import pytest
from fleet.client import Client
from fleet.gateway import Gateway
from fleet.hosts import lab_hosts
from fleet.registry import Registry, play, register, take
from registry.support import register as register_in

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import accounts, registrations
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Environment, open_store
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.vault import Vault
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey

REGISTRATIONS = 100_000
OF_AN_ACCOUNT = 5
AGENT_UNIT = "lethe-key-sync.service"
PATIENCE = 900  # seconds: a hundred thousand of anything takes minutes under emulation

Peers = dict[str, list[str]]  # allowed IPs by public key


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(lab_hosts()["registries"][0])


@pytest.fixture(scope="module")
def gateways() -> tuple[Gateway, ...]:
    return tuple(Gateway(host, number) for number, host in enumerate(lab_hosts()["gateways"], 1))


@pytest.fixture(scope="module")
def erin() -> Client:
    client = Client("erin", lab_hosts()["others"][0], 11)
    client.create()
    return client


@pytest.fixture(scope="module")
def wanted(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Peers:
    """The registry has them: its backup is filled here, where that takes a minute, and restored."""
    directory = tmp_path_factory.mktemp("operator")
    backup, secrets_file = directory / "backup", directory / "secrets"
    play("backup", backup_file=backup, secrets_file=secrets_file)
    settings = json.loads(registry.host.run("cat /etc/lethe/registry.json"))
    local = {"database": f"sqlite:///{backup}", "secrets_file": str(secrets_file)}
    del settings["feed"], settings["server"]
    peers = fill(Settings.from_mapping({**settings, **local}))
    play("restore", backup_file=backup, confirm=registry.host.name)
    return peers


def fill(settings: Settings) -> Peers:
    """Register that many keys as the API does. Returns what gateways are to have."""
    store = open_store(Environment.of(settings, Vault.from_file(settings.secrets_file)))
    try:
        for account in range(REGISTRATIONS // OF_AN_ACCOUNT):
            store.submit(lambda tx, name=f"account {account}": accounts.create(tx, name, None))
        done = [
            store.submit(
                lambda tx, name=f"account {number % (REGISTRATIONS // OF_AN_ACCOUNT)}": register_in(
                    tx, name, PublicKey(secrets.token_bytes(32))
                )
            )
            for number in range(REGISTRATIONS)
        ]
        for each in done:
            each.result()
        return store.read(lambda tx: {row.public_key.text: sorted(row.addresses) for row in registrations.exported(tx)})
    finally:
        store.close()


def in_kernel(gateway: Gateway) -> Peers:
    listed = gateway.host.run("wg show wg0 allowed-ips", seconds=PATIENCE).splitlines()
    return {key: sorted(addresses.split()) for key, _, addresses in (line.partition("\t") for line in listed)}


def test_the_agents_bring_every_registration_into_every_kernel(
    registry: Registry, gateways: tuple[Gateway, ...], wanted: Peers
) -> None:
    assert len(wanted) == registry.status()["registrations"] >= REGISTRATIONS
    registry.wait_for(gateways, seconds=PATIENCE)
    for gateway in gateways:
        assert in_kernel(gateway) == wanted


def test_the_status_of_the_fleet_says_so(gateways: tuple[Gateway, ...], wanted: Peers) -> None:
    shown = play("status").output
    for gateway in gateways:
        assert re.search(rf"{gateway.name} +wg0 +\d+ +\d+ s +{len(wanted)} ", shown)


def test_one_more_client_is_connected_at_the_first_try(
    erin: Client, registry: Registry, gateways: tuple[Gateway, ...], wanted: Peers, tmp_path: Path
) -> None:
    _, registration = register(tmp_path, erin.public_key, erin.name, "erin")
    take(erin, registration)
    erin.connect(gateways)
    for gateway in gateways:
        assert erin.ping(gateway.tunnel_ipv4, seconds=4) is not None
    assert play("revoke", "--check", public_key=erin.public_key).total("changed") == 1
    assert erin.ping(gateways[0].tunnel_ipv4, seconds=4) is not None
    play("revoke", public_key=erin.public_key)
    for gateway in gateways:
        assert in_kernel(gateway) == wanted


def test_a_push_brings_a_gateway_what_it_lacks(gateways: tuple[Gateway, ...], wanted: Peers) -> None:
    away, other = gateways
    away.host.run(f"systemctl stop {AGENT_UNIT}")
    away.host.run(
        f"wg set wg0 $(wg show wg0 peers | head -{REGISTRATIONS // 100} | sed 's/.*/peer & remove/')", seconds=PATIENCE
    )
    assert len(in_kernel(away)) == len(wanted) - REGISTRATIONS // 100

    looked = play("push", "--check")
    assert f"{REGISTRATIONS // 100} added, 0 updated, 0 removed" in looked.output
    assert len(in_kernel(away)) == len(wanted) - REGISTRATIONS // 100

    recap = play("push")

    assert recap.hosts[away.name]["changed"] == 1
    assert recap.hosts[other.name]["changed"] == 0
    assert in_kernel(away) == wanted
