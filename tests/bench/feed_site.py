# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry under measurement: its API and its feed as processes, over SQLite in a directory of its own, and
simulated gateways that follow it.

The feed has a processor to itself, all else shares the others.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _lethe.feed.position import Position
from _lethe.feed.signing import SigningKey
from _lethe.registry import accounts, credentials, history, migrations
from _lethe.registry.settings import Settings
from _lethe.registry.store import Environment, Store, connect, open_store
from _lethe.registry.vault import Vault

HERE = Path(__file__).resolve().parent
FEEDS_PROCESSOR, *OTHER_PROCESSORS = sorted(os.sched_getaffinity(0))
RECEIVING = Path("/sys/class/net/lo/queues/rx-0/rps_cpus")
"""Which processors the kernel lets receive what comes over the loopback (Documentation/networking/scaling.rst)."""
STARTS_WITHIN = 60.0  # seconds
CALLERS = 8  # that register many keys
RATES = dict.fromkeys(
    ("client_rate", "operator_rate", "gateway_rate", "stranger_rate", "strangers_rate"), "1000000/minute"
)

Process = subprocess.Popen[str]


class Site:
    """A registry with so many registrations. ``close`` it."""

    def __init__(self, directory: Path, registrations: int, tls: bool = False) -> None:
        self.directory = directory
        self.key = SigningKey(secrets.token_bytes(32))
        self.certificate = _certificate(directory) if tls else ""
        self.api_port, self.feed_port = free_port(), free_port()
        (directory / "secrets").write_text(base64.b64encode(bytes(32)).decode())
        (directory / "feed.key").write_text(self.key.text)
        database = f"sqlite:///{directory}/registry.sqlite3"
        listening = {"tls_certificate": self.certificate, "tls_key": f"{directory}/tls.key"} if tls else {}
        feed = {"port": self.feed_port, "signing_key": f"{directory}/feed.key", "streams": 10_000, **listening, **RATES}
        settings = {
            "database": database,
            "secrets_file": f"{directory}/secrets",
            "server": {"port": self.api_port, **RATES},
            "feed": feed,
        }
        (directory / "settings.json").write_text(json.dumps(settings))
        engine = connect(database)
        migrations.upgrade(engine)
        engine.dispose()
        fill(f"{directory}/registry.sqlite3", registrations)
        self.store: Store = open_store(Environment.of(Settings(database=database), Vault(bytes(32))))
        self.store.write(lambda tx: accounts.create(tx, "bench", 1_000_000))
        self._client = self.store.write(lambda tx: credentials.issue_for_account(tx, "bench"))
        self.token_file = directory / "gateway.token"
        self.token_file.write_text(self.store.write(lambda tx: credentials.issue(tx, credentials.GATEWAY, "bench")))
        self._processes: list[Process] = []

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://localhost:{self.feed_port}"

    @property
    def verify_key(self) -> str:
        return self.key.verify_key().text

    def position(self) -> Position:
        at = self.store.read(history.position)
        return Position(at.epoch, at.revision)

    def start_feed(self) -> Process:
        return self._start("feed", [FEEDS_PROCESSOR], self.feed_port)

    def start_api(self) -> Process:
        return self._start("serve", OTHER_PROCESSORS[:1], self.api_port)

    def _start(self, what: str, processors: list[int], port: int) -> Process:
        log = self.directory / f"{what}.log"
        command = ["-m", "_lethe.cli", "registry", what, "--settings", f"{self.directory}/settings.json"]
        with log.open("w") as out:
            process = start_on(processors, *command, stdout=out, stderr=out)
        self._processes.append(process)
        give_up = time.monotonic() + STARTS_WITHIN
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port)):
                return process
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(log.read_text())
            time.sleep(0.05)

    def register(self) -> float:
        """Register a key; returns when the answer was there (CLOCK_MONOTONIC, seconds)."""
        self._register(1)
        return time.monotonic()

    def register_many(self, number: int) -> None:
        """As several callers would, each as fast as it is answered."""
        with ThreadPoolExecutor(CALLERS) as callers:
            for made in callers.map(self._register, [number // CALLERS] * CALLERS):
                assert made == number // CALLERS

    def _register(self, number: int) -> int:
        headers = {"authorization": f"Bearer {self._client}", "content-type": "application/json"}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.api_port)) as api:
            for _ in range(number):
                body = json.dumps({"public_key": base64.b64encode(secrets.token_bytes(32)).decode()})
                api.request("POST", "/v1/registrations", body, headers)
                answer = api.getresponse()
                assert answer.status == 201, answer.status
                answer.read()
        return number

    def snapshot(self, etag: str = "") -> tuple[float, bytes, str]:
        """Seconds, document and ETag."""
        headers = {"authorization": f"Bearer {self.token_file.read_text()}", "if-none-match": etag}
        begun = time.monotonic()
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}/v1/feed/snapshot", None, headers)) as got:
                document = got.read()
                return time.monotonic() - begun, document, got.headers["etag"]
        except urllib.error.HTTPError as error:
            if error.code != 304:
                raise
            return time.monotonic() - begun, b"", etag

    @contextlib.contextmanager
    def gateways(self, number: int, mode: str) -> Iterator[list[Process]]:
        """So many simulated gateways (feed_readers.py) in a process for each processor, all connected."""
        processors = OTHER_PROCESSORS
        shares = [number // len(processors) + (n < number % len(processors)) for n in range(len(processors))]
        with contextlib.ExitStack() as stack:
            started = []
            for processor, share in zip(processors, shares, strict=True):
                position = self.position().text
                what = [f"{HERE}/feed_readers.py", self.url, f"{self.token_file}", position, f"{share}", mode]
                started.append(started_on([processor], stack, *what, self.verify_key, self.certificate))
            for process in started:
                said(process, "ready\n")
            yield started

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        self.store.close()


def start_on(processors: list[int], *command: str, **how: object) -> Process:
    """Start a Python program on those processors."""
    return subprocess.Popen(
        [sys.executable, *command],
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, processors),  # noqa: PLW1509 - nothing else runs here
        **how,  # type: ignore[call-overload]
    )


