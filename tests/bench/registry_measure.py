#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how fast keys are registered at the registry, over SQLite and PostgreSQL, with few keys in it and with many.

    registry_measure.py RESULTS DIRECTORY [KEYS...] [--seconds N] [--databases sqlite|postgresql ...]

Starts `lethe registry serve` as in production, over databases filled in DIRECTORY, and processes that register over
HTTP. Writes one JSON object per measurement to the file RESULTS, and progress to standard error. A registration that
is not answered with 201 and addresses ends the run, and so do figures of the registry that have not grown by what
was answered. Everything else goes on meanwhile as it does in production: housekeeping, and Prometheus.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, TextIO

from latencies import percentile
from registry.postgresql_server import PostgresqlServer
from registry_fill import DAY, Environment, Population, accounts_of, connect, fill
from sqlalchemy import text

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.vault import Vault

HERE = Path(__file__).resolve().parent
LETHE = [sys.executable, "-m", "_lethe.cli", "registry"]
PACKAGES = HERE.parents[1] / "plugins" / "module_utils"

# Where nothing else is said. Ten million keys are for the database that has to show that it can hold them.
SIZES = {"sqlite": [100_000, 1_000_000, 10_000_000], "postgresql": [100_000, 1_000_000]}
EXPIRY_FROM = 1_000_000  # keys: with fewer, a day's share is removed before anything can be measured
SECONDS = 30  # of the open loop
CLOSED_SECONDS = 10
EXPIRY_SECONDS = 30
WARM_UP_SECONDS = 3
RATE = 200  # registrations per second
CALLERS = 32
GENERATORS = 2  # processes; they share the load
CONNECTIONS = 64  # of both; in the open loop, where at 200 per second few are busy
SCRAPE_EVERY = 15.0  # seconds
STARTS_WITHIN = 60.0
STOPS_WITHIN = 60.0
REMOVAL_BEGINS_WITHIN = 60.0

POSTGRESQL = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
"""What is set on a machine of some size; all else is as Debian's package has it."""


_PIECE = 1 << 24  # bytes


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


# --- databases ----------------------------------------------------------------------------------------


class Database(NamedTuple):
    name: str
    settings: Path  # the registry's, in a file
    processes: tuple[int, ...]  # how many serve it, one case after the other
    keys: int
    size: int  # bytes
    files: list[Path]

    def settle(self) -> None:
        """As if it had been in use for days: nothing of the filling is left to be written, and what the memory holds of
        the files is in it.
        """
        os.sync()
        for path in self.files:
            with path.open("rb", buffering=0) as file:
                while file.read(_PIECE):
                    pass


def write_settings(directory: Path, url: str = "") -> Path:
    secrets, path = directory / "secrets", directory / "settings.json"
    Vault.create_file(secrets)
    # Each account registers some keys more than it has.
    values = {"secrets_file": str(secrets), "device_limit": 1000, "server": {"port": 0}}
    path.write_text(json.dumps(values | ({"database": url} if url else {})))
    return path


def population_of(directory: Path, keys: int) -> Population:
    settings = Settings.from_file(write_settings(directory))
    return Population(Environment.of(settings, Vault.from_file(settings.secrets_file)), keys)


@contextmanager
def sqlite(directory: Path, population: Population) -> Iterator[Database]:
    file = directory / "registry.sqlite3"
    url = f"sqlite:///{file}"
    try:
        fill(url, population)
        yield Database("SQLite", write_settings(directory, url), (1,), population.keys, file.stat().st_size, [file])
    finally:
        for each in directory.glob(f"{file.name}*"):
            each.unlink()


@contextmanager
def postgresql(directory: Path, population: Population) -> Iterator[Database]:
    server = PostgresqlServer()
    try:
        for name, value in POSTGRESQL.items():
            server.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        server.stop()
        server.start()
        name = server.new_database()
        fill(server.url(name), population)
        ((size,),) = server.execute(f"SELECT pg_database_size('{name}')")
        assert isinstance(size, int)
        settings = write_settings(directory, server.url(name))
        files = [each for each in (server.data / "base").rglob("*") if each.is_file()]
        yield Database("PostgreSQL", settings, (1, 2, 4), population.keys, size, files)
    finally:
        server.remove()


