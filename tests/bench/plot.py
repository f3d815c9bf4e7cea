# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures as a picture: one panel for each case, microseconds per peer over the number of peers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

INK, FAINT, GRID, PAPER = "#1d2733", "#66717e", "#e6e9ed", "#ffffff"
LETHE = "#0b6e69"
COLOURS = {
    "lethe, JSON": "#5fa8a3",
    "wg": "#d1701c",
    "pyroute2": "#7a5ea8",
    "shell loop": "#a23b4a",
    "kernel alone": "#8a949f",
    "kernel alone, purge": "#8a949f",
}
WHAT = {
    "load": "from no peers to all",
    "no-op": "compare, nothing differs",
    "change 1 %": "compare, change 1 in 100",
    "dump": "read all peers",
    "purge 10 %": "forget 1 in 10, per such peer",
}
LABEL_GAP = 0.052  # of the axis: what two labels need between them


def _family(contender: str) -> str:
    return "wg" if contender.startswith("wg ") else contender


def _size(peers: float, _: object = None) -> str:
    return f"{peers / 1e6:.0f}M" if peers >= 1e6 else f"{peers / 1000:.0f}k"


def _time(us: float, _: object = None) -> str:
    if us < 1000:
        return f"{us:g} µs"
    return f"{us / 1000:g} ms" if us < 1e6 else f"{us / 1e6:g} s"


def _spread(wanted: list[float]) -> list[float]:
    """Positions (0 to 1) as near to the wanted ones as possible with LABEL_GAP between them."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed = list(wanted)
    for _ in range(200):
        for lower, upper in pairwise(order):
            overlap = LABEL_GAP - (placed[upper] - placed[lower])
            if overlap > 0:
                placed[lower] -= overlap / 2
                placed[upper] += overlap / 2
    return placed


class Line(NamedTuple):
    label: str
    colour: str
    points: list[tuple[int, float]]  # over the number of peers or keys
    ours: bool = False
    dashed: bool = False


def panel(
    axes: Axes,
    title: str,
    what: str,
    lines: list[Line],
    limits: tuple[float, float],
    tick: Callable[[float, object], str] = _time,
) -> None:
    """Lines over the number of peers or keys, both logarithmic, each named at its end with its last value."""
    for line in lines:
        axes.plot(
            *zip(*line.points, strict=True),
            color=line.colour,
            linewidth=2.8 if line.ours else 1.6,
            linestyle=(0, (4, 2.5)) if line.dashed else "-",
            marker="o",
            markersize=7 if line.ours else 4.5,
            markeredgecolor=PAPER,
            markeredgewidth=1.2 if line.ours else 0.8,
            zorder=5 if line.ours else 3,
            clip_on=False,
        )

    low, high = (math.log10(limit) for limit in limits)
    places = _spread([(math.log10(line.points[-1][1]) - low) / (high - low) for line in lines])
    for line, place in zip(lines, places, strict=True):
        value = line.points[-1][1]
        number = f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
        axes.annotate(
            f"{line.label}  {number}",
            xy=line.points[-1],
            xytext=(1.06, place),
            textcoords="axes fraction",
            color=line.colour,
            fontsize=9.5,
            fontweight="bold" if line.ours else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.colour, "alpha": 0.35, "lw": 0.8, "shrinkA": 1, "shrinkB": 5},
        )

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    sizes = sorted({size for line in lines for size, _ in line.points})
    axes.set_xlim(sizes[0] * 0.8, sizes[-1] * 1.25)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(_size))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=9.5, length=0, pad=6)
    axes.text(0, 1.105, title, transform=axes.transAxes, fontsize=13, fontweight="bold", color=INK)
    axes.text(0, 1.04, what, transform=axes.transAxes, fontsize=9.5, color=FAINT)


def _line(contender: str, points: list[tuple[int, float]]) -> Line:
    ours = contender == "lethe"
    colour = LETHE if ours else COLOURS[_family(contender)]
    return Line(contender.replace("lethe", "Lethe"), colour, points, ours, dashed=contender.startswith("kernel alone"))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the rows of peers.json."""
    cases: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        series = cases.setdefault(row["case"], {})
        series.setdefault("lethe", {})[row["peers"]] = row["lethe_us"]
        series.setdefault(row["other"], {})[row["peers"]] = row["other_us"]
    values = [us for series in cases.values() for points in series.values() for us in points.values()]
    limits = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))

    with plt.rc_context({"font.family": "DejaVu Sans", "figure.facecolor": PAPER, "axes.facecolor": PAPER}):
        figure, panels = plt.subplots(2, 3, figsize=(15, 9.6))
        figure.subplots_adjust(left=0.06, right=0.895, top=0.835, bottom=0.075, wspace=0.72, hspace=0.42)
        flat = list(panels.flat)
        for axes, (case, series) in zip(flat, cases.items(), strict=False):
            panel(
                axes, case, WHAT[case], [_line(name, sorted(points.items())) for name, points in series.items()], limits
            )
        for axes in flat[len(cases) :]:
            axes.axis("off")
        note = flat[len(cases)]
        note.text(
            0,
            0.96,
            "Time per peer, logarithmic, over the number of\npeers on the interface. Lower is better; the\n"
            "numbers are those of the largest size.\n\n"
            "Medians on one WireGuard kernel, contenders\ntaking turns. wg and the shell: the whole process;\n"
            "Lethe and pyroute2: all from reading the file\nto the kernel's last answer, without start-up.\n\n"
            "Kernel alone: ready-made messages, only sent.\nNine tenths of it is X25519, once per added peer.",
            transform=note.transAxes,
            fontsize=9.5,
            color=FAINT,
            va="top",
            linespacing=1.5,
        )
        figure.text(0.06, 0.945, "What it takes to manage a WireGuard peer", fontsize=20, fontweight="bold", color=INK)
        figure.text(0.06, 0.913, "microseconds per peer, by what manages them", fontsize=12, color=FAINT)
        figure.savefig(path, dpi=130)
        plt.close(figure)
