# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes as they reach gateways: at once, in order, none lost; and who may read them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from registry import support
from registry.feeding import SIGNING, Feed, FeedSite, Gone, held
from registry.support import Registry, key, until

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.signing import VerifyKeys
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, history
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed import keys, routes, source
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Transaction


def register(registry: Registry, *numbers: int, account: str = "alice") -> None:
    registry.create(account, 1000)
    for number in numbers:
        registry.register(account, key(number))


def test_a_change_reaches_a_gateway_that_waits(site: FeedSite) -> None:
    register(site.registry, 1)
    gateway = site.gateway()
    gateway.take_snapshot()
    with gateway.stream() as applied:
        register(site.registry, 2)
        assert [peer.public_key for peer in next(applied).peers] == [key(2)]
        site.registry.revoke(key(1))
        assert next(applied).removed == (key(1),)
    assert held(gateway) == site.expected()
    assert gateway.position == site.position()


def test_a_gateway_that_was_away_goes_on_from_where_it_was(site: FeedSite) -> None:
    register(site.registry, 1, 2, 3)
    gateway = site.gateway()
    gateway.take_snapshot()
    register(site.registry, 4, 5)
    site.registry.revoke(key(1))
    site.registry.revoke(key(5))
    gateway.follow_to(site.position())
    assert held(gateway) == site.expected()
    assert gateway.snapshots == 1


def test_a_key_that_came_and_went_meanwhile_is_not_sent(registry: Registry, serve: Feed) -> None:
    before = registry.position()
    register(registry, 1)
    registry.revoke(key(1))
    site = serve()
    gateway = site.gateway()
    gateway.position = Position(before.epoch, before.revision)
    gateway.follow_to(site.position())
    assert [batch.peers for batch in gateway.batches] == [()]


def test_suspension_takes_keys_away_and_resumption_brings_them_back(site: FeedSite) -> None:
    register(site.registry, 1, 2)
    gateway = site.gateway()
    gateway.take_snapshot()
    site.registry.suspend("alice")
    gateway.follow_to(site.position())
    assert not gateway.peers
    site.registry.resume("alice")
    gateway.follow_to(site.position())
    assert len(held(gateway)) == 2
    assert held(gateway) == site.expected()


