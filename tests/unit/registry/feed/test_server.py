# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The feed as a process, as systemd runs it."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from registry.feeding import FeedProcess, Gateway, expected, held
from registry.fixtures import NewDatabase
from registry.postgresql_server import PostgresqlServer
from registry.site import assert_silent
from registry.support import Registry, key, leading, until
from sqlalchemy.engine import make_url

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.signing import VerifyKeys
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, reports
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed import keys


@pytest.fixture
def registry(new_database: NewDatabase) -> Iterator[Registry]:
    one = Registry.open(new_database())
    one.create("alice", 1000)
    with leading(one):
        yield one
    one.close()


@pytest.fixture
def process(registry: Registry, tmp_path: Path) -> Iterator[Callable[..., FeedProcess]]:
    made: list[FeedProcess] = []

    def make(**settings: Any) -> FeedProcess:
        made.append(
            FeedProcess(tmp_path / f"feed{len(made)}", registry.store.environment.settings.database, **settings)
        )
        return made[-1]

    yield make
    for each in made:
        each.kill()


def token(registry: Registry) -> str:
    return registry.store.write(lambda tx: credentials.issue(tx, "gateway", "gateway one"))


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """Settings of a feed, and the files that they name."""
    certificate, private = tmp_path / "tls.crt", tmp_path / "tls.key"
    make_certificate(certificate, private)
    return {"tls_certificate": str(certificate), "tls_key": str(private)}


def over_tls(feed: FeedProcess, registry: Registry, trusted: ssl.SSLContext) -> Gateway:
    """A gateway that stands where the feed does."""
    gateway = Gateway(feed.url, token(registry), VerifyKeys(keys.verify_keys(str(feed.signing_key))), trusted)
    gateway.take_snapshot()
    return gateway


def test_it_serves_and_ends_in_good_order(registry: Registry, process: Callable[..., FeedProcess]) -> None:
    feed = process().start()
    secret = token(registry)
    gateway = Gateway(feed.url, secret)
    registry.register("alice", key(1))
    gateway.take_snapshot()
    with gateway.stream() as applied:
        registry.register("alice", key(2))
        while len(gateway.peers) < 2:
            next(applied)
        report = {
            "interface": "wg0", "epoch": "0" * 32, "revision": 0, "peers": 2, "oldest_endpoint": None, "drift": 0,
        }  # fmt: skip
        gateway.http.post("/v1/feed/report", json={"interfaces": [report], "version": "1"}).raise_for_status()
        feed.send(signal.SIGTERM)
        assert all(batch.is_heartbeat for batch in applied)  # then it ends, as HTTP says a stream does
    assert feed.process is not None
    assert feed.process.wait(60) == 0
    assert held(gateway) == expected(registry)
    gateway.close()
    assert feed.messages()[-1] == "stopped"
    named = {secret, "gateway one", "127.0.0.1"}
    for row in registry.exported().values():
        named |= {row.public_key.text, *(each.partition("/")[0] for each in row.addresses)}
    assert_silent(feed.log_file.read_text(), named)
    assert [line["level"] for line in map(json.loads, feed.log_file.read_text().splitlines())].count("error") == 0
    with registry.store.reading() as tx:
        assert tx.connection.exec_driver_sql("SELECT interface FROM reports").scalars().all() == ["wg0"]


@pytest.mark.parametrize("database", ["sqlite"])
def test_it_does_not_wait_for_readers_that_keep_their_connection(
    registry: Registry, process: Callable[..., FeedProcess], tls: dict[str, str]
) -> None:
    """As an HTTP client does that may want it once more: it does not answer the end of TLS."""
    feed = process(**tls).start()
    gateway = over_tls(feed, registry, ssl.create_default_context(cafile=tls["tls_certificate"]))
    with gateway.stream() as applied:
        next(applied)  # a heartbeat
        feed.send(signal.SIGTERM)
        assert feed.process is not None
        assert feed.process.wait(20) == 0  # TLS would wait for 30 s
    gateway.close()


@pytest.mark.parametrize("database", ["sqlite"])
class TestStart:
    def test_without_a_key_to_sign_with(self, process: Callable[..., FeedProcess]) -> None:
        feed = process()
        feed.signing_key.unlink()
        with pytest.raises(AssertionError, match=r"feed.key: cannot be read.*; make it with: lethe registry feed-key"):
            feed.start()

    def test_beyond_this_host_without_tls(self, process: Callable[..., FeedProcess]) -> None:
        with pytest.raises(AssertionError, match=r"feed.tls_certificate: is missing"):
            process(host="0.0.0.0").start()

    def test_with_settings_that_make_no_sense(self, process: Callable[..., FeedProcess]) -> None:
        with pytest.raises(AssertionError, match=r"feed.heartbeat: is not a number in its bounds"):
            process(heartbeat=0).start()