# --- the registry -------------------------------------------------------------------------------------


class Process:
    """`lethe registry serve`."""

    def __init__(self, database: Database, log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            command = [*LETHE, "serve", "--settings", database.settings]
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment())
        give_up = time.monotonic() + STARTS_WITHIN
        while not (found := re.search(r"serving http on port (\d+)", log.read_text())):
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise SystemExit(f"registry_measure: the registry does not start:\n{log.read_text()}")
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{found[1]}"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def scrape(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as response:
            return str(response.read(), "utf-8")

    def revision(self) -> int:
        found = re.search(r"^lethe_registry_revision (\S+)$", self.scrape(), re.MULTILINE)
        assert found
        return int(float(found[1]))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PACKAGES)}


class Figures(NamedTuple):
    registrations: int
    revision: int  # that changes have, or wait for
    accounts: int
    resting: int

    @classmethod
    def of(cls, database: Database) -> Figures:
        command = [*LETHE, "status", "--json", "--settings", database.settings]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment()).stdout
        status = json.loads(output)
        revision = status["revision"] + status["waiting_changes"]
        return cls(status["registrations"], revision, status["accounts"]["active"], status["resting"])


@contextmanager
def served(database: Database, processes: int, logs: Path) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        running = []
        for number in range(processes):
            running.append(Process(database, logs / f"registry{number}.log"))
            stack.callback(running[-1].stop)
        yield running


@contextmanager
def scraped(processes: list[Process]) -> Iterator[None]:
    """As Prometheus would."""
    over = threading.Event()

    def scrape() -> None:
        while True:
            for process in processes:
                process.scrape()
            if over.wait(SCRAPE_EVERY):
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# --- the load -----------------------------------------------------------------------------------------


class Load:
    """Registers keys of one account after the other, so that none asks more often than it may."""

    def __init__(self, database: Database) -> None:
        self._accounts = accounts_of(database.keys)
        self._next = 0
        self.made = 0  # registrations

    def run(self, processes: list[Process], seconds: float, rate: int | None, connections: int) -> list[float]:
        """The latencies, in seconds and in order."""
        running = []
        for number in range(GENERATORS):
            order = {
                "urls": [process.url for process in processes],
                "accounts": self._accounts,
                "first": self._next + number,
                "step": GENERATORS,
                "connections": connections // GENERATORS,
                "seconds": seconds,
                "rate": rate,
                "number": number,
                "of": GENERATORS,
            }
            command = [sys.executable, HERE / "registry_load.py"]
            generator = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert generator.stdin
            generator.stdin.write(f"{json.dumps(order)}\n")
            generator.stdin.flush()
            running.append(generator)
        for generator in running:
            assert generator.stdout
            generator.stdout.readline()  # it is ready
        begin = time.monotonic() + 0.1
        for generator in running:
            assert generator.stdin
            generator.stdin.write(f"{begin}\n")
            generator.stdin.close()
        latencies: list[float] = []
        longest = 0
        for generator in running:
            assert generator.stdout
            told = generator.stdout.read()
            if generator.wait():
                raise SystemExit("registry_measure: a load generator failed")
            outcome = json.loads(told)
            if outcome["faults"]:
                raise SystemExit(f"registry_measure: not every registration was made: {outcome['faults']}")
            latencies += outcome["latencies"]
            longest = max(longest, len(outcome["latencies"]))
        self._next += longest * GENERATORS
        self.made += len(latencies)
        return sorted(latencies)


def check(before: Figures, after: Figures, made: int, *, expired: bool) -> None:
    """A registry that was quick because it did nothing must not win. Every removal is a change too."""
    removed = after.revision - before.revision - made
    if after.registrations - before.registrations != made - removed or bool(removed) != expired:
        raise SystemExit(
            f"registry_measure: {made} keys were registered, but the registry went from {before} to {after}"
        )


