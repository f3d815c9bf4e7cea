# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server as a process, as systemd runs it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from made_up import key
from registry.fixtures import NewDatabase
from registry.site import assert_silent
from registry.support import MASTER, Registry, until
from starlette.types import Receive, Scope, Send

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.server import HttpServer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import ServerSettings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.tls import Tls

PACKAGE = Path(__file__).parents[4] / "plugins/module_utils"
_STARTS_WITHIN = 60  # seconds


class Process:
    """``lethe registry serve``."""

    def __init__(self, directory: Path, database: str, server: dict[str, Any], *options: str) -> None:
        self.directory = directory
        self.log_file = directory / "log"
        secrets = directory / "secrets"
        if not secrets.exists():
            secrets.write_text(base64.b64encode(MASTER).decode())
        self.settings = directory / "settings.json"
        values = {"database": database, "secrets_file": str(secrets), "device_limit": 1000, "server": server}
        self.settings.write_text(json.dumps(values))
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.messages: list[str] = []

    def start(self, **environment: str) -> None:
        command = [sys.executable, "-m", "_lethe.cli", "registry", "serve", "--settings", self.settings, *self._options]
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(PACKAGE), **environment}
            )

    def started(self) -> Process:
        """Start, and wait until it serves."""
        self.start()
        until(lambda: bool(self.ports()) or self.process is None or self.process.poll() is not None)
        assert self.ports(), self.log_file.read_text()
        return self

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def ports(self) -> list[int]:
        """Where it listens: the API, then the metrics if apart."""
        said = [line["message"] for line in self.lines() if line["message"].startswith("serving ")]
        return [int(message.rpartition(" ")[2]) for message in said]

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def database() -> str:
    return "sqlite"


@pytest.fixture
def process(tmp_path: Path, new_database: NewDatabase) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(*options: str, **server: Any) -> Process:
        made.append(Process(tmp_path, new_database(), {"port": 0, **server}, *options))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """For localhost: the certificate and its key."""
    return make_certificate(tmp_path, "first")


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    certificate, private = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
            *("-out", certificate, "-keyout", private),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, private


def common_name(port: int, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def test_a_stop_does_not_wait_for_clients_that_keep_their_connection(
    process: Callable[..., Process], certificate: tuple[Path, Path]
) -> None:
    """As an HTTP client does that may want it once more: it does not answer the end of TLS."""
    chain, private = certificate
    server = process(tls_certificate=str(chain), tls_key=str(private)).started()
    (port,) = server.ports()
    with httpx.Client(verify=ssl.create_default_context(cafile=str(chain))) as kept:
        assert kept.get(f"https://localhost:{port}/healthz").status_code == 200
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0  # TLS would wait for 30 s


@pytest.mark.parametrize("stops", [False, True])
def test_a_slow_client_gets_all_of_an_answer_over_tls(certificate: tuple[Path, Path], stops: bool) -> None:
    """Also what waits in the process when the answer ends, and the connection with it."""
    chain, private = certificate
    settings = ServerSettings(tls_certificate=str(chain), tls_key=str(private))
    body = bytes(400_000)
    answered = threading.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"400000")]})
        await send({"type": "http.response.body", "body": body})
        answered.set()

    def serve() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(server.serve())

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as plain:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # its connections inherit it
        loop = uvloop.new_event_loop()
        server = HttpServer(app, listening, settings, Tls(settings))
        serving = threading.Thread(target=serve)
        serving.start()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        plain.connect(listening.getsockname())
        trusting = ssl.create_default_context(cafile=str(chain))
        try:
            with trusting.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: %b\r\n\r\n" % (b"" if stops else b"close"))
                assert answered.wait(60)
                if stops:
                    loop.call_soon_threadsafe(server.stop)
                time.sleep(3)  # longer than the other end is waited for in a stop
                told = b"".join(iter(lambda: client.recv(65_536), b""))
        finally:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(server.stop)
            serving.join()
    assert told.endswith(b"\r\n\r\n" + body)


def test_it_serves_tls_and_nothing_older_than_1_2(
    process: Callable[..., Process], certificate: tuple[Path, Path]
) -> None:
    chain, private = certificate
    (port,) = process(tls_certificate=str(chain), tls_key=str(private)).started().ports()
    trusting = ssl.create_default_context(cafile=str(chain))
    assert httpx.get(f"https://localhost:{port}/readyz", verify=trusting).status_code == 200

    for version, served in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
        exact = ssl.create_default_context(cafile=str(chain))
        exact.minimum_version = exact.maximum_version = version
        assert bool(common_name(port, exact)) == served
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        common_name(port, old)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://localhost:{port}/readyz")