def started_on(processors: list[int], stack: contextlib.ExitStack, *command: str) -> Process:
    """The same, to be spoken with, until ``stack`` ends."""
    process = start_on(processors, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def said(process: Process, expected: str = "") -> str:
    """The next line that it says."""
    assert process.stdout
    line = process.stdout.readline()
    if not line or (expected and line != expected):
        raise SystemExit(f"feed_measure: {process.args} failed")
    return line


def tell(process: Process, line: str) -> None:
    assert process.stdin
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def fill(path: str, number: int) -> None:
    """So many registrations, of one account, straight into the database."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO accounts (account, state) VALUES (?, 'active')", (bytes(32),))
        taken = sorted(secrets.token_bytes(32) for _ in range(number))
        places = random.sample(range(10 << 24, 11 << 24), number)  # in no order, as the registry gives them
        database.executemany(
            "INSERT INTO registrations (public_key, account, ipv4, ipv6) VALUES (?, ?, ?, ?)",
            ((key, bytes(32), place, b"\xfd" + key[:15]) for key, place in zip(taken, places, strict=True)),
        )
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextlib.contextmanager
def receiving_on(processor: int) -> Iterator[None]:
    """What is sent over the loopback is received by that processor, as if it had come over a network. Otherwise the one
    that sends receives it too, and the kernel charges that to the process that sends.

    For a network namespace of one's own (scripts/bench): in that of the machine it would be for everybody.
    """
    RECEIVING.write_text(f"{1 << processor:x}")
    try:
        yield
    finally:
        RECEIVING.write_text("0")


def processor_seconds(process: Process) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(process: Process) -> float:
    """Megabytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _certificate(directory: Path) -> str:
    certificate = f"{directory}/tls.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=bench", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
            *("-out", certificate, "-keyout", f"{directory}/tls.key"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate
