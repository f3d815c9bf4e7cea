#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From single measurements to docs/benchmarks: NAME.json, NAME.png and the table in README.md; and the
bars, printed as met or missed.

    report.py MEASUREMENTS MACHINE NAME

MACHINE is a JSON file with what the figures hold for (machine.py), NAME what the results are called. Exit status 1 if
a bar is missed.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from plot import plot
from workload import IDLE_SHARE

DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
BAR_SIZES = (10_000, 100_000)
MORE, LESS = True, False  # which is better

Row = dict[str, Any]  # one object of peers.json


class Figures:
    """The medians of all measurements."""

    def __init__(self, measurements: list[dict[str, Any]]) -> None:
        self._samples: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
        for measurement in measurements:
            key = measurement["case"], measurement["peers"], measurement["contender"]
            self._samples[key].append(measurement)

    @property
    def rounds(self) -> int:
        return min(map(len, self._samples.values()))

    def sizes(self) -> list[int]:
        return sorted({peers for _, peers, _ in self._samples})

    def value(self, case: str, peers: int, contender: str, what: str) -> float:
        return median(sample[what] for sample in self._samples[case, peers, contender])

    def per_peer(self, case: str, peers: int, contender: str) -> float:
        """Microseconds per peer; of a purge, per purged peer."""
        units = peers // IDLE_SHARE if case.startswith("purge") else peers
        return self.value(case, peers, contender, "seconds") / units * 1e6

    def rows(self) -> list[Row]:
        rows = []
        for case, peers, other in self._samples:
            if other == "lethe":
                continue
            lethe_us, other_us = self.per_peer(case, peers, "lethe"), self.per_peer(case, peers, other)
            rows.append(
                {
                    "case": case,
                    "peers": peers,
                    "lethe_us": round(lethe_us, 3),
                    "other": other,
                    "other_us": round(other_us, 3),
                    "ratio": round(other_us / lethe_us, 3),
                }
            )
        cases = list(dict.fromkeys(case for case, _, _ in self._samples))
        others = [
            "wg setconf",
            "wg syncconf",
            "wg show dump",
            "kernel alone",
            "kernel alone, purge",
            "lethe, JSON",
            "pyroute2",
            "shell loop",
        ]
        return sorted(rows, key=lambda row: (cases.index(row["case"]), row["peers"], others.index(row["other"])))

    def peak_memory(self, peers: int) -> int:
        """Bytes: the most of any case."""
        return max(
            sample["memory"]
            for (_, size, contender), samples in self._samples.items()
            if size == peers and contender.startswith("lethe")
            for sample in samples
        )

    def longest_lock(self, peers: int) -> float:
        """Seconds of the longest message. The median of the rounds: on a shared machine the very longest is
        the one during which another program had the processor.
        """
        return max(
            self.value(case, n, c, "lock") for case, n, c in self._samples if n == peers and c.startswith("lethe")
        )

    def start_up(self) -> float:
        """Seconds: what a process with the package needs before and after its operation."""
        return median(
            sample["process"] - sample["seconds"]
            for (case, _, contender), samples in self._samples.items()
            if contender.startswith("lethe") and not case.startswith("purge")
            for sample in samples
        )


class Bar(NamedTuple):
    name: str
    peers: int
    value: float
    limit: float
    at_least: bool
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def text(self) -> str:
        relation = "at least" if self.at_least else "at most"
        return f"{self.name}: {self.value:.2f}{self.unit} ({relation} {self.limit:g}{self.unit})"


def bars(figures: Figures) -> list[Bar]:
    found = []
    for peers in BAR_SIZES:
        if peers not in figures.sizes():
            continue

        def ratio(case: str, other: str, peers: int = peers) -> float:
            return figures.per_peer(case, peers, other) / figures.per_peer(case, peers, "lethe")

        found += [
            Bar("load, times wg setconf's speed", peers, ratio("load", "wg setconf"), 1.15, MORE),
            Bar("no-op, times wg syncconf's speed", peers, ratio("no-op", "wg syncconf"), 5, MORE),
            Bar("dump, times wg show dump's speed", peers, ratio("dump", "wg show dump"), 1, MORE),
            Bar("purge, times the kernel's cost of adding", peers, 1 / ratio("purge 10 %", "kernel alone"), 1.3, LESS),
            Bar("longest message under the kernel's lock", peers, figures.longest_lock(peers) * 1e3, 20, LESS, " ms"),
        ]
    if 100_000 in figures.sizes():
        found.append(Bar("peak memory", 100_000, figures.peak_memory(100_000) / 1e6, 200, LESS, " MB"))
    return found


def table(rows: list[Row]) -> list[str]:
    """Markdown that also reads well in a terminal."""
    cells = [("case", "peers", "lethe, µs", "other, µs", "times as fast", "other")]
    cells += [
        (
            row["case"],
            f"{row['peers']:,}",
            f"{row['lethe_us']:,.1f}",
            f"{row['other_us']:,.1f}",
            f"{row['ratio']:,.2f}",
            row["other"],
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(6)]

    def line(values: tuple[str, ...]) -> str:
        text = [v.ljust(w) if i in (0, 5) else v.rjust(w) for i, (v, w) in enumerate(zip(values, widths, strict=True))]
        return "| " + " | ".join(text) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i in (0, 5) else ":") for i, w in enumerate(widths)) + "|"
    return [line(cells[0]), rule, *map(line, cells[1:])]


def write_readme(figures: Figures, rows: list[Row], machine: dict[str, str], name: str) -> None:
    """Replace what stands between this name's two marks: the rest of the page is written by hand."""
    page = DOCS / "README.md"
    begin, end = f"<!-- figures: {name} -->\n", f"<!-- end of figures: {name} -->\n"
    head, _, rest = page.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    lines = [
        f"{machine['date']}, {machine['processor']}, {machine['processors']} processors, {machine['memory']}, "
        f"{machine['system']};",
        f"kernel {machine['kernel']} as User-Mode Linux; Debian's {machine['python']}, {machine['wg']}, "
        f"{machine['pyroute2']};",
        f"medians of {figures.rounds} rounds. Start-up of a process with the package, not in the figures: "
        f"{figures.start_up() * 1e3:.0f} ms.",
        "",
        *(f"- {'met' if bar.met else '**missed**'}, {bar.peers:,} peers: {bar.text}" for bar in bars(figures)),
        "",
        *table(rows),
        "",
    ]
    page.write_text(head + begin + "\n".join(lines) + end + tail)


def main(measurements: str, machine: str, name: str) -> int:
    figures = Figures([json.loads(line) for line in Path(measurements).read_text().splitlines()])
    rows = figures.rows()
    (DOCS / f"{name}.json").write_text("[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]\n")
    plot(rows, DOCS / f"{name}.png")
    write_readme(figures, rows, json.loads(Path(machine).read_text()), name)

    print("\n".join(table(rows)))
    print(f"\nStart-up of a process with the package (not in the figures): {figures.start_up() * 1e3:.0f} ms\n")
    checked = bars(figures)
    for bar in checked:
        print(f"{'met   ' if bar.met else 'MISSED'}  {bar.peers:>7,} peers  {bar.text}")
    print(f"\n{DOCS / f'{name}.json'}\n{DOCS / f'{name}.png'}\n{DOCS / 'README.md'}")
    return 0 if all(bar.met for bar in checked) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
