# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the reports share: bars, tables, and pages in docs/benchmarks whose figures are replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
MORE, LESS = True, False  # which is better

Row = dict[str, Any]  # one measurement in a JSON file


class Bar(NamedTuple):
    name: str
    where: str  # at how many peers or keys
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


def bar_lines(bars: list[Bar]) -> list[str]:
    """For a page."""
    return [f"- {'met' if bar.met else '**missed**'}, {bar.where}: {bar.text}" for bar in bars]


def print_bars(bars: list[Bar]) -> None:
    width = max((len(bar.where) for bar in bars), default=0)
    for bar in bars:
        print(f"{'met   ' if bar.met else 'MISSED'}  {bar.where:>{width}}  {bar.text}")


def table(cells: list[tuple[str, ...]], left: set[int]) -> list[str]:
    """Markdown that also reads well in a terminal. The first row is the head; ``left``: columns of text."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(values: tuple[str, ...]) -> str:
        text = [v.ljust(w) if i in left else v.rjust(w) for i, (v, w) in enumerate(zip(values, widths, strict=True))]
        return "| " + " | ".join(text) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i in left else ":") for i, w in enumerate(widths)) + "|"
    return [line(cells[0]), rule, *map(line, cells[1:])]


def write_rows(path: Path, rows: list[Row]) -> None:
    """JSON with a line for each row."""
    path.write_text("[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]\n")


def write_figures(page: Path, name: str, lines: list[str]) -> None:
    """Replace what stands between this name's two marks: the rest of the page is written by hand."""
    begin, end = f"<!-- figures: {name} -->\n", f"<!-- end of figures: {name} -->\n"
    head, _, rest = page.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    page.write_text(head + begin + "\n".join(lines) + end + tail)
