# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots as gateways fetch them: whole, never older than the request, and built once for many."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from registry.feeding import KEYS, FeedSite, held
from registry.support import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import snapshot
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed import routes, snapshots
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed.frames import Frame, Frames
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed.snapshots import Sealed, Snapshots
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.packed import PackedPeers


def test_an_empty_registry_has_an_empty_snapshot(site: FeedSite) -> None:
    gateway = site.gateway()
    gateway.take_snapshot()
    assert gateway.peers == {}
    assert gateway.position == site.position()


def test_it_has_what_gateways_should_have_and_nothing_of_accounts(site: FeedSite) -> None:
    for account in ("alice", "bob"):
        site.registry.create(account)
    site.registry.register("alice", key(1))
    site.registry.register("bob", key(2))
    site.registry.suspend("bob")
    gateway = site.gateway()
    gateway.take_snapshot()
    assert set(gateway.peers) == {key(1)}
    assert held(gateway) == site.expected()


def test_a_revoked_key_is_in_no_snapshot_that_was_asked_for_later(site: FeedSite) -> None:
    gateway = site.gateway()
    for number in range(3):
        site.registry.register("alice", key(number))
        gateway.take_snapshot()
        assert set(gateway.peers) == {key(number)}
        site.registry.revoke(key(number))


def test_one_that_is_known_is_not_sent_again(site: FeedSite) -> None:
    site.registry.register("alice", key(1))
    with site.asking(site.token()) as gateway:
        first = gateway.get("/v1/feed/snapshot")
        again = gateway.get("/v1/feed/snapshot", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        site.registry.revoke(key(1))
        changed = gateway.get("/v1/feed/snapshot", headers={"if-none-match": first.headers["etag"]})
    assert changed.status_code == 200
    assert snapshot.decode(changed.content, KEYS).blocks == ()


def test_many_who_ask_at_once_are_given_the_same_one(site: FeedSite) -> None:
    site.registry.register("alice", key(1))
    with site.asking(site.token()) as gateway, ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: gateway.get("/v1/feed/snapshot"), range(60)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert "lethe_feed_snapshots_built_total 1.0" in site.service.metrics.text().decode()


def test_the_order_of_keys_tells_nothing(site: FeedSite) -> None:
    for number in range(5):
        site.registry.register("alice", key(number))
    with site.asking(site.token()) as gateway:
        (block,) = snapshot.decode(gateway.get("/v1/feed/snapshot").content, KEYS).blocks
    assert list(PackedPeers(block)) == sorted(key(number) for number in range(5))


@pytest.mark.parametrize("ranges", [{"ipv6_ranges": ()}, {"ipv4_ranges": ()}], ids=["IPv4", "IPv6"])
def test_a_fleet_may_have_one_family_of_addresses(site: FeedSite, ranges: dict[str, tuple[str, ...]]) -> None:
    site.registry.configure(**ranges)
    site.registry.register("alice", key(1))
    gateway = site.gateway()
    gateway.take_snapshot()
    assert held(gateway) == site.expected()
    assert len(gateway.peers[key(1)].allowed_ips.texts) == 1


def test_a_large_one_arrives_whole(site: FeedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_CHUNK", 1000)  # so that it is one
    site.registry.create("carol", 1000)
    for number in range(300):
        site.registry.register("carol", key(number))
    gateway = site.gateway()
    gateway.take_snapshot()
    assert held(gateway) == site.expected()


HERE, THERE = Position("5e" * 16, 1), Position("5e" * 16, 2)


def test_one_that_was_begun_with_another_signing_key_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_PAUSE", 0)

    async def replace_the_key() -> bytes:
        kept, begun, going_on = Snapshots(), asyncio.Event(), asyncio.Event()
        signed_with = [b"the one before"]

        async def build() -> Sealed:
            sealed = Sealed(HERE, signed_with[-1])
            begun.set()
            await going_on.wait()
            return sealed

        asked = asyncio.create_task(kept.since(HERE, build))
        await begun.wait()
        signed_with.append(b"the next one")
        kept.clear()
        going_on.set()
        return (await asked).document

    assert asyncio.run(replace_the_key()) == b"the next one"


def test_a_frame_that_was_begun_with_another_signing_key_is_not_kept() -> None:
    async def replace_the_key() -> list[bytes]:
        kept, begun, going_on = Frames(), asyncio.Event(), asyncio.Event()
        signed_with = [b"the one before"]

        async def read(reader: Position) -> Frame:
            frame = Frame(reader, THERE, signed_with[-1])
            begun.set()
            await going_on.wait()
            return frame

        async def ask() -> bytes:
            frame = await kept.after(HERE, read)
            assert frame is not None
            return frame.event

        asked = asyncio.create_task(ask())
        await begun.wait()
        signed_with.append(b"the next one")
        kept.clear()
        going_on.set()
        return [await asked, await ask(), await ask()]

    assert asyncio.run(replace_the_key()) == [b"the one before", b"the next one", b"the next one"]
