# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from made_up import key
from registry.site import Serve, Site, slug
from registry.support import key as public_key
from registry.support import until

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api import export
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.inventory import peers_from_file


def test_peers_are_what_the_module_peers_reads_from_a_file(serve: Serve, tmp_path: Path) -> None:
    site = serve(preshared_keys=True, device_limit=1000)
    client = site.client()
    for n in range(10):
        client.ask("/v1/registrations", public_key=key(n))
    client.ask("/v1/registrations/rotate", public_key=key(0), successor=key(100))
    position = site.registry.position()
    answer = site.gateway().get("/v1/peers")

    assert answer.headers["lethe-epoch"] == position.epoch
    assert answer.headers["lethe-revision"] == str(position.revision) == "11"
    file = tmp_path / "peers.jsonl"
    file.write_bytes(answer.content)
    peers = peers_from_file(file)
    exported = site.registry.exported()
    assert peers.keys() == exported.keys() == {public_key(n) for n in [*range(10), 100]}
    for each in exported.values():
        assert peers[each.public_key].allowed_ips.texts == each.addresses
        assert peers[each.public_key].preshared_key == each.preshared_key


def test_peers_of_suspended_accounts_are_not_among_them(site: Site) -> None:
    site.client("alice").ask("/v1/registrations", public_key=key(1))
    site.client("bobby").ask("/v1/registrations", public_key=key(2))
    site.registry.suspend("alice")

    lines = site.gateway().get("/v1/peers").text.splitlines()
    assert len(lines) == 1
    assert key(2) in lines[0]
    assert "alice" not in lines[0]


def test_a_registry_without_keys_has_no_peers(site: Site) -> None:
    answer = site.gateway().get("/v1/peers")
    assert (answer.status_code, answer.content) == (200, b"")


def test_many_peers_come_in_pieces(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_PEERS", 3)
    site = serve(device_limit=1000)
    for n in range(10):
        site.registry.create("alice")
        site.registry.register("alice", public_key(n))
    assert len(site.gateway().get("/v1/peers").text.splitlines()) == 10


def test_more_readers_than_the_database_has_connections_for_are_told_to_wait(site: Site) -> None:
    site.service.exports.update(range(2))
    refused = site.gateway().get("/v1/peers")
    assert (refused.status_code, slug(refused)) == (503, "too-busy")
    site.service.exports.clear()
    assert site.gateway().get("/v1/peers").status_code == 200
    until(lambda: not site.service.exports)  # it ends a moment after its reader has everything


def test_a_gateway_that_takes_too_long_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_PEERS", 1)
    monkeypatch.setattr(export, "_LONGEST", 0.5)
    monkeypatch.setattr(export, "_line", lambda _: time.sleep(0.2) or "{}\n")
    site = serve(device_limit=1000)
    for n in range(10):
        site.registry.create("alice")
        site.registry.register("alice", public_key(n))

    with pytest.raises(httpx.RemoteProtocolError):
        site.gateway().get("/v1/peers")
    assert "a peers file was cut off: its reader took longer than 0 s" in [line["message"] for line in site.log_lines()]
    until(lambda: not site.service.exports)


def test_gateways_can_do_nothing_else(site: Site) -> None:
    gateway = site.gateway()
    for path in ("/v1/status", "/v1/credentials", "/v1/registrations", "/v1/account"):
        refused = gateway.get(path)
        assert (refused.status_code, slug(refused)) == (403, "not-allowed")
