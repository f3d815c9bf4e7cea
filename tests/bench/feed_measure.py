#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the feed on this machine: how soon a change is everywhere, what the feed's process spends on it, how long an
agent takes for a snapshot and for what it has missed, and what it costs while nothing happens.

    feed_measure.py RESULTS DIRECTORY [--quick] [--apart]

Writes one JSON object per measurement to the file RESULTS and to standard error; databases are made in DIRECTORY. A
change that does not reach every gateway ends the run. --apart: the network namespace is this program's own, so that
what the server's process takes can also be measured without the gateways' receiving.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from feed_site import (
    FEEDS_PROCESSOR,
    HERE,
    OTHER_PROCESSORS,
    Process,
    Site,
    peak_memory,
    processor_seconds,
    receiving_on,
    said,
    started_on,
    tell,
)

CHANGES_EVERY = 0.1  # seconds
ROUNDS = 3
SLOWER = 0.4  # seconds, where all the gateways' work for one change takes a processor longer than the usual time
IDLE_SECONDS = 75
EVENT = 300  # bytes of a batch with one registration, on its way

Row = dict[str, Any]


class Bench:
    """Sites to measure on, each in a directory of its own."""

    def __init__(self, directory: Path, apart: bool) -> None:
        self._directory = directory
        self._apart = apart

    @contextlib.contextmanager
    def site(self, registrations: int, tls: bool = False) -> Iterator[Site]:
        with tempfile.TemporaryDirectory(dir=self._directory) as directory:
            site = Site(Path(directory), registrations, tls)
            with contextlib.closing(site):
                yield site

    def propagation(
        self,
        gateways: int,
        mode: str,
        changes: int,
        tls: bool = False,
        every: float = CHANGES_EVERY,
        rounds: int = ROUNDS,
    ) -> Row:
        """From the API's answer until all gateways have the change, and what the feed's process spent: in rounds of so
        many changes, the median of these.
        """
        with self.site(10_000, tls) as site:
            feed = site.start_feed()
            site.start_api()
            site.register()  # everything is warm
            with site.gateways(gateways, mode) as processes:
                time.sleep(1)
                charged, apart = list[_Round](), list[_Round]()
                for _ in range(rounds):
                    charged.append(_changed(site, feed, changes, every))
                    if self._apart:
                        with receiving_on(OTHER_PROCESSORS[-1]):
                            apart.append(_changed(site, feed, changes, every))
                idle_begun, idle_before = time.monotonic(), processor_seconds(feed)
                time.sleep(10)
                idle = (processor_seconds(feed) - idle_before) / (time.monotonic() - idle_begun)
                seen = _seen(processes)
            for each in apart:
                _everywhere(seen, each, gateways)
            cuts = quantiles([took for each in charged for took in _everywhere(seen, each, gateways)], n=100)
            return {
                "case": f"propagation to {mode}" + (", TLS" if tls else ""),
                "gateways": gateways,
                "changes": rounds * changes,
                "rounds": rounds,
                "every_s": every,
                "p50_ms": round(cuts[49], 1),
                "p99_ms": round(cuts[98], 1),
                "server_us_per_delivery": _per_delivery(seen, charged),
                "server_sending_us_per_delivery": _per_delivery(seen, apart) if apart else None,
                "server_idle_percent": round(idle * 100, 2),
                "server_memory_mb": round(peak_memory(feed)),
            }

    def bare_sends(self, connections: int, rounds: int) -> Row:
        """What the kernel alone takes for a delivery, of as many bytes as a change has."""
        sending, acknowledged = None, None
        if self._apart:
            with receiving_on(OTHER_PROCESSORS[-1]):
                sending = _bare_send(connections, rounds)
            with receiving_on(FEEDS_PROCESSOR):
                acknowledged = _bare_send(connections, rounds)
        return {
            "case": "bare sends",
            "gateways": connections,
            "bytes": EVENT,
            "us_per_send": _bare_send(connections, rounds),
            "sending_us_per_send": sending,
            "acknowledged_us_per_send": acknowledged,
        }

    def snapshot(self, registrations: int) -> Row:
        """From the request to the whole document, and what an agent takes from its start until it has applied it."""
        with self.site(registrations) as site, contextlib.ExitStack() as stack:
            feed = site.start_feed()
            time.sleep(1)
            first, document, etag = site.snapshot()
            again, _, _ = site.snapshot()
            unchanged, nothing, _ = site.snapshot(etag)
            assert nothing == b""
            agent = _agent(site, stack, "follow")
            took = json.loads(said(agent))
            assert took["peers"] == registrations
            return {
                "case": "snapshot",
                "registrations": registrations,
                "bytes": len(document),
                "built_and_fetched_s": round(first, 2),
                "fetched_again_s": round(again, 2),
                "unchanged_s": round(unchanged, 4),
                "applied_s": round(took["seconds"], 2),
                "server_memory_mb": round(peak_memory(feed)),
                "agent_memory_mb": round(peak_memory(agent)),
            }

    def catch_up(self, changes: int) -> Row:
        """From the moment in which an agent connects again until it has applied all that it has missed."""
        with self.site(10_000) as site, contextlib.ExitStack() as stack:
            site.start_feed()
            site.start_api()
            agent = _agent(site, stack, "break")
            said(agent)
            tell(agent, "away")
            said(agent, "away\n")
            site.register_many(changes)
            tell(agent, f"back {site.position().revision}")
            took = json.loads(said(agent))
            assert took["peers"] == 10_000 + changes
            return {
                "case": "catch-up",
                "changes": changes,
                "batches": took["batches"],
                "applied_s": round(took["seconds"], 3),
            }

    def idle_agent(self, registrations: int, seconds: float) -> Row:
        with self.site(registrations) as site, contextlib.ExitStack() as stack:
            site.start_feed()
            agent = _agent(site, stack, "follow")
            said(agent)
            time.sleep(2)
            begun, before = time.monotonic(), processor_seconds(agent)
            time.sleep(seconds)
            spent = (processor_seconds(agent) - before) / (time.monotonic() - begun)
            return {
                "case": "idle agent",
                "registrations": registrations,
                "seconds": seconds,
                "processor_percent": round(spent * 100, 2),
                "agent_memory_mb": round(peak_memory(agent)),
            }


