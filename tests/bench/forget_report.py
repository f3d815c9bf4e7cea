#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From measurements of departures to docs/benchmarks: forgetting.json and the table in forgetting.md; and the bars,
printed as met or missed.

    forget_report.py MEASUREMENTS MACHINE

MACHINE is a JSON file with what the figures hold for (machine.py). Exit status 1 if a bar is missed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from latencies import percentile
from page import DOCS, LESS, MORE, Bar, Row, bar_lines, print_bars, table, write_figures, write_rows

# The role purge's README: the limit, a period, the timer's accuracy, and one run.
IDLE_AFTER, PERIOD, ACCURACY = 180, 15, 1  # seconds
# A client that sends renews its session every 120 s, and no session that may be alive is purged.
SOONEST = IDLE_AFTER - 120  # seconds after the last packet
# What the measurement adds: a look before, a look after, and the whole seconds in which `wg` tells of handshakes.
LOOKS = 2  # seconds


def rows_of(measurements: list[Row]) -> list[Row]:
    departures = [each for each in measurements if "since_packet" in each]
    (about,) = (each for each in measurements if "longest_run" in each)
    rows = []
    for case, name in (("last packet", "since_packet"), ("latest handshake", "since_handshake")):
        seconds = sorted(each[name] for each in departures)
        rows.append(
            {
                "case": f"forgotten after the {case}",
                "departures": len(seconds),
                "min_s": round(seconds[0], 1),
                "p50_s": round(percentile(seconds, "50"), 1),
                "p99_s": round(percentile(seconds, "99"), 1),
                "max_s": round(seconds[-1], 1),
                "longest_run_s": round(about["longest_run"], 2),
            }
        )
    return rows


def bars(rows: list[Row]) -> list[Bar]:
    packet = rows[0]
    where = f"{packet['departures']} clients"
    most = round(IDLE_AFTER + PERIOD + ACCURACY + packet["longest_run_s"] + LOOKS, 1)
    return [
        *(Bar(f"the longest until {row['case']}", where, row["max_s"], most, LESS, " s") for row in rows),
        Bar(f"the shortest until {packet['case']}", where, packet["min_s"], SOONEST, MORE, " s"),
    ]


def lines_of(rows: list[Row]) -> list[str]:
    cells = [("forgotten after", "clients", "shortest, s", "p50, s", "p99, s", "longest, s")]
    cells += [
        (
            row["case"].removeprefix("forgotten after "),
            str(row["departures"]),
            *(f"{row[name]:.1f}" for name in ("min_s", "p50_s", "p99_s", "max_s")),
        )
        for row in rows
    ]
    longest = rows[0]["longest_run_s"]
    return [*table(cells, {0}), "", f"The longest run of the purge that was seen took {longest:.2f} s."]


def main(measurements: str, machine: str) -> int:
    rows = rows_of([json.loads(line) for line in Path(measurements).read_text().splitlines()])
    facts = json.loads(Path(machine).read_text())
    checked, shown = bars(rows), lines_of(rows)
    write_rows(DOCS / "forgetting.json", rows)
    about = (
        f"{facts['date']}, {facts['processor']}, {facts['processors']} processors, {facts['memory']}, "
        f"{facts['system']}; the machines of the lab, under emulation."
    )
    write_figures(DOCS / "forgetting.md", "forgetting", [about, "", *bar_lines(checked), "", *shown, ""])
    print("\n".join(shown))
    print()
    print_bars(checked)
    print(f"\n{DOCS / 'forgetting.json'}\n{DOCS / 'forgetting.md'}")
    return 0 if all(bar.met for bar in checked) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
