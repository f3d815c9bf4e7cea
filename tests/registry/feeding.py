# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A feed behind a real HTTP server on loopback, and gateways that follow it as the contract says: each holds every
batch to what is promised of it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvloop
from registry.site import NO_AUTHORITY, assert_silent, logged
from registry.support import MASTER, Registry, leading, until

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import batch as batches
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import events, snapshot
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.batch import Batch
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.signing import SigningKey, VerifyKeys
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, logs
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed.keys import CurrentSigner
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed.server import following, servers_of
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed.service import FeedService
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.server import HttpServer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import FeedSettings, Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Environment, open_store
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.vault import Vault
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.packed import PackedPeers
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer

SIGNING = SigningKey(bytes(range(100, 132)))
"""The signing key of all feeds under test: several processes share one."""

KEYS = VerifyKeys([SIGNING.verify_key()])


class Gone(Exception):
    """The feed cannot go on from there."""


class Away(Exception):
    """The feed has no database just now."""


class Gateway:
    """One that has a credential, and in memory what a kernel would have."""

    def __init__(self, url: str, token: str, keys: VerifyKeys = KEYS, verify: ssl.SSLContext = NO_AUTHORITY) -> None:
        self.http = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=httpx.Timeout(60), verify=verify
        )
        self.keys = keys
        self.position: Position | None = None
        self.peers: dict[PublicKey, Peer] = {}
        self.batches: list[Batch] = []
        self.heartbeats = 0
        self.snapshots = 0

    def take_snapshot(self) -> None:
        answer = self.http.get("/v1/feed/snapshot")
        answer.raise_for_status()
        taken = snapshot.decode(answer.content, self.keys)
        assert answer.headers["etag"] == f'"{taken.position.text}"'
        assert self.position is None or taken.position >= self.position, "a snapshot leads back"
        blocks = [PackedPeers(block) for block in taken.blocks]
        self.peers = {key: peer for block in blocks for key, peer in block.items()}
        assert len(self.peers) == sum(map(len, blocks))
        self.position = taken.position
        self.snapshots += 1

    def apply(self, batch: Batch) -> None:
        assert self.position is not None
        assert batch.epoch == self.position.epoch
        assert batch.after == self.position.revision, "a batch does not follow"
        self.batches.append(batch)
        self.heartbeats += batch.is_heartbeat
        for key in batch.removed:
            self.peers.pop(key, None)
        for peer in batch.peers:
            taken = [key for key, other in self.peers.items() if other.allowed_ips == peer.allowed_ips]
            assert taken in ([], [peer.public_key]), "an address has two owners"
            self.peers[peer.public_key] = peer
        self.position = batch.position

    @contextmanager
    def stream(self) -> Iterator[Iterator[Batch]]:
        """The batches from where it stands, each applied when it is taken. Raises Gone and Away."""
        assert self.position is not None
        with self.http.stream("GET", "/v1/feed/changes", headers={"last-event-id": self.position.text}) as answer:
            if answer.status_code == 410:
                raise Gone
            if answer.status_code == 503:
                raise Away
            answer.raise_for_status()
            assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
            yield self._applied(answer)

    def _applied(self, answer: httpx.Response) -> Iterator[Batch]:
        decoder = events.Decoder()
        for piece in answer.iter_raw():
            for event in decoder.feed(piece):
                batch = batches.decode(event.document(), self.keys)
                assert (event.id, event.kind) == (batch.position.text, "batch")
                self.apply(batch)
                yield batch

    def follow_to(self, position: Position) -> None:
        """Catch up, by a snapshot if need be, until it stands there."""
        if self.position is None:
            self.take_snapshot()
        while self.position is None or self.position < position:
            try:
                with self.stream() as applied:
                    for _ in applied:
                        if self.position >= position:
                            return
            except Gone:
                self.take_snapshot()

    def close(self) -> None:
        self.http.close()


class Following:
    """A gateway that follows in a thread, and comes back whenever it is cut off."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.failure: BaseException | None = None
        self.returns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Raises what failed."""
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._once()
                except (httpx.TransportError, Away):
                    time.sleep(0.02)
                self.returns += 1
        except BaseException as error:  # noqa: BLE001 - raised by stop()
            self.failure = error

    def _once(self) -> None:
        if self.gateway.position is None:
            self.gateway.take_snapshot()
        try:
            with self.gateway.stream() as applied:
                for _ in applied:
                    if self._stop.is_set():
                        return
        except Gone:
            self.gateway.take_snapshot()


