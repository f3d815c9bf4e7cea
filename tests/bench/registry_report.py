#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From measurements of the registry to docs/benchmarks: registry.json, registry.png and the table in registry.md; and
the bars, printed as met or missed.

    registry_report.py MEASUREMENTS MACHINE

MACHINE is a JSON file with what the figures hold for (machine.py). Exit status 1 if a bar is missed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from page import DOCS, LESS, Bar, Row, bar_lines, print_bars, table, write_figures, write_rows
from registry_plot import plot

CASES = ["200 per second", "a day's keys expire", "32 callers"]
STEADY = CASES[0]
KEYS_OF_THE_BAR = 1_000_000
FEW, MANY = 100_000, 10_000_000


def rows_of(measurements: list[dict[str, Any]]) -> list[Row]:
    rows = [
        {
            "case": each["case"],
            "keys": each["keys"],
            "registry": each["registry"],
            "processes": each["processes"],
            "registrations": each["registrations"],
            "per_second": round(each["per_second"], 1),
            "p50_ms": round(each["p50_ms"], 2),
            "p99_ms": round(each["p99_ms"], 2),
            "p999_ms": round(each["p99.9_ms"], 2),
            "longest_ms": round(each["p100_ms"], 2),
        }
        for each in measurements
    ]
    return sorted(
        rows, key=lambda row: (CASES.index(row["case"]), row["registry"] != "SQLite", row["processes"], row["keys"])
    )


def name(row: Row) -> str:
    if row["registry"] == "SQLite":
        return "SQLite"
    return f"{row['registry']}, {row['processes']} process{'es' if row['processes'] > 1 else ''}"


def bars(rows: list[Row]) -> list[Bar]:
    steady: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["case"] == STEADY:
            steady.setdefault(name(row), {})[row["keys"]] = row["p99_ms"]
    found = []
    for registry, p99 in steady.items():
        if registry == "SQLite" and KEYS_OF_THE_BAR in p99:
            where = f"{KEYS_OF_THE_BAR:,} keys"
            found.append(Bar("SQLite, p99 at 200 per second", where, p99[KEYS_OF_THE_BAR], 50, LESS, " ms"))
        if FEW in p99 and MANY in p99:
            what = f"{registry}, times the p99 at {FEW:,}"
            found.append(Bar(what, f"{MANY:,} keys", p99[MANY] / p99[FEW], 2, LESS))
    return found


def cells(rows: list[Row]) -> list[tuple[str, ...]]:
    return [
        ("case", "registry", "keys", "per second", "p50, ms", "p99, ms", "p99.9, ms", "longest, ms"),
        *(
            (
                row["case"],
                name(row),
                f"{row['keys']:,}",
                f"{row['per_second']:,.0f}",
                *(f"{row[what]:,.1f}" for what in ("p50_ms", "p99_ms", "p999_ms", "longest_ms")),
            )
            for row in rows
        ),
    ]


def sizes(measurements: list[dict[str, Any]]) -> str:
    """How much space the most keys take."""
    most = max(each["keys"] for each in measurements)
    on_disk = {each["registry"]: each["database_mb"] for each in measurements if each["keys"] == most}
    return f"{most:,} keys take " + ", ".join(f"{mb / 1e3:.1f} GB in {database}" for database, mb in on_disk.items())


def main(results: str, machine: str) -> int:
    measurements = [json.loads(line) for line in Path(results).read_text().splitlines()]
    facts = json.loads(Path(machine).read_text())
    rows = rows_of(measurements)
    checked = bars(rows)
    shown = table(cells(rows), left={0, 1})
    write_rows(DOCS / "registry.json", rows)
    plot(rows, DOCS / "registry.png")
    write_figures(
        DOCS / "registry.md",
        "registry",
        [
            f"{facts['date']}, {facts['processor']}, {facts['processors']} processors, {facts['memory']}, "
            f"{facts['system']};",
            f"{facts['python']}, SQLite {facts['sqlite']}, {facts['postgresql']}. {sizes(measurements)}.",
            "",
            *bar_lines(checked),
            "",
            *shown,
            "",
        ],
    )

    print("\n".join(shown))
    print(f"\n{sizes(measurements)}\n")
    print_bars(checked)
    print(f"\n{DOCS / 'registry.json'}\n{DOCS / 'registry.png'}\n{DOCS / 'registry.md'}")
    return 0 if all(bar.met for bar in checked) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