def test_what_leads_on_is_read_from_any_position_in_portions(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MOST_CHANGES", 4)
    register(registry, *range(10))
    epoch = registry.position().epoch

    def read_after(revision: int) -> tuple[int, int] | None:
        draft = registry.store.read(lambda tx: source.batch_after(tx, Position(epoch, revision)))
        return draft and (draft.after.revision, draft.position.revision)

    assert [read_after(revision) for revision in (0, 3, 8, 10)] == [(0, 4), (3, 7), (8, 10), None]
    for gone in (Position(epoch, 11), Position("5e" * 16, 5)):
        with pytest.raises(source.PositionGone):
            registry.store.read(lambda tx, gone=gone: source.batch_after(tx, gone))


def test_a_key_that_goes_in_one_batch_and_comes_back_in_the_next_is_in_the_one_as_gone(
    registry: Registry, serve: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MOST_CHANGES", 2)
    register(registry, 1, 2)
    before = registry.position()
    registry.suspend("alice")
    registry.resume("alice")
    gateway = serve().gateway()
    gateway.position = Position(before.epoch, before.revision)
    gateway.follow_to(Position(before.epoch, before.revision + 4))
    both = tuple(sorted((key(1), key(2))))
    assert [(batch.removed, tuple(peer.public_key for peer in batch.peers)) for batch in gateway.batches] == [
        (both, ()),
        ((), both),
    ]


def test_within_a_batch_keys_are_in_their_own_order(site: FeedSite) -> None:
    """Which came with which, and which came first, is nobody's business."""
    register(site.registry, *range(20))
    gateway = site.gateway()
    gateway.take_snapshot()
    for number in range(20):
        site.registry.begin("alice", key(number), key(100 + number))
        site.registry.confirm("alice", key(100 + number))
    gateway.follow_to(site.position())
    assert len(gateway.peers) == 20
    for batch in gateway.batches:
        assert list(batch.removed) == sorted(batch.removed)
        assert list(batch.peers) == sorted(batch.peers)


def test_preshared_keys_travel_with_their_keys(site: FeedSite) -> None:
    register(site.registry, 1)
    gateway = site.gateway()
    site.registry.configure(preshared_keys=True)
    register(site.registry, 2)
    gateway.take_snapshot()  # of two shapes
    register(site.registry, 3)
    gateway.follow_to(site.position())
    assert held(gateway) == site.expected()
    assert sum(any(preshared_key) for _, _, preshared_key in held(gateway)) == 2


def test_a_silent_feed_says_that_it_is_there(serve: Feed) -> None:
    site = serve(heartbeat=1)
    register(site.registry, 1)
    gateway = site.gateway()
    gateway.take_snapshot()
    with gateway.stream() as applied:
        begun = time.monotonic()
        assert next(applied).is_heartbeat
        assert next(applied).is_heartbeat
    assert 0.9 < time.monotonic() - begun < 20


class TestPositionsFromWhichItCannotGoOn:
    @pytest.mark.parametrize("text", ["", "1", f"{'0' * 32}", f"{'g' * 32}.1"])
    def test_none_is_a_bad_request(self, site: FeedSite, text: str) -> None:
        with site.asking(site.token()) as gateway:
            answer = gateway.get("/v1/feed/changes", headers={"last-event-id": text} if text else {})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"].endswith(":position-missing")

    @pytest.mark.parametrize("other", [lambda at: Position("0" * 32, at.revision), lambda at: at._replace(revision=9)])
    def test_of_another_epoch_or_from_the_future(self, site: FeedSite, other: Callable[[Position], Position]) -> None:
        register(site.registry, 1)
        gateway = site.gateway()
        gateway.position = other(site.position())
        with pytest.raises(Gone), gateway.stream():
            pass

    def test_no_longer_retained(self, site: FeedSite) -> None:
        register(site.registry, 1)
        gateway = site.gateway()
        gateway.take_snapshot()
        register(site.registry, 2, 3)
        at = site.position()
        site.registry.clock.move(days=2)
        site.registry.store.write(lambda tx: history.prune(tx, 100))
        with pytest.raises(Gone), gateway.stream():
            pass
        gateway.follow_to(at)
        assert gateway.snapshots == 2
        assert held(gateway) == site.expected()
        with gateway.stream() as applied:  # nothing is retained, and nothing is missing
            register(site.registry, 4)
            next(applied)
        assert held(gateway) == site.expected()

    def test_when_another_epoch_begins_streams_end(self, site: FeedSite) -> None:
        register(site.registry, 1)
        gateway = site.gateway()
        gateway.take_snapshot()
        with gateway.stream() as applied:
            site.registry.store.write(history.begin_epoch)
            assert list(applied) == []
        with pytest.raises(Gone), gateway.stream():
            pass
        gateway.follow_to(site.position())
        assert held(gateway) == site.expected()


class TestWhoMayRead:
    PATHS = ("/v1/feed/snapshot", "/v1/feed/changes")

    @pytest.mark.parametrize("path", PATHS)
    def test_nobody_without_a_credential(self, site: FeedSite, path: str) -> None:
        with site.asking() as stranger:
            answer = stranger.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")

    @pytest.mark.parametrize("path", PATHS)
    def test_no_other_kind_of_credential(self, site: FeedSite, path: str) -> None:
        client = site.registry.token("alice")
        site.named.add(client)
        for token in (site.token(kind="operator"), client):
            with site.asking(token) as other:
                assert other.get(path, headers={"last-event-id": site.position().text}).status_code == 403
                assert other.post("/v1/feed/report", json={"interfaces": [], "version": "1"}).status_code == 403

    def test_a_withdrawn_credential_is_cut_off_within_seconds(self, site: FeedSite) -> None:
        withdrawn, other = site.gateway("gateway one"), site.gateway("gateway two")
        for gateway in (withdrawn, other):
            gateway.take_snapshot()
        with withdrawn.stream() as ending, other.stream() as going_on:
            until(lambda: len(site.service.hub) == 2)
            begun = time.monotonic()
            site.registry.store.write(lambda tx: credentials.withdraw(tx, "gateway", "gateway one"))
            assert list(ending) == []
            assert time.monotonic() - begun < 30  # 2 s, on a machine with nothing else to do
            register(site.registry, 1)
            assert next(going_on).peers
        with site.asking(withdrawn.http.headers["authorization"].removeprefix("Bearer ")) as late:
            assert late.get("/v1/feed/snapshot").status_code == 401

    def test_it_is_also_after_a_failure_that_nobody_has_thought_of(
        self, site: FeedSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        valid, failed = credentials.of_gateways, threading.Event()

        def fail_once(tx: Transaction) -> set[bytes]:
            if not failed.is_set():
                failed.set()
                raise RuntimeError("nobody has thought of this")
            return valid(tx)

        monkeypatch.setattr(credentials, "of_gateways", fail_once)
        gateway = site.gateway("gateway one")
        gateway.take_snapshot()
        with gateway.stream() as ending:
            assert failed.wait(60)
            site.registry.store.write(lambda tx: credentials.withdraw(tx, "gateway", "gateway one"))
            assert list(ending) == []
        assert "it begins again" in site.log.getvalue()

    def test_how_often_is_limited(self, serve: Feed) -> None:
        site = serve(gateway_rate="2/minute")
        with site.asking(site.token()) as gateway:
            answers = [gateway.get("/v1/feed/snapshot") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) > 0

    def test_how_many_at_once_is_limited(self, serve: Feed) -> None:
        site = serve(streams=1)
        first, second = site.gateway("gateway one"), site.gateway("gateway two")
        first.take_snapshot()
        second.take_snapshot()
        with first.stream():
            until(lambda: len(site.service.hub) == 1)
            with site.asking(second.http.headers["authorization"].removeprefix("Bearer ")) as turned_away:
                answer = turned_away.get("/v1/feed/changes", headers={"last-event-id": site.position().text})
        assert answer.status_code == 503


def test_while_the_signing_key_is_replaced_gateways_accept_both(site: FeedSite, signing_key: Path) -> None:
    keys.prepare(str(signing_key))
    both = keys.verify_keys(str(signing_key))
    assert both[0] == SIGNING.verify_key()
    gateway = site.gateway(keys=VerifyKeys(both))
    gateway.take_snapshot()
    with gateway.stream() as applied:
        register(site.registry, 1)
        next(applied)
        keys.switch(str(signing_key))
        site.in_loop(site.service.reload)
        register(site.registry, 2)
        next(applied)
    assert held(gateway) == site.expected()
    assert keys.verify_keys(str(signing_key)) == both[1:]
    late = site.gateway("gateway two", keys=VerifyKeys(both[1:]))
    late.take_snapshot()  # nothing that was signed before is handed out
    late.position, late.peers = Position(site.position().epoch, 0), {}
    late.follow_to(site.position())
    assert held(late) == site.expected()


def test_a_reader_that_pauses_is_given_every_byte_in_order(serve: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_UNANSWERED", 600_000)  # it pauses for as long as the changes take
    site = serve(backlog=1 << 24, send_buffer=1 << 14)
    register(site.registry, 1)
    gateway = site.gateway()
    gateway.take_snapshot()
    with gateway.stream() as applied:
        for number in range(10, 80):  # meanwhile it reads nothing: more than two kernels' buffers hold
            many = [key(100 * number + n) for n in range(100)]
            site.registry.create(f"account {number}", 1000)
            site.registry.store.write(
                lambda tx, a=f"account {number}", ks=many: [support.register(tx, a, each) for each in ks]
            )
            until(lambda: site.in_loop(lambda: site.service.hub.position) == site.position())
        while gateway.position != site.position():
            next(applied)
    assert held(gateway) == site.expected()


def test_a_reader_that_is_too_slow_is_cut_off_and_loses_nothing(serve: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_UNANSWERED", 600_000)  # the other bound, on a machine that is slow itself
    site = serve(backlog=1 << 16, send_buffer=1 << 14)
    register(site.registry, 1)
    gateway = site.gateway()
    gateway.take_snapshot()
    assert gateway.position is not None
    host, port = site.url.removeprefix("http://").split(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        token = gateway.http.headers["authorization"]
        slow.sendall(
            f"GET /v1/feed/changes HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\n"
            f"last-event-id: {gateway.position.text}\r\n\r\n".encode()
        )
        until(lambda: len(site.service.hub) == 1)
        for number in range(10, 1000):  # it reads nothing
            if not len(site.service.hub):
                break
            account = f"account {number}"
            site.registry.create(account, 1000)
            many = [key(100 * number + n) for n in range(100)]
            site.registry.store.write(lambda tx, a=account, ks=many: [support.register(tx, a, each) for each in ks])
    gateway.follow_to(site.position())
    assert gateway.snapshots == 1
    assert held(gateway) == site.expected()
    assert 'lethe_feed_cut_off_total{why="slow"} 1.0' in site.service.metrics.text().decode()