def _agent(site: Site, stack: contextlib.ExitStack, mode: str) -> Process:
    what = [f"{HERE}/feed_agent.py", mode, site.url, f"{site.token_file}", site.verify_key, f"{site.directory}/agent"]
    return started_on(OTHER_PROCESSORS, stack, *what)


class _Round(NamedTuple):
    """Changes that were made one after another."""

    begin: int  # the revision before them
    end: int  # the last one's
    answered: list[float]  # the moments of the API's answers
    spent: float  # seconds, of a processor, by the feed's process


def _changed(site: Site, feed: Process, changes: int, every: float) -> _Round:
    """Make so many changes."""
    base, before = site.position().revision, processor_seconds(feed)
    begun = time.monotonic()
    answered = []
    for n in range(changes):
        time.sleep(max(0.0, begun + n * every - time.monotonic()))
        answered.append(site.register())
    time.sleep(1)
    return _Round(base, site.position().revision, answered, processor_seconds(feed) - before)


def _bare_send(connections: int, rounds: int) -> float:
    """Microseconds."""
    command = [sys.executable, f"{HERE}/feed_sends.py", f"{connections}", f"{EVENT}", f"{rounds}", f"{FEEDS_PROCESSOR}"]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return round(float(json.loads(told)["us"]), 1)


def _per_delivery(seen: dict[int, list[list[float]]], rounds: list[_Round]) -> float:
    """Microseconds, the rounds' median."""
    return round(median(each.spent / _deliveries(seen, each) for each in rounds) * 1e6, 1)


def _deliveries(seen: dict[int, list[list[float]]], within: _Round) -> int:
    return sum(
        int(each[2]) for revision, told in seen.items() if within.begin < revision <= within.end for each in told
    )


def _seen(processes: list[Process]) -> dict[int, list[list[float]]]:
    """What the simulated gateways noted: by revision, of each process, when one first had it, the last, how many."""
    seen: dict[int, list[list[float]]] = {}
    for process in processes:
        told, _ = process.communicate()
        for revision, entry in json.loads(told).items():
            seen.setdefault(int(revision), []).append(entry)
    return seen


def _everywhere(seen: dict[int, list[list[float]]], changed: _Round, gateways: int) -> list[float]:
    """Milliseconds from each answer until all have the change. A batch may have several changes: it is in the first
    that leads to its revision or a later one.
    """
    took = []
    for revision, answered in enumerate(changed.answered, changed.begin + 1):
        there = min((reached for reached in seen if reached >= revision), default=None)
        if there is None or sum(each[2] for each in seen[there]) != gateways:
            raise SystemExit("feed_measure: a change did not reach all gateways")
        took.append(max(0.0, max(each[1] for each in seen[there]) - answered) * 1000)
    return took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("directory", type=lambda path: Path(path).resolve())
    parser.add_argument("--quick", action="store_true", help="as little as shows that it works")
    parser.add_argument("--apart", action="store_true", help="in a network namespace of its own")
    options = parser.parse_args()
    if not options.apart:
        print("feed_measure: the server's time is not measured without receiving: that takes root", file=sys.stderr)
    bench = Bench(options.directory, options.apart)
    measurements: list[Callable[[], Row]]
    if options.quick:
        measurements = [
            lambda: bench.propagation(100, "agents", 20, rounds=1),
            lambda: bench.snapshot(10_000),
            lambda: bench.catch_up(400),
            lambda: bench.bare_sends(100, 5),
            lambda: bench.idle_agent(10_000, 3),
        ]
    else:
        measurements = [
            lambda: bench.propagation(100, "agents", 100),
            lambda: bench.propagation(500, "agents", 40, every=SLOWER),
            lambda: bench.propagation(100, "connections", 100),
            lambda: bench.propagation(500, "connections", 100),
            lambda: bench.propagation(500, "connections", 100, tls=True),
            lambda: bench.propagation(5000, "connections", 40, every=SLOWER),
            lambda: bench.bare_sends(500, 100),
            lambda: bench.bare_sends(5000, 30),
            lambda: bench.snapshot(100_000),
            lambda: bench.snapshot(1_000_000),
            lambda: bench.catch_up(1_000),
            lambda: bench.catch_up(10_000),
            lambda: bench.idle_agent(100_000, IDLE_SECONDS),
        ]
    with options.results.open("w") as out:
        for measure in measurements:
            row = json.dumps(measure())
            print(row, file=out, flush=True)
            print(row, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
