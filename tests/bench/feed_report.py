#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From measurements of the feed to docs/benchmarks: feed.json and the tables in feed.md; and the bars, printed as met
or missed.

    feed_report.py MEASUREMENTS MACHINE feed|feed-lab

MACHINE is a JSON file with what the figures hold for (machine.py). What the other of the two has measured stays. Exit
status 1 if a bar is missed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from page import DOCS, LESS, Bar, Row, bar_lines, print_bars, table, write_figures, write_rows

RESULTS = DOCS / "feed.json"
P99_MS = {100: 80, 500: 150, 5000: 1000}  # by gateways
DELIVERY_US, TLS_DELIVERY_US = 15, 35
APPLIED_S = {1_000_000: 10}  # by registrations
IDLE_PERCENT = 1
POLL_EVERY = 60.0  # seconds


def bars(rows: list[Row]) -> list[Bar]:
    found = []
    for row in rows:
        case = row["case"]
        if case.startswith("propagation to") and "server_us_per_delivery" in row:
            where = f"{row['gateways']:,} {case.removeprefix('propagation to ')}"
            most = TLS_DELIVERY_US if case.endswith("TLS") else DELIVERY_US
            found.append(Bar("p99 until all have a change", where, row["p99_ms"], P99_MS[row["gateways"]], LESS, " ms"))
            sending, charged = row.get("server_sending_us_per_delivery"), row["server_us_per_delivery"]
            what, spent = ("with", charged) if sending is None else ("without", sending)
            name = f"server's time for a delivery, {what} the gateways' receiving"
            found.append(Bar(name, where, spent, most, LESS, " µs"))
        if case == "snapshot" and row["registrations"] in APPLIED_S:
            where, most = f"{row['registrations']:,} registrations", APPLIED_S[row["registrations"]]
            found.append(Bar("an agent has applied a snapshot", where, row["applied_s"], most, LESS, " s"))
        if case == "idle agent":
            where = f"{row['registrations']:,} registrations"
            found.append(Bar("idle agent", where, row["processor_percent"], IDLE_PERCENT, LESS, " % of a processor"))
    return found


def lab_rows(measurements: list[dict[str, Any]]) -> list[Row]:
    """Side by side, from the registry's answer until both kernels have the key; microseconds at the median."""
    taken = {each["by"]: each for each in measurements}
    agents, poll, push = (taken[by]["seconds"] for by in ("agents", "poll", "ansible-playbook push"))
    gateways = 2
    cuts = quantiles(agents, n=100)
    case, lethe_us = "a change on all gateways, lab", round(median(agents) * 1e6)
    waits = {percent: wait_for_poll(percent / 100, gateways) for percent in (50, 99)}

    def beside(other: str, other_us: float, **more: Any) -> Row:
        row = {"case": case, "gateways": gateways, "lethe_us": lethe_us, "other": other, "other_us": round(other_us)}
        return {**row, "ratio": round(other_us / lethe_us, 1), **more}

    return [
        {
            "case": "propagation to kernels, lab",
            "gateways": gateways,
            "changes": len(agents),
            "p50_ms": round(cuts[49] * 1e3),
            "p99_ms": round(cuts[98] * 1e3),
            "look_ms": round(taken["agents"]["look_ms"]),
            "round_trip_ms": round(taken["agents"]["round_trip_ms"], 1),
        },
        beside("ansible-playbook push", median(push) * 1e6, runs=len(push)),
        beside(
            "polling every 60 s",
            (waits[50] + median(poll)) * 1e6,
            measured_poll_us=round(median(poll) * 1e6),
            runs=len(poll),
            computed_wait_us=round(waits[50] * 1e6),
            computed_p99_us=round((waits[99] + median(poll)) * 1e6),
        ),
    ]


def wait_for_poll(share: float, gateways: int) -> float:
    """Seconds within which that share of changes has been waited out by all gateways: each polls when it likes, so a
    wait is uniform over the period, and the longest of n is within t with the probability (t / period) ** n.
    """
    return POLL_EVERY * float(share ** (1 / gateways))


# --- the page -----------------------------------------------------------------------------------------


