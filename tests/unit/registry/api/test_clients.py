# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from made_up import key
from registry.site import Serve, Site, slug
from registry.support import Clock


def test_a_key_gets_random_addresses_and_the_same_again(site: Site) -> None:
    client = site.client()
    first = client.ask("/v1/registrations", public_key=key(1))
    again = client.ask("/v1/registrations", public_key=key(1))

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == {**again.json(), "changed": True}
    assert first.json()["public_key"] == key(1)
    ipv4, ipv6 = (ipaddress.ip_network(text) for text in first.json()["allowed_ips"])
    assert ipv4.subnet_of(ipaddress.IPv4Network("10.0.0.0/8"))
    assert ipv6.subnet_of(ipaddress.IPv6Network("fd6c:6574:6865::/48"))
    assert (ipv4.prefixlen, ipv6.prefixlen) == (32, 128)
    assert first.json()["expires_on"] == "2024-11-03"
    assert not {"preshared_key", "leaves_in", "replaces"} & set(first.json())


def test_a_fleet_with_preshared_keys_gives_one_to_each(serve: Serve) -> None:
    client = serve(preshared_keys=True).client()
    first = client.ask("/v1/registrations", public_key=key(1)).json()
    again = client.ask("/v1/registrations", public_key=key(1)).json()
    other = client.ask("/v1/registrations", public_key=key(2)).json()

    assert len(first["preshared_key"]) == 44
    assert first["preshared_key"] == again["preshared_key"] != other["preshared_key"]


def test_a_client_sees_its_own_keys_and_nobody_elses(site: Site) -> None:
    alice, bob = site.client("alice"), site.client("bobby")
    mine = alice.ask("/v1/registrations", public_key=key(1)).json()
    bob.ask("/v1/registrations", public_key=key(2))

    assert alice.get("/v1/registrations").json() == {
        "registrations": [{name: value for name, value in mine.items() if name != "changed"}]
    }
    assert slug(bob.ask("/v1/registrations", public_key=key(1))) == "key-taken"
    assert slug(bob.ask("/v1/registrations/confirm", public_key=key(1))) == "key-unknown"
    assert slug(bob.ask("/v1/registrations/delete", public_key=key(1))) == "key-unknown"
    assert slug(bob.ask("/v1/registrations/rotate", public_key=key(1), successor=key(3))) == "key-unknown"


def test_a_rotation_has_both_keys_until_it_is_confirmed(serve: Serve) -> None:
    clock = Clock()
    client = serve(clock, rotation_grace=600).client()
    client.ask("/v1/registrations", public_key=key(1))
    begun = client.ask("/v1/registrations/rotate", public_key=key(1), successor=key(2))
    again = client.ask("/v1/registrations/rotate", public_key=key(1), successor=key(2))
    clock.move(seconds=100)

    assert (begun.status_code, again.status_code) == (201, 200)
    assert begun.json()["replaces"] == key(1)
    both = {each["public_key"]: each for each in client.get("/v1/registrations").json()["registrations"]}
    assert both[key(1)]["leaves_in"] == 500
    assert "leaves_in" not in both[key(2)]

    confirmed = client.ask("/v1/registrations/confirm", public_key=key(2))
    assert confirmed.status_code == 200
    assert confirmed.json()["changed"]
    assert "replaces" not in confirmed.json()
    assert not client.ask("/v1/registrations/confirm", public_key=key(2)).json()["changed"]
    assert [each["public_key"] for each in client.get("/v1/registrations").json()["registrations"]] == [key(2)]


def test_a_deleted_key_is_gone_and_deleting_it_again_is_no_error(site: Site) -> None:
    client = site.client()
    client.ask("/v1/registrations", public_key=key(1))

    assert client.ask("/v1/registrations/delete", public_key=key(1)).json() == {"changed": True}
    assert client.ask("/v1/registrations/delete", public_key=key(1)).json() == {"changed": False}
    assert client.get("/v1/registrations").json() == {"registrations": []}
    assert slug(client.ask("/v1/registrations", public_key=key(1))) == "key-taken"


