# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry's figures as a picture: latency and throughput over the number of keys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from plot import FAINT, INK, LETHE, PAPER, Line, panel, plt

COLOURS = {
    ("SQLite", 1): LETHE,
    ("PostgreSQL", 1): "#d1701c",
    ("PostgreSQL", 2): "#7a5ea8",
    ("PostgreSQL", 4): "#a23b4a",
}
PANELS = (
    ("200 per second", "p99_ms", "p99 at 200 registrations a second"),
    ("a day's keys expire", "p99_ms", "p99 meanwhile, at 200 a second"),
    ("32 callers", "per_second", "registrations a second, as fast as they go"),
)


def _milliseconds(value: float, _: object = None) -> str:
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"


def _number(value: float, _: object = None) -> str:
    return f"{value:,.0f}"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the rows of registry.json."""
    with plt.rc_context({"font.family": "DejaVu Sans", "figure.facecolor": PAPER, "axes.facecolor": PAPER}):
        figure, panels = plt.subplots(1, 3, figsize=(15, 5.2))
        figure.subplots_adjust(left=0.06, right=0.875, top=0.69, bottom=0.1, wspace=0.85)
        for axes, (case, what, words) in zip(panels.flat, PANELS, strict=True):
            lines = []
            for (database, processes), colour in COLOURS.items():
                points = sorted(
                    (row["keys"], row[what])
                    for row in rows
                    if (row["case"], row["registry"], row["processes"]) == (case, database, processes)
                )
                label = database if database == "SQLite" else f"{database}, {processes}"
                if points:
                    lines.append(Line(label, colour, points, ours=database == "SQLite"))
            if not lines:
                axes.axis("off")
                continue
            values = [value for line in lines for _, value in line.points]
            limits = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
            panel(axes, case, words, lines, limits, _number if what == "per_second" else _milliseconds)
        figure.text(0.06, 0.9, "What it takes to register a key", fontsize=20, fontweight="bold", color=INK)
        note = "over the number of keys that are registered already; behind PostgreSQL, the number of processes"
        figure.text(0.06, 0.835, note, fontsize=12, color=FAINT)
        figure.savefig(path, dpi=130)
        plt.close(figure)