def test_a_new_certificate_is_used_without_a_restart(
    process: Callable[..., Process], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    chain, private = certificate
    server = process(tls_certificate=str(chain), tls_key=str(private)).started()
    (port,) = server.ports()
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    first = common_name(port, anything)

    private.write_text("no key")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    until(lambda: any("was not replaced" in line["message"] for line in server.lines()))
    assert common_name(port, anything) == first

    new_chain, new_private = make_certificate(tmp_path, "second")
    os.replace(new_chain, chain)
    os.replace(new_private, private)
    server.process.send_signal(signal.SIGHUP)
    until(lambda: any("was read again" in line["message"] for line in server.lines()))
    assert common_name(port, anything) != first


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"host": "0.0.0.0"}, "server.tls_certificate: is missing, and the registry would listen beyond this host"),
        ({"host": "::"}, "server.tls_certificate: is missing"),
        ({"host": "192.0.2.1", "trusted_proxies": ["192.0.2.2"]}, "server.port: cannot be listened on"),
        ({"tls_certificate": "/x"}, "server.tls_key: is missing, and tls_certificate is there"),
        ({"tls_certificate": "/x", "tls_key": "/y"}, "server.tls_certificate: or its tls_key cannot be used"),
        ({"port": 70000}, "server.port: is not a port"),
        ({"client_rate": "fast"}, "server.client_rate: is not a rate"),
        ({"trusted_proxies": ["my-proxy"]}, "server.trusted_proxies[0]: is not an address or a network"),
        ({"colour": "red"}, "server.colour: is not a setting"),
    ],
)
def test_what_cannot_be_served_is_said(process: Callable[..., Process], server: dict[str, Any], said: str) -> None:
    refused = process(**server)
    refused.start()
    assert refused.process is not None
    assert refused.process.wait(_STARTS_WITHIN) == 1
    told = refused.log_file.read_text()
    assert told.startswith("lethe: ")
    assert said in told
    assert len(told.splitlines()) == 1


def test_a_port_that_is_taken_is_said(process: Callable[..., Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = process(port=taken.getsockname()[1])
        refused.start()
        assert refused.process is not None
        assert refused.process.wait(_STARTS_WITHIN) == 1
    assert "server.port: cannot be listened on: Address already in use; see who does" in refused.log_file.read_text()


def test_metrics_can_have_an_address_of_their_own(process: Callable[..., Process]) -> None:
    api, metrics = process("--metrics-port", "0").started().ports()
    assert httpx.get(f"http://127.0.0.1:{api}/metrics").status_code == 404
    assert "lethe_registry_database_up 1.0" in httpx.get(f"http://127.0.0.1:{metrics}/metrics").text
    assert httpx.get(f"http://127.0.0.1:{metrics}/healthz").status_code == 200
    assert httpx.get(f"http://127.0.0.1:{metrics}/v1/status").status_code == 404


def test_it_tells_systemd_when_it_serves_and_when_it_stops(process: Callable[..., Process], tmp_path: Path) -> None:
    server = process()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(_STARTS_WITHIN)
        server.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
        assert httpx.get(f"http://127.0.0.1:{server.ports()[0]}/readyz").status_code == 200
        assert server.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_a_stop_under_load_loses_no_answer_and_no_answered_write(process: Callable[..., Process]) -> None:
    server = process(client_rate="100000/minute").started()
    (port,) = server.ports()
    database = json.loads(server.settings.read_text())["database"]
    registry = Registry.open(database)
    registry.create("alice")
    token = registry.token("alice")
    registry.close()

    answered: list[str] = []
    failed: list[Exception] = []

    def register(worker: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {token}"}) as client:
            for n in range(worker * 1000, worker * 1000 + 1000):
                try:
                    answer = client.post("/v1/registrations", json={"public_key": key(n)})
                except httpx.HTTPError as error:
                    failed.append(error)
                    return
                assert answer.status_code == 201, answer.text
                answered.append(key(n))

    workers = [threading.Thread(target=register, args=(n,)) for n in range(8)]
    for worker in workers:
        worker.start()
    until(lambda: len(answered) > 100)
    assert server.stop() == 0
    for worker in workers:
        worker.join()

    # A request that was in hand was answered; one that came later was not taken.
    assert {type(error) for error in failed} <= {httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError}
    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
        kept = connection.execute("SELECT count(*) FROM registrations").fetchone()[0]
    assert len(answered) <= kept <= len(answered) + len(workers)
    registry = Registry.open(database)
    have = {public_key.text for public_key in registry.of("alice")}
    registry.close()
    assert set(answered) <= have
    told = server.log_file.read_text()
    assert [line["message"] for line in server.lines() if "route" not in line][-2:] == [
        "stopping: no new connections, requests in hand are finished",
        "stopped",
    ]
    assert not [line for line in server.lines() if line["level"] in {"error", "critical"}]
    assert_silent(told, {token, "alice", *answered})


def test_a_request_in_hand_is_finished(process: Callable[..., Process]) -> None:
    server = process().started()
    database = json.loads(server.settings.read_text())["database"]
    registry = Registry.open(database)
    registry.create("alice")
    token = registry.token("alice")
    registry.close()
    answers: list[httpx.Response] = []
    client = httpx.Client(base_url=f"http://127.0.0.1:{server.ports()[0]}", timeout=60)
    assert client.get("/healthz").is_success  # from here the connection is one that the server has taken

    def register() -> None:
        headers = {"authorization": f"Bearer {token}"}
        answers.append(client.post("/v1/registrations", json={"public_key": key(1)}, headers=headers))

    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"), isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")  # the write has to wait
        waiting = threading.Thread(target=register)
        waiting.start()
        time.sleep(2)  # nothing tells from outside that the request has been read
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert not answers
        holder.execute("COMMIT")
    waiting.join()
    client.close()
    assert server.process.wait(60) == 0
    assert [answer.status_code for answer in answers] == [201]
