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
from typing import Any

from page import DOCS, LESS, MORE, Bar, Row, bar_lines, print_bars, table, write_figures, write_rows
from plot import plot
from workload import IDLE_SHARE

BAR_SIZES = (10_000, 100_000)


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


def bars(figures: Figures) -> list[Bar]:
    found = []
    for peers in BAR_SIZES:
        if peers not in figures.sizes():
            continue
        where = f"{peers:,} peers"

        def ratio(case: str, other: str, peers: int = peers) -> float:
            return figures.per_peer(case, peers, other) / figures.per_peer(case, peers, "lethe")

        found += [
            Bar("load, times wg setconf's speed", where, ratio("load", "wg setconf"), 1.15, MORE),
            Bar("no-op, times wg syncconf's speed", where, ratio("no-op", "wg syncconf"), 5, MORE),
            Bar("dump, times wg show dump's speed", where, ratio("dump", "wg show dump"), 1, MORE),
            Bar("purge, times the kernel's cost of adding", where, 1 / ratio("purge 10 %", "kernel alone"), 1.3, LESS),
            Bar("longest message under the kernel's lock", where, figures.longest_lock(peers) * 1e3, 20, LESS, " ms"),
        ]
    if 100_000 in figures.sizes():
        found.append(Bar("peak memory", "100,000 peers", figures.peak_memory(100_000) / 1e6, 200, LESS, " MB"))
    return found


def cells(rows: list[Row]) -> list[tuple[str, ...]]:
    return [
        ("case", "peers", "lethe, µs", "other, µs", "times as fast", "other"),
        *(
            (
                row["case"],
                f"{row['peers']:,}",
                f"{row['lethe_us']:,.1f}",
                f"{row['other_us']:,.1f}",
                f"{row['ratio']:,.2f}",
                row["other"],
            )
            for row in rows
        ),
    ]


def main(measurements: str, machine: str, name: str) -> int:
    figures = Figures([json.loads(line) for line in Path(measurements).read_text().splitlines()])
    facts = json.loads(Path(machine).read_text())
    rows, checked = figures.rows(), bars(figures)
    shown = table(cells(rows), left={0, 5})
    start_up = f"{figures.start_up() * 1e3:.0f} ms"
    write_rows(DOCS / f"{name}.json", rows)
    plot(rows, DOCS / f"{name}.png")
    write_figures(
        DOCS / "README.md",
        name,
        [
            f"{facts['date']}, {facts['processor']}, {facts['processors']} processors, {facts['memory']}, "
            f"{facts['system']};",
            f"kernel {facts['kernel']} as User-Mode Linux; Debian's {facts['python']}, {facts['wg']}, "
            f"{facts['pyroute2']};",
            f"medians of {figures.rounds} rounds. Start-up of a process with the package, not in the figures: "
            f"{start_up}.",
            "",
            *bar_lines(checked),
            "",
            *shown,
            "",
        ],
    )

    print("\n".join(shown))
    print(f"\nStart-up of a process with the package (not in the figures): {start_up}\n")
    print_bars(checked)
    print(f"\n{DOCS / f'{name}.json'}\n{DOCS / f'{name}.png'}\n{DOCS / 'README.md'}")
    return 0 if all(bar.met for bar in checked) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