def test_a_removed_key_is_told_from_one_that_never_was(site: Site) -> None:
    client = site.client()
    client.ask("/v1/registrations", public_key=key(1))
    client.ask("/v1/registrations/rotate", public_key=key(1), successor=key(2))
    client.ask("/v1/registrations/delete", public_key=key(1))

    for path in ("confirm", "applied"):
        refused = client.ask(f"/v1/registrations/{path}", public_key=key(2))
        assert (refused.status_code, slug(refused)) == (410, "key-removed")
        assert slug(client.ask(f"/v1/registrations/{path}", public_key=key(3))) == "key-unknown"
    refused = client.ask("/v1/registrations/rotate", public_key=key(1), successor=key(3))
    assert (refused.status_code, slug(refused)) == (410, "key-removed")


def written(directory: Path, *gateways: dict[str, Any]) -> str:
    path = directory / "gateways.json"
    path.write_text(json.dumps({"gateways": gateways}))
    return str(path)


def test_clients_are_told_of_the_gateways(serve: Serve, tmp_path: Path) -> None:
    listed = [
        {
            "name": "gateway1",
            "public_key": key(100),
            "endpoint": "gateway1.example:51820",
            "addresses": ["10.64.0.1/10", "fd00::1/48"],
        },
        {
            "name": "gateway2",
            "public_key": key(101),
            "endpoint": "[2001:db8::2]:443",
            "addresses": [],
            "next_public_key": key(102),
        },
    ]
    site = serve(gateways_file=written(tmp_path, *({**each, "interface": "wg5"} for each in listed)))
    assert site.client().get("/v1/account/gateways").json() == {"gateways": listed}
    for other in (site.operator(), site.gateway()):
        assert slug(other.get("/v1/account/gateways")) == "not-allowed"


def test_a_client_learns_where_its_own_key_is_and_nothing_of_others(serve: Serve, tmp_path: Path) -> None:
    gateway = {"name": "gateway1", "public_key": key(100), "endpoint": "192.0.2.1:51820"}
    site = serve(gateways_file=written(tmp_path, gateway))
    alice, bob = site.client("alice"), site.client("bobby")
    alice.ask("/v1/registrations", public_key=key(1))

    state = {"name": "gateway1", "public_key": key(100), "state": "away"}
    told = alice.ask("/v1/registrations/applied", public_key=key(1))
    assert told.json() == {"applied": False, "gateways": [state]}
    assert slug(bob.ask("/v1/registrations/applied", public_key=key(1))) == "key-unknown"


def test_the_device_limit_is_a_conflict(serve: Serve) -> None:
    client = serve(device_limit=1).client()
    client.ask("/v1/registrations", public_key=key(1))
    refused = client.ask("/v1/registrations", public_key=key(2))

    assert (refused.status_code, slug(refused)) == (409, "device-limit")
    assert client.get("/v1/account").json() == {"state": "active", "device_limit": 1, "keys": 1}


def test_a_full_range_is_said(serve: Serve) -> None:
    client = serve(ipv4_ranges=("10.0.0.0/30",), ipv6_ranges=(), randbelow=lambda n: n - 1).client()
    assert client.ask("/v1/registrations", public_key=key(1)).status_code == 201
    refused = client.ask("/v1/registrations", public_key=key(2))

    assert (refused.status_code, slug(refused)) == (503, "range-full")
    assert refused.headers["retry-after"]


@pytest.mark.parametrize("state", ["suspended", "closed"])
def test_the_client_of_a_stopped_account_is_told(site: Site, state: str) -> None:
    client = site.client("alice")
    client.ask("/v1/registrations", public_key=key(1))
    site.registry.suspend("alice") if state == "suspended" else site.registry.close_account("alice")

    for refused in (
        client.get("/v1/registrations"),
        client.ask("/v1/registrations", public_key=key(1)),
        client.ask("/v1/registrations/rotate", public_key=key(1), successor=key(2)),
        client.ask("/v1/registrations/confirm", public_key=key(1)),
        client.ask("/v1/registrations/applied", public_key=key(1)),
        client.get("/v1/account/gateways"),
        client.ask("/v1/registrations/delete", public_key=key(1)),
    ):
        assert (refused.status_code, slug(refused)) == (403, f"account-{state}")
    assert client.get("/v1/account").json()["state"] == state
