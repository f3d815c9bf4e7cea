#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the feed: how soon a change is everywhere, what the server spends on it, and snapshots.

    feed.py [--quick]

The server is a real process on one processor of its own, over SQLite on this machine's disk; changes come through the
real API, another process. Gateways are simulated (feed_readers.py). Prints each figure and whether its bar is met, and
writes docs/benchmarks/feed.json. Exit status 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

from _lethe.feed import snapshot
from _lethe.feed.signing import SigningKey, VerifyKeys
from _lethe.registry import accounts, credentials, history, migrations
from _lethe.registry.settings import Settings
from _lethe.registry.store import Environment, Store, connect, open_store
from _lethe.registry.vault import Vault
from _lethe.wireguard.packed import PackedPeers

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "docs" / "benchmarks" / "feed.json"
SERVERS_PROCESSOR, *OTHER_PROCESSORS = sorted(os.sched_getaffinity(0))
CHANGES_EVERY = 0.1  # seconds
RATES = {
    "client_rate": "1000000/minute", "operator_rate": "1000000/minute", "gateway_rate": "1000000/minute",
    "stranger_rate": "1000000/minute", "strangers_rate": "1000000/minute",
}  # fmt: skip
MS_BARS = {100: 80, 500: 150, 5000: 1000}
PLAIN_BAR, TLS_BAR = 15, 35  # microseconds of the server's processor for a delivery
MANY = 500
"""Gateways among which the fixed cost of a change, its reading and signing, does not tell any more."""

Row = dict[str, Any]


class Fleet:
    """A registry in a directory of its own: its API and its feed as processes."""

    def __init__(self, directory: Path, registrations: int, tls: bool = False) -> None:
        self.directory = directory
        database = f"sqlite:///{directory}/registry.sqlite3"
        (directory / "secrets").write_text(base64.b64encode(bytes(32)).decode())
        self.key = SigningKey(secrets.token_bytes(32))
        (directory / "feed.key").write_text(self.key.text)
        self.certificate = self._certificate() if tls else ""
        self.api_port, self.feed_port = free_port(), free_port()
        listening = {"tls_certificate": self.certificate, "tls_key": f"{directory}/tls.key"} if tls else {}
        self.settings = directory / "settings.json"
        self.settings.write_text(
            json.dumps(
                {
                    "database": database,
                    "secrets_file": f"{directory}/secrets",
                    "device_limit": 1000,
                    "server": {"port": self.api_port, **RATES},
                    "feed": {
                        "port": self.feed_port,
                        "signing_key": f"{directory}/feed.key",
                        "streams": 10_000,
                        **listening,
                        **RATES,
                    },
                }
            )
        )
        engine = connect(database)
        migrations.upgrade(engine)
        engine.dispose()
        fill(f"{directory}/registry.sqlite3", registrations)
        settings = Settings(database=database)
        self.store: Store = open_store(Environment.of(settings, Vault(bytes(32))))
        self.store.write(lambda tx: accounts.create(tx, "bench", 1000))
        self.client = self.store.write(lambda tx: credentials.issue_for_account(tx, "bench"))
        gateway = self.store.write(lambda tx: credentials.issue(tx, "gateway", "bench"))
        self.token_file = directory / "gateway.token"
        self.token_file.write_text(gateway)
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://localhost:{self.feed_port}"

    def position(self) -> str:
        at = self.store.read(history.position)
        return f"{at.epoch}.{at.revision}"

    def start(self, what: str, processors: list[int], port: int) -> subprocess.Popen[bytes]:
        with (self.directory / f"{what}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "_lethe.cli", "registry", what, "--settings", self.settings],
                stdout=log,
                stderr=log,
                preexec_fn=lambda: os.sched_setaffinity(0, processors),  # noqa: PLW1509 - nothing else runs here
            )
        self._processes.append(process)
        give_up = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port)):
                return process
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit((self.directory / f"{what}.log").read_text())
            time.sleep(0.05)

    def start_feed(self) -> subprocess.Popen[bytes]:
        return self.start("feed", [SERVERS_PROCESSOR], self.feed_port)

    def start_api(self) -> subprocess.Popen[bytes]:
        return self.start("serve", OTHER_PROCESSORS[:1], self.api_port)

    def register(self) -> float:
        """Register a key; returns when the answer was there (CLOCK_MONOTONIC, seconds)."""
        body = json.dumps({"public_key": base64.b64encode(secrets.token_bytes(32)).decode()}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_port}/v1/registrations",
            body,
            {"authorization": f"Bearer {self.client}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            answer.read()
        return time.monotonic()

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

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        self.store.close()

    def _certificate(self) -> str:
        certificate = f"{self.directory}/tls.crt"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-subj", "/CN=bench", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
                *("-out", certificate, "-keyout", f"{self.directory}/tls.key"),
            ],
            check=True,
            capture_output=True,
        )
        return certificate


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def fill(path: str, number: int) -> None:
    """So many registrations, of one account, straight into the database."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO accounts (account, state) VALUES (?, 'active')", (bytes(32),))
        taken = sorted(secrets.token_bytes(32) for _ in range(number))
        database.executemany(
            "INSERT INTO registrations (public_key, account, ipv4, ipv6) VALUES (?, ?, ?, ?)",
            ((key, bytes(32), (10 << 24) + n, b"\xfd" + key[:15]) for n, key in enumerate(taken)),
        )
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def processor_seconds(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(process: subprocess.Popen[bytes]) -> float:
    """Megabytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextlib.contextmanager
