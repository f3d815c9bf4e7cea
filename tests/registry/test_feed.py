# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The feed under load and failures, its processes real ones: whatever happens, every gateway ends with what the
registry has, and every batch on the way followed the one before.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from registry.feeding import FeedProcess, Following, Gateway, expected, held
from registry.fixtures import MakeRegistry
from registry.postgresql_server import PostgresqlServer
from registry.site import assert_silent
from registry.support import Registry, key, leading, migrate, until

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import backup, credentials
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import DatabaseUnusable
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import connect

WRITERS, READERS = 6, 12
Start = Callable[..., FeedProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a feed over a database."""
    made: list[FeedProcess] = []

    def run(database: str, **settings: Any) -> FeedProcess:
        made.append(FeedProcess(tmp_path / f"feed{len(made)}", database, **settings))
        return made[-1].start()

    yield run
    for each in made:
        each.kill()


def url_of(registry: Registry) -> str:
    return registry.store.environment.settings.database


def gateways(registry: Registry, number: int, *feeds: FeedProcess) -> list[Gateway]:
    """So many, shared out among the feeds."""
    urls = itertools.cycle(feed.url for feed in feeds)
    issue = credentials.issue
    return [
        Gateway(next(urls), registry.store.write(lambda tx, n=n: issue(tx, "gateway", f"gateway {n}")))
        for n in range(number)
    ]


def position(registry: Registry) -> Position:
    found = registry.position()
    return Position(found.epoch, found.revision)


def live(registry: Registry, first: int, stop: threading.Event) -> int:
    """A life of registering, rotating, revoking, suspending, with keys from ``first`` on; returns how many requests
    it made.
    """
    draw = random.Random(first)
    account = f"account {first}"
    registry.create(account, 1000)
    numbers = itertools.count(first)
    requests = 0
    while not stop.is_set():
        mine = list(registry.of(account))
        match draw.randrange(6):
            case 0 | 1 | 2:
                registry.register(account, key(next(numbers)))
            case 3 if mine:
                registry.revoke(draw.choice(mine))
            case 4 if mine:
                old, new = draw.choice(mine), key(next(numbers))
                registry.begin(account, old, new)
                registry.confirm(account, new)
            case 5 if draw.random() < 0.3:
                registry.suspend(account)
                registry.resume(account)
        requests += 1
        time.sleep(0.002)
    return requests


@contextmanager
def writing(registry: Registry) -> Iterator[Callable[[], int]]:
    """While many write; gives how many threads failed."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def run(first: int) -> None:
        try:
            live(registry, first, stop)
        except BaseException as error:  # noqa: BLE001 - counted
            failed.append(error)

    threads = [threading.Thread(target=run, args=(n * 1_000_000,)) for n in range(1, WRITERS + 1)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: len(failed)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed, failed


def settle(registry: Registry, followings: list[Following]) -> None:
    """Wait until all stand where the registry does, then hold each against it."""
    end = position(registry)
    until(lambda: all(one.failure is not None or one.gateway.position == end for one in followings))
    for one in followings:
        one.stop()
    wanted = expected(registry)
    for one in followings:
        assert held(one.gateway) == wanted
        assert one.gateway.position == end
        one.gateway.close()


def test_every_gateway_has_what_the_registry_has_though_feeds_are_killed(
    make_registry: MakeRegistry, start: Start, database: str
) -> None:
    """With PostgreSQL there are two, and gateways that lose one go on with the other from where they were."""
    registry = make_registry(preshared_keys=True)
    feeds = [start(url_of(registry)) for _ in range(1 if database == "sqlite" else 2)]
    with leading(registry):
        followings = [Following(gateway) for gateway in gateways(registry, READERS, *feeds)]
        urls = itertools.cycle(feed.url for feed in feeds)
        with writing(registry):
            for round_ in range(6):
                time.sleep(1.5)
                feed = feeds[round_ % len(feeds)]
                feed.kill()
                for _, one in zip(range(READERS // 2), followings, strict=False):
                    one.gateway.http.base_url = next(urls)  # type: ignore[assignment]
                feed.start()
        settle(registry, followings)
    assert registry.position().revision > 300
    assert sum(one.returns for one in followings) >= READERS
    assert all(one.gateway.snapshots == 1 for one in followings), "a position was lost"
    named = {row.public_key.text for row in registry.exported().values()} | {"gateway 1", "127.0.0.1"}
    for feed in feeds:
        assert_silent(feed.log_file.read_text(), named)


@pytest.mark.parametrize("database", ["postgresql"])
def test_two_feeds_over_one_database_give_the_same_order(make_registry: MakeRegistry, start: Start) -> None:
    registry = make_registry()
    feeds = [start(url_of(registry)) for _ in range(2)]
    with leading(registry):
        followings = [Following(gateway) for gateway in gateways(registry, 4, *feeds)]
        with writing(registry):
            time.sleep(4)
        settle(registry, followings)
    # Each was held to an unbroken order; here the same keys appear at the same revisions wherever batches end alike.
    seen: dict[tuple[int, int], set[object]] = {}
    for one in followings:
        for batch in one.gateway.batches:
            if not batch.is_heartbeat:
                seen.setdefault((batch.after, batch.revision), set()).add(batch.removed)
    assert seen
    assert all(len(removals) == 1 for removals in seen.values())


def test_a_database_that_was_away_is_taken_up_again(tmp_path: Path, start: Start) -> None:
    server = PostgresqlServer(durable=True)
    try:
        url = server.url(server.new_database())
        migrate(url)
        registry = Registry.open(url)
        registry.create("alice", 1000)
        feed = start(url)
        with leading(registry):
            (gateway,) = gateways(registry, 1, feed)
            following = Following(gateway)
            registry.register("alice", key(1))
            until(lambda: len(gateway.peers) == 1)
            for how in (signal.SIGINT, signal.SIGQUIT):
                server.stop(how)
                until(lambda: not feed.is_ready())
                server.start()
                number = 2 if how == signal.SIGINT else 3
                until(lambda n=number: _registers(registry, n))
            settle(registry, [following])
            assert gateway.snapshots == 1
        registry.close()
        assert any("the change log cannot be read" in message for message in feed.messages())
    finally:
        server.remove()


def _registers(registry: Registry, number: int) -> bool:
    """Whether it can be registered, or was."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        registry.register("alice", key(number))
    except SQLAlchemyError:
        return False
    return True


def test_after_a_restore_gateways_take_a_snapshot_of_the_new_epoch(
    make_registry: MakeRegistry, start: Start, tmp_path: Path
) -> None:
    registry = make_registry()
    registry.create("alice", 1000)
    url = url_of(registry)
    feed = start(url)
    registry.register("alice", key(1))
    registry.settle()
    (gateway,) = gateways(registry, 1, feed)
    following = Following(gateway)
    until(lambda: len(gateway.peers) == 1)
    engine = connect(url)
    backup.backup(engine, tmp_path / "backup")
    for number in range(2, 6):
        registry.register("alice", key(number))
    registry.settle()
    until(lambda: len(gateway.peers) == 5)
    before = gateway.position
    registry.store.engine.dispose()
    with pytest.raises(DatabaseUnusable):  # the feed uses it
        backup.restore(engine, tmp_path / "backup")
    feed.stop()
    registry.close()
    backup.restore(engine, tmp_path / "backup")
    engine.dispose()
    feed.start()
    restored = Registry.open(url)
    try:
        restored.register("alice", key(9))
        with leading(restored):
            settle(restored, [following])
        assert set(gateway.peers) == {key(1), key(9)}
        assert gateway.snapshots == 2
        assert before is not None
        assert gateway.position is not None
        assert gateway.position.epoch > before.epoch
        assert gateway.position.revision < before.revision
    finally:
        restored.close()