class FeedSite:
    """A feed that is served, and the registry whose feed it is."""

    def __init__(
        self, registry: Registry, url: str, service: FeedService, server: HttpServer, verify: ssl.SSLContext
    ) -> None:
        self.registry = registry
        self.url = url
        self.service = service
        self.server = server
        self.log = io.StringIO()
        self.named: set[str] = set()
        self._verify = verify
        self._gateways: list[Gateway] = []

    def token(self, label: str = "gateway one", kind: str = credentials.GATEWAY) -> str:
        token = self.registry.store.write(lambda tx: credentials.issue(tx, kind, label))
        self.named |= {token, label}
        return token

    def gateway(self, label: str = "gateway one", keys: VerifyKeys = KEYS) -> Gateway:
        self._gateways.append(Gateway(self.url, self.token(label), keys, self._verify))
        return self._gateways[-1]

    def asking(self, token: str | None = None) -> httpx.Client:
        """Somebody with that token, or none."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=self._verify)

    def position(self) -> Position:
        found = self.registry.position()
        return Position(found.epoch, found.revision)

    def expected(self) -> set[tuple[PublicKey, tuple[str, ...], bytes]]:
        """What every gateway should have, as the registry says."""
        for row in self.registry.exported().values():
            self.named |= {row.public_key.text, *(each.partition("/")[0] for each in row.addresses)}
        return expected(self.registry)

    def in_loop(self, call: Callable[[], Any]) -> Any:
        """Call it in the server's event loop."""
        done: list[Any] = []
        ready = threading.Event()

        def do() -> None:
            done.append(call())
            ready.set()

        self.loop.call_soon_threadsafe(do)
        assert ready.wait(60)
        return done[0]

    loop: asyncio.AbstractEventLoop

    def close(self) -> None:
        for gateway in self._gateways:
            gateway.close()


def expected(registry: Registry) -> set[tuple[PublicKey, tuple[str, ...], bytes]]:
    """What every gateway should have, as the registry says."""
    return {
        (row.public_key, tuple(row.addresses), bytes(row.preshared_key or bytes(32)))
        for row in registry.exported().values()
    }


def held(gateway: Gateway) -> set[tuple[PublicKey, tuple[str, ...], bytes]]:
    """What a gateway has, to compare with what it should have."""
    return {(key, tuple(peer.allowed_ips.texts), bytes(peer.preshared_key)) for key, peer in gateway.peers.items()}


def write_key(path: Path, key: SigningKey = SIGNING) -> Path:
    path.write_text(f"{key.text}\n")
    path.chmod(0o600)
    return path


@contextmanager
def fed(
    registry: Registry,
    signing_key: Path,
    verify: ssl.SSLContext = NO_AUTHORITY,
    send_buffer: int = 0,
    **settings: Any,
) -> Iterator[FeedSite]:
    """The feed of a registry. When it ends its logs are looked through: nobody is in them. ``send_buffer``: bytes
    that the kernel takes for each connection; 0: as many as it likes.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    if send_buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)  # its connections inherit it
    made = FeedSettings(signing_key=str(signing_key), **{"gateway_rate": "100000/minute", **settings})
    environment = Environment.of(
        Settings(database=registry.store.environment.settings.database), Vault(MASTER), clock=time.time
    )
    store = open_store(environment)
    service = FeedService.over(store, made, CurrentSigner(made.signing_key))
    (server,) = servers_of(service, [listening], None)
    site = FeedSite(registry, f"http://127.0.0.1:{server.port}", service, server, verify)
    thread = threading.Thread(target=_run, args=(site,), name="feed")
    with logged(site.log), leading(registry), closing(store), closing(service), closing(listening):
        thread.start()
        try:
            with site.asking() as anybody:
                while anybody.get("/readyz").status_code != 200:
                    time.sleep(0.02)
            yield site
        finally:
            site.in_loop(service.hub.close)
            site.in_loop(server.stop)
            thread.join()
            site.close()
    assert_silent(site.log.getvalue(), site.named)
    assert "traceback" not in site.log.getvalue().lower()


def _run(site: FeedSite) -> None:
    async def serve() -> None:
        async with following(site.service):
            await site.server.serve()

    site.loop = uvloop.new_event_loop()
    asyncio.set_event_loop(site.loop)
    site.loop.set_exception_handler(logs.on_loop_exception)
    try:
        site.loop.run_until_complete(serve())
    finally:
        site.loop.close()


def log_lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines()]


Feed = Callable[..., FeedSite]


PACKAGE = Path(__file__).parents[2] / "plugins/module_utils"


class FeedProcess:
    """``lethe registry feed``, as systemd runs it, on a port that it keeps when it is started again."""

    def __init__(self, directory: Path, url: str, **settings: Any) -> None:
        """``url``: of the database."""
        directory.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.scheme = "https" if "tls_certificate" in settings else "http"
        self.log_file = directory / "log"
        secrets = directory / "secrets"
        secrets.write_text(base64.b64encode(MASTER).decode())
        self.signing_key = write_key(directory / "feed.key")
        self.settings = directory / "settings.json"
        feed = {
            "port": self.port,
            "signing_key": str(self.signing_key),
            "gateway_rate": "100000/minute",
            "heartbeat": 1,
            **settings,
        }
        self.settings.write_text(json.dumps({"database": url, "secrets_file": str(secrets), "feed": feed}))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def start(self) -> FeedProcess:
        """And wait until it is ready."""
        command = [sys.executable, "-m", "_lethe.cli", "registry", "feed", "--settings", self.settings]
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(PACKAGE)}
            )
        until(lambda: self.is_ready() or (self.process is not None and self.process.poll() is not None))
        assert self.process.poll() is None, self.log_file.read_text()
        return self

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def messages(self) -> list[str]:
        return [line["message"] for line in log_lines(self.log_file.read_text())]

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.send(number)
        return self.process.wait(60)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
