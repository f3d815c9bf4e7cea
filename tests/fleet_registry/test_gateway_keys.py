# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways whose keys change, seen by their operator, their kernels and disks, and a client that knows what it is told.

The tests tell one story and run in their order, before test_registry.py: no agent is there yet that would take the peer
away which this brings to the gateways.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fleet.client import Client
from fleet.gateway import Gateway
from fleet.hosts import CommandFailed
from fleet.registry import ALL_AT_ONCE, Registry, play

KEY_FILE = "/etc/lethe/wg0.key"
NEXT_KEY_FILE = f"{KEY_FILE}.next"
AT_ONCE = "0"  # seconds


@pytest.fixture(scope="module")
def erin(machines: dict[str, list], gateways: tuple[Gateway, ...]) -> Iterator[Client]:
    """A client that every gateway knows, and that knows every gateway by its present key."""
    client = Client("erin", machines["others"][0], 11)
    client.create()
    preshared_key = client.host.run(f"cat /run/{client.name}.psk")
    for gateway in gateways:
        gateway.host.run(
            f"echo {preshared_key} | wg set wg0 peer {client.public_key} preshared-key /dev/stdin "
            f"allowed-ips {client.ipv4}/32,{client.ipv6}/128"
        )
    client.connect(gateways)
    yield client
    for gateway in gateways:
        gateway.host.run(f"wg set wg0 peer {client.public_key} remove")


def listed(registry: Registry) -> dict[str, dict[str, Any]]:
    """What the registry tells clients of each gateway, and since when."""
    document = json.loads(registry.host.run("cat /etc/lethe/registry-gateways.json"))
    return {gateway["name"]: gateway for gateway in document["gateways"]}


def rotate(*arguments: str, **variables: str) -> int:
    """Returns how much was changed."""
    return play("rotate_gateway_keys", *arguments, **variables).total("changed")


class TestPublished:
    def test_clients_are_told_of_next_keys_that_stay_on_the_gateways(
        self, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        before = listed(registry)
        assert rotate("--tags", "publish") == len(gateways) + 1

        told = listed(registry)
        for gateway in gateways:
            assert told[gateway.name]["public_key"] == before[gateway.name]["public_key"] == gateway.public_key()
            assert told[gateway.name]["next_public_key"] == gateway.host.run(f"wg pubkey <{NEXT_KEY_FILE}")
            assert gateway.host.run(f"stat --format='%a %U %G' {NEXT_KEY_FILE}") == "600 root root"
        assert len({gateway["next_public_key"] for gateway in told.values()}) == len(gateways)

    def test_nobody_who_is_connected_notices(self, erin: Client, gateways: tuple[Gateway, ...]) -> None:
        for gateway in gateways:
            assert erin.reach(gateway.tunnel_ipv4) is not None
            assert erin.public_key in gateway.peers()

    def test_they_stay_the_same_until_they_are_used_also_for_site_yml(self, registry: Registry) -> None:
        told = listed(registry)
        assert rotate("--tags", "publish") == 0
        assert play("site", *ALL_AT_ONCE, "--tags", "gateway,registry").total("changed") == 0
        assert listed(registry) == told

    def test_none_is_used_before_clients_had_the_time_to_learn_it(
        self, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        told = listed(registry)
        with pytest.raises(CommandFailed, match=f"may not know the next key of {gateways[0].name} yet"):
            rotate("--tags", "switch")
        assert listed(registry) == told
        assert all(gateway.public_key() == told[gateway.name]["public_key"] for gateway in gateways)


class TestSwitched:
    def test_each_gateway_uses_its_next_key_and_nothing_on_it_has_the_one_before(
        self, erin: Client, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        told = listed(registry)
        before = [gateway.host.run(f"cat {KEY_FILE}") for gateway in gateways]
        peers = [sorted(gateway.peers()) for gateway in gateways]

        assert rotate("--tags", "switch", rotate_gateway_keys_wait=AT_ONCE) > 0

        now = listed(registry)
        for gateway, private_key, had in zip(gateways, before, peers, strict=True):
            assert gateway.public_key() == told[gateway.name]["next_public_key"] == now[gateway.name]["public_key"]
            assert "next_public_key" not in now[gateway.name]
            assert gateway.host.run(f"wg pubkey <{KEY_FILE}") == gateway.public_key()
            assert gateway.host.run(f"stat --format='%a %U %G' {KEY_FILE}") == "600 root root"
            assert sorted(gateway.peers()) == had
            found = gateway.host.run(
                f"grep --recursive --fixed-strings --files-with-matches -e {private_key} "
                "/etc /var /root /home /tmp /run 2>/dev/null || true; "
                f"journalctl --no-pager | grep --fixed-strings -e {private_key} || true",
                seconds=300,
            )
            assert found == ""
        assert erin.public_key in gateways[0].peers()

    def test_the_second_run_changes_nothing(self) -> None:
        assert rotate("--tags", "switch", rotate_gateway_keys_wait=AT_ONCE) == 0

    def test_a_client_is_answered_by_the_new_keys_alone(self, erin: Client, gateways: tuple[Gateway, ...]) -> None:
        assert [erin.ping(gateway.tunnel_ipv4) for gateway in gateways] == [None, None]

        for line in erin.inside(f"wg show {erin.name} peers").split():
            erin.inside(f"wg set {erin.name} peer {line} remove")
        erin.connect(gateways)
        for gateway in gateways:
            assert erin.reach(gateway.tunnel_ipv4) is not None

    def test_systemd_can_stop_and_start_the_unit_without_the_copy_that_was_taken_from_it(
        self, erin: Client, gateways: tuple[Gateway, ...]
    ) -> None:
        gateway = gateways[1]
        key = gateway.public_key()
        others = {public_key for public_key in gateway.peers() if public_key != erin.public_key}
        kept = gateway.host.run("wg showconf wg0")
        gateway.host.run("systemctl restart lethe-interface@wg0.service")
        assert gateway.public_key() == key
        peers = kept[kept.index("[Peer]") :]
        gateway.host.run(f"printf '%s\\n' '{peers}' >/run/wg0.peers; wg addconf wg0 /run/wg0.peers; rm /run/wg0.peers")
        assert set(gateway.peers()) == {*others, erin.public_key}


class TestInterrupted:
    def test_a_switch_that_stopped_halfway_is_ended_by_the_same_again(
        self, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        gateway = gateways[0]
        alone = ("--limit", f"{registry.host.name},{gateway.name}")
        rotate("--tags", "publish", *alone)
        coming = listed(registry)[gateway.name]["next_public_key"]
        # As after a loss of connection: the file is the next one, the kernel and the list are not.
        gateway.host.run(f"mv {NEXT_KEY_FILE} {KEY_FILE}")
        assert rotate("--tags", "publish", *alone) == 0
        assert listed(registry)[gateway.name]["next_public_key"] == coming

        rotate("--tags", "switch", *alone, rotate_gateway_keys_wait=AT_ONCE)
        assert gateway.public_key() == coming == listed(registry)[gateway.name]["public_key"]
        assert "next_public_key" not in listed(registry)[gateway.name]
        assert "next_public_key" not in listed(registry)[gateways[1].name]