def feed_lines(rows: list[Row]) -> list[str]:
    propagation = [row for row in rows if row["case"].startswith("propagation")]
    snapshots = [row for row in rows if row["case"] == "snapshot"]
    lines = _table(
        propagation,
        {
            "from the answer until all have it": ("case", str),
            "gateways": ("gateways", "{:,}".format),
            "every, s": ("every_s", str),
            "p50, ms": ("p50_ms", "{:,.1f}".format),
            "p99, ms": ("p99_ms", "{:,.1f}".format),
            "server's µs per delivery": ("server_us_per_delivery", "{:.1f}".format),
            "without receiving": ("server_sending_us_per_delivery", _if_measured),
            "server idle, %": ("server_idle_percent", "{:.2f}".format),
            "server's memory, MB": ("server_memory_mb", str),
        },
    )
    lines += ["", *_table(
        snapshots,
        {
            "snapshot, registrations": ("registrations", "{:,}".format),
            "MB": ("bytes", lambda size: f"{size / 1e6:.1f}"),
            "built and fetched, s": ("built_and_fetched_s", "{:.2f}".format),
            "fetched again, s": ("fetched_again_s", "{:.2f}".format),
            "fetched and applied, s": ("applied_s", "{:.2f}".format),
            "server's memory, MB": ("server_memory_mb", str),
            "agent's memory, MB": ("agent_memory_mb", str),
        },
    ), ""]  # fmt: skip
    for row in rows:
        if row["case"] == "bare sends":
            sends = f"Bare sends to {row['gateways']:,} connections, of {row['bytes']} bytes, without a feed"
            sending, both = (_if_measured(row.get(f"{what}_us_per_send")) for what in ("sending", "acknowledged"))
            lines.append(
                f"- {sends}: {row['us_per_send']:.1f} µs each; {sending} µs without receiving, {both} µs with "
                "acknowledgements too"
            )
        if row["case"] == "catch-up":
            missed = f"{row['changes']:,} changes, in {row['batches']:,} batches"
            lines.append(f"- Catching up with {missed}: {row['applied_s']:.2f} s")
        if row["case"] == "idle agent":
            agent = f"An idle agent of {row['registrations']:,} peers"
            lines.append(f"- {agent}: {row['processor_percent']:.2f} % of a processor")
    return lines


def lab_lines(rows: list[Row]) -> list[str]:
    agents, *others = rows
    lines = [
        f"{agents['changes']} changes by the agents: p50 {agents['p50_ms']:,} ms, p99 {agents['p99_ms']:,} ms. "
        f"The kernels were looked at every {agents['look_ms']} ms; word of it took half of "
        f"{agents['round_trip_ms']} ms.",
        "",
        *_table(
            others,
            {
                "case": ("case", str),
                "lethe, s": ("lethe_us", _seconds),
                "other, s": ("other_us", _seconds),
                "times as fast": ("ratio", "{:,.1f}".format),
                "other": ("other", str),
            },
        ),
        "",
    ]
    for row in others:
        if "measured_poll_us" in row:
            lines.append(
                f"Of polling, {_seconds(row['measured_poll_us'])} s are measured, the poll itself (the median of "
                f"{row['runs']}), and {_seconds(row['computed_wait_us'])} s are computed, the wait before it; "
                f"p99 is so {_seconds(row['computed_p99_us'])} s."
            )
        else:
            lines.append(f"Of the playbook it is the median of {row['runs']} runs.")
    return lines


def _if_measured(microseconds: float | None) -> str:
    return "-" if microseconds is None else f"{microseconds:.1f}"


def _seconds(microseconds: float) -> str:
    return f"{microseconds / 1e6:.2f}"


def _table(rows: Sequence[Row], columns: dict[str, tuple[str, Any]]) -> list[str]:
    body = [tuple(form(row[name]) for name, form in columns.values()) for row in rows]
    left = {i for i, (_, form) in enumerate(columns.values()) if form is str and body and not body[0][i].isdigit()}
    return table([tuple(columns), *body], left)


def main(measurements: str, machine: str, part: str) -> int:
    taken = [json.loads(line) for line in Path(measurements).read_text().splitlines()]
    facts = json.loads(Path(machine).read_text())
    rows = taken if part == "feed" else lab_rows(taken)
    shown = feed_lines(rows) if part == "feed" else lab_lines(rows)
    checked = bars(rows)
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    parts = {"feed": [], "feed-lab": []}
    for row in before:
        parts["feed-lab" if row["case"].endswith(", lab") else "feed"].append(row)
    parts[part] = rows
    write_rows(RESULTS, [row for each in parts.values() for row in each])
    about = (
        f"{facts['date']}, {facts['processor']}, {facts['processors']} processors, {facts['memory']}, "
        f"{facts['system']}, {facts['python']}, SQLite {facts['sqlite']}."
    )
    write_figures(DOCS / "feed.md", part, [about, "", *bar_lines(checked), *[""][: len(checked)], *shown, ""])

    print("\n".join(shown))
    print()
    print_bars(checked)
    print(f"\n{RESULTS}\n{DOCS / 'feed.md'}")
    return 0 if all(bar.met for bar in checked) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