def let_expire(database: Database) -> None:
    """As after a day without a registry: the keys that would expire tomorrow were due yesterday."""
    today = int(time.time()) // DAY
    engine = connect(Settings.from_file(database.settings).database)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(
            text("UPDATE registrations SET expires_day = :today - 1 WHERE expires_day = :today + 1"), {"today": today}
        )
    engine.dispose()


def until_removal_begins(process: Process) -> None:
    revision = process.revision()
    give_up = time.monotonic() + REMOVAL_BEGINS_WITHIN
    while process.revision() == revision:
        if time.monotonic() > give_up:
            raise SystemExit("registry_measure: nothing is removed, though keys have expired")
        time.sleep(0.2)


# --- the run ------------------------------------------------------------------------------------------


class Bench:
    """One database and what is measured on it."""

    def __init__(self, database: Database, directory: Path, out: TextIO) -> None:
        self.database = database
        self._directory = directory
        self._out = out
        self._load = Load(database)

    def measure(self, processes: int, seconds: float) -> None:
        with (
            self._checked(expired=False),
            served(self.database, processes, self._directory) as running,
            scraped(running),
        ):
            self._load.run(running, WARM_UP_SECONDS, RATE, CONNECTIONS)
            self._note("200 per second", processes, seconds, self._load.run(running, seconds, RATE, CONNECTIONS))
            latencies = self._load.run(running, CLOSED_SECONDS, None, CALLERS)
            self._note("32 callers", processes, CLOSED_SECONDS, latencies)

    def measure_expiry(self) -> None:
        let_expire(self.database)
        with self._checked(expired=True), served(self.database, 1, self._directory) as running, scraped(running):
            until_removal_begins(running[0])
            latencies = self._load.run(running, EXPIRY_SECONDS, RATE, CONNECTIONS)
            self._note("a day's keys expire", 1, EXPIRY_SECONDS, latencies)

    @contextmanager
    def _checked(self, *, expired: bool) -> Iterator[None]:
        before, made = Figures.of(self.database), self._load.made
        yield
        check(before, Figures.of(self.database), self._load.made - made, expired=expired)

    def _note(self, case: str, processes: int, seconds: float, latencies: list[float]) -> None:
        database = self.database
        measurement = {
            "case": case,
            "keys": database.keys,
            "registry": database.name,
            "processes": processes,
            "registrations": len(latencies),
            "per_second": len(latencies) / seconds,
            **{f"p{percent}_ms": percentile(latencies, percent) * 1e3 for percent in ("50", "99", "99.9", "100")},
            "database_mb": database.size / 1e6,
        }
        print(json.dumps(measurement), file=self._out, flush=True)
        say(
            f"{database.keys:>10,} keys  {database.name:<10}  {processes} process{'es' if processes > 1 else '  '}"
            f"  {case:<19}  {measurement['per_second']:>7,.0f} a second"
            + "".join(f"  p{p} {measurement[f'p{p}_ms']:>6.1f} ms" for p in ("50", "99", "99.9", "100"))
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("directory", type=lambda path: Path(path).resolve())
    parser.add_argument("keys", type=int, nargs="*", help="how many keys are there before (default: see SIZES)")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--databases", nargs="+", default=list(SIZES), choices=list(SIZES))
    options = parser.parse_args()
    populations = cache(partial(population_of, options.directory))
    databases = {"sqlite": sqlite, "postgresql": postgresql}
    with options.results.open("w") as out:
        for name, keys in [(each, keys) for each in options.databases for keys in options.keys or SIZES[each]]:
            population = populations(keys)
            begun = time.monotonic()
            with databases[name](options.directory, population) as database:
                database.settle()
                took = time.monotonic() - begun
                say(f"{keys:>10,} keys  {database.name:<10}  filled in {took:.0f} s, {database.size / 1e6:,.0f} MB")
                bench = Bench(database, options.directory, out)
                for processes in database.processes:
                    bench.measure(processes, options.seconds)
                if keys >= EXPIRY_FROM:
                    bench.measure_expiry()


if __name__ == "__main__":
    main()
