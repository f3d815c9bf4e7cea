# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways whose keys change, seen by their operator, their kernels and disks, and a client that knows what it is told.

The tests tell one story and run in their order, on a fleet that was rolled out with a registry.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fleet.client import Client
from fleet.gateway import Gateway
from fleet.hosts import CommandFailed, Host
from fleet.registry import Registry, play, register, take

KEY_FILE = "/etc/lethe/wg0.key"
NEXT_KEY_FILE = f"{KEY_FILE}.next"
AT_ONCE = "0"  # seconds


@pytest.fixture(scope="module")
def erin(machines: dict[str, list[Host]], registry: Registry, gateways: tuple[Gateway, ...], kept: Path) -> Client:
    """A client that every gateway knows, and that knows every gateway by its present key."""
    client = Client("erin", machines["others"][0], 11)
    client.create()
    _, given = register(kept, client.public_key, client.name, "customer-2342")
    take(client, given)
    registry.wait_for(gateways)
    client.connect(gateways)
    return client


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
        self, registry: Registry, gateways: tuple[Gateway, ...]
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

    def test_a_client_is_answered_by_the_new_keys_alone(self, erin: Client, gateways: tuple[Gateway, ...]) -> None:
        assert [erin.ping(gateway.tunnel_ipv4) for gateway in gateways] == [None, None]

        for line in erin.inside(f"wg show {erin.name} peers").split():
            erin.inside(f"wg set {erin.name} peer {line} remove")
        erin.connect(gateways)
        for gateway in gateways:
            assert erin.reach(gateway.tunnel_ipv4) is not None

    def test_systemd_can_stop_and_start_the_unit_without_the_copy_that_was_taken_from_it(
        self, erin: Client, registry: Registry, gateways: tuple[Gateway, ...]
    ) -> None:
        gateway = gateways[1]
        key = gateway.public_key()
        gateway.host.run("systemctl restart lethe-interface@wg0.service")
        assert gateway.public_key() == key
        assert erin.reach(gateway.tunnel_ipv4, seconds=90) is not None  # the agent has filled it again