@pytest.mark.parametrize("database", ["sqlite"])
def test_sighup_brings_another_certificate_and_another_key(
    registry: Registry, process: Callable[..., FeedProcess], tls: dict[str, str]
) -> None:
    certificate = Path(tls["tls_certificate"])
    feed = process(**tls).start()
    before = ssl.create_default_context(cafile=certificate)
    gateway = over_tls(feed, registry, before)
    make_certificate(certificate, Path(tls["tls_key"]))
    keys.prepare(str(feed.signing_key))
    keys.switch(str(feed.signing_key))
    with gateway.stream() as applied:
        next(applied)  # a heartbeat
        gateway.keys = VerifyKeys(keys.verify_keys(str(feed.signing_key)))
        feed.send(signal.SIGHUP)
        until(lambda: "the signing key was read again" in feed.messages())
        registry.register("alice", key(1))
        while not gateway.peers:
            next(applied)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{feed.url}/healthz", verify=before)
    assert httpx.get(f"{feed.url}/healthz", verify=ssl.create_default_context(cafile=certificate)).status_code == 200
    feed.signing_key.write_text("not a key")
    feed.send(signal.SIGHUP)
    until(lambda: any(message.startswith("the signing key was not replaced") for message in feed.messages()))
    assert httpx.get(f"{feed.url}/healthz", verify=False).status_code == 200
    gateway.close()


@pytest.mark.parametrize("database", ["sqlite"])
def test_metrics_can_be_apart_and_name_nobody(registry: Registry, process: Callable[..., FeedProcess]) -> None:
    feed = process(metrics_port=0).start()
    (port,) = [message.rpartition(" ")[2] for message in feed.messages() if "metrics" in message]
    gateway = Gateway(feed.url, token(registry))
    gateway.take_snapshot()
    with gateway.stream() as applied:
        next(applied)
        numbers = httpx.get(f"http://localhost:{port}/metrics").text
    assert "\nlethe_feed_streams 1.0\n" in numbers
    assert "\nlethe_feed_database_up 1.0\n" in numbers
    assert re.search(r"\nlethe_feed_deliveries_total [1-9]", numbers)
    assert "gateway one" not in numbers
    assert httpx.get(f"{feed.url}/metrics").status_code == 404
    assert feed.process is not None
    gateway.close()


def make_certificate(certificate: Path, private: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=feed", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
            *("-out", certificate, "-keyout", private),
        ],
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("database", ["postgresql"])
def test_with_postgresql_it_can_be_a_role_that_cannot_see_accounts(
    registry: Registry, process: Callable[..., FeedProcess], postgresql: PostgresqlServer
) -> None:
    """What docs/architecture.md says such a role needs."""
    url = make_url(registry.store.environment.settings.database)
    postgresql.execute("DROP ROLE IF EXISTS lethe_feed")
    postgresql.execute("CREATE ROLE lethe_feed LOGIN")
    for grant in (
        "SELECT ON history, changes, outbox, credentials, feed_peers, alembic_version",
        "SELECT, INSERT, UPDATE, DELETE ON reports",
    ):
        postgresql.execute(f"GRANT {grant} TO lethe_feed", str(url.database))
    as_role = url.set(username="lethe_feed").render_as_string()
    with pytest.raises(psycopg.errors.InsufficientPrivilege), psycopg.connect(as_role) as connection:
        connection.execute("SELECT account FROM registrations")
    feed = process(database=as_role).start()
    gateway = Gateway(feed.url, token(registry))
    gateway.take_snapshot()
    with gateway.stream() as applied:
        registry.register("alice", key(1))
        while not gateway.peers:
            next(applied)
    report = {"interface": "wg0", "epoch": "0" * 32, "revision": 0, "peers": 2, "oldest_endpoint": None, "drift": 0}
    gateway.http.post("/v1/feed/report", json={"interfaces": [report], "version": "1"}).raise_for_status()
    assert feed.stop() == 0
    (told,) = registry.store.read(reports.gateways)
    assert told.report is not None
    gateway.close()
    postgresql.execute("DROP OWNED BY lethe_feed", str(url.database))
    postgresql.execute("DROP ROLE lethe_feed")