def readers(fleet: Fleet, number: int, mode: str) -> Iterator[list[subprocess.Popen[str]]]:
    """So many gateways in processes on the other processors, all connected."""
    processors = OTHER_PROCESSORS or [SERVERS_PROCESSOR]
    shares = [number // len(processors) + (n < number % len(processors)) for n in range(len(processors))]
    started = [
        subprocess.Popen(
            [
                *(sys.executable, HERE / "feed_readers.py", fleet.url, fleet.token_file, fleet.position()),
                *(str(share), mode, fleet.key.verify_key().text, fleet.certificate),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda n=n: os.sched_setaffinity(0, [processors[n]]),  # noqa: PLW1509
        )
        for n, share in enumerate(shares)
        if share
    ]
    try:
        for process in started:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit("feed: a process of simulated gateways failed")
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def propagation(directory: Path, number: int, mode: str, changes: int, tls: bool = False) -> Row:
    """From the API's answer until all gateways have the change, and what the feed's process spent."""
    fleet = Fleet(directory, 10_000, tls)
    try:
        feed = fleet.start_feed()
        fleet.start_api()
        fleet.register()  # everything is warm
        with readers(fleet, number, mode) as processes:
            time.sleep(1)
            base = int(fleet.position().rpartition(".")[2])
            before = processor_seconds(feed)
            begun = time.monotonic()
            answered = []
            for n in range(changes):
                time.sleep(max(0.0, begun + n * CHANGES_EVERY - time.monotonic()))
                answered.append(fleet.register())
            time.sleep(3)
            spent = processor_seconds(feed) - before
            idle_begun, idle_before = time.monotonic(), processor_seconds(feed)
            time.sleep(5)
            idle = (processor_seconds(feed) - idle_before) / (time.monotonic() - idle_begun)
            seen: dict[int, list[list[float]]] = {}
            for process in processes:
                told, _ = process.communicate()
                for revision, entry in json.loads(told).items():
                    seen.setdefault(int(revision), []).append(entry)
        everywhere = []
        deliveries = 0
        for n, moment in enumerate(answered):
            # A batch may have several changes: its revision is the first that is not before this one.
            there = min((revision for revision in seen if revision > base + n), default=None)
            assert there is not None, "a change did not arrive"
            entries = seen[there]
            assert sum(entry[2] for entry in entries) == number, "a gateway lacks a change"
            everywhere.append(max(0.0, max(entry[1] for entry in entries) - moment) * 1000)
        deliveries = sum(int(entry[2]) for revision, entries in seen.items() if revision > base for entry in entries)
        cuts = quantiles(everywhere, n=100)
        return {
            "case": f"propagation to {mode}" + (", TLS" if tls else ""),
            "gateways": number,
            "changes": changes,
            "p50_ms": round(cuts[49], 1),
            "p99_ms": round(cuts[98], 1),
            "server_us_per_delivery": round(spent / deliveries * 1e6, 1),
            "server_idle_percent": round(idle * 100, 2),
            "server_memory_mb": round(peak_memory(feed)),
        }
    finally:
        fleet.close()


def snapshots(directory: Path, number: int) -> Row:
    """From the request to the whole document, and from that to peers that can be compared with a kernel's."""
    fleet = Fleet(directory, number)
    try:
        feed = fleet.start_feed()
        time.sleep(1)
        first, document, etag = fleet.snapshot()
        again, _, _ = fleet.snapshot()
        unchanged, nothing, _ = fleet.snapshot(etag)
        assert nothing == b""
        begun = time.monotonic()
        read = snapshot.decode(document, VerifyKeys([fleet.key.verify_key()]))
        peers = sum(len(PackedPeers(block)) for block in read.blocks)
        decoded = time.monotonic() - begun
        assert peers == number
        return {
            "case": "snapshot",
            "registrations": number,
            "bytes": len(document),
            "built_and_fetched_s": round(first, 2),
            "fetched_again_s": round(again, 2),
            "unchanged_s": round(unchanged, 4),
            "verified_and_read_s": round(decoded, 2),
            "server_memory_mb": round(peak_memory(feed)),
        }
    finally:
        fleet.close()


def bars(rows: list[Row]) -> list[tuple[str, float, float]]:
    """What, how much, and how much at most."""
    found = []
    for row in rows:
        if row["case"] == "snapshot":
            continue
        what, tls = f"{row['case']}, {row['gateways']:,} gateways", "TLS" in row["case"]
        found.append((f"{what}: p99 in ms", row["p99_ms"], MS_BARS[row["gateways"]]))
        found.append(
            (f"{what}: server's µs per delivery", row["server_us_per_delivery"], TLS_BAR if tls else PLAIN_BAR)
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer changes, and no large snapshot")
    options = parser.parse_args()
    changes = 50 if options.quick else 300
    rows: list[Row] = []

    def measured(measure: Any, *arguments: Any) -> None:
        directory = Path(tempfile.mkdtemp(prefix="lethe-bench-feed-"))
        try:
            rows.append(measure(directory, *arguments))
        finally:
            shutil.rmtree(directory)
        print(json.dumps(rows[-1]), flush=True)

    measured(propagation, 100, "agents", changes)
    measured(propagation, 500, "agents", changes)
    measured(propagation, 500, "connections", changes)
    measured(propagation, 500, "connections", changes, True)
    measured(propagation, 5000, "connections", changes // 2)
    measured(snapshots, 100_000)
    if not options.quick:
        measured(snapshots, 1_000_000)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    missed = 0
    for what, value, most in bars(rows):
        missed += value > most
        print(f"{'met   ' if value <= most else 'MISSED'} {what}: {value:g} (at most {most:g})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
