# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test layers, two lanes side by side, and one verdict.

The fleet tests spend much of their time waiting, for machines and for an endpoint to grow 180 s old; the other layers
use the processors meanwhile.
"""

from __future__ import annotations

import re
import sys
import time

from _jobs import CHECKOUT, Counts, Job, Outcome, Runner

LOGS = CHECKOUT / ".cache/test"
LANES = (
    (
        Job("unit", ["scripts/test-unit"], 1800),
        Job("registry", ["scripts/test-registry"], 1800),
        Job("lint", ["scripts/lint"], 1800),
        Job("kernel", ["scripts/test-kernel"], 2400),
        Job("clients", ["scripts/test-fleet", "clients"], 3600),
    ),
    (Job("fleet", ["scripts/test-fleet"], 5200),),
)
LAYERS = tuple(job.name for lane in LANES for job in lane)
TAIL = 60
"""Lines shown of the end of the log of a layer that failed."""
_TOLD = re.compile(r"(FAILED|ERROR) |E   |fatal: |\S+: (FAILED|failed)|.*\bfailed=[1-9]")
"""The lines of a log that say what failed, wherever in it they are."""
_NOISE = re.compile(r'\{"time": ')
"""What the registry's own log adds to a report of pytest."""
MOST_TOLD = 60


def report(outcome: Outcome) -> None:
    """Print one line for a layer, and the end of its log if it failed."""
    counts = outcome.counts()
    print(f"{'FAILED' if counts.failed else 'ok':<7} {outcome.name:<8} {counts} in {outcome.seconds:.0f} s", flush=True)
    if counts.failed:
        lines = [line for line in outcome.text().splitlines() if not _NOISE.match(line.strip())]
        told = [line for line in lines[:-TAIL] if _TOLD.match(line.strip())]
        print("\n".join([*told[:MOST_TOLD], *lines[-TAIL:]]))
        print(f"    -- {outcome.name}: {outcome.fault or 'nothing was tested'}; all of it: {outcome.log}", flush=True)


def alive(name: str, seconds: float, line: str) -> None:
    """Print what a layer is at, for somebody who waits."""
    print(f"...     {name:<8} {seconds:4.0f} s: {line[:100]}", flush=True)


def main(names: list[str]) -> int:
    """Run the layers of those names, or all."""
    if unknown := set(names) - set(LAYERS):
        sys.exit(f"no such layer: {', '.join(sorted(unknown))} (there are {', '.join(LAYERS)})")
    lanes = [chosen for lane in LANES if (chosen := [job for job in lane if not names or job.name in names])]
    wanted = [job.name for lane in lanes for job in lane]
    print(f"testing {', '.join(wanted)}; logs in {LOGS}", flush=True)
    started = time.monotonic()
    outcomes = {outcome.name: outcome for outcome in Runner(LOGS, alive).run(lanes, len(lanes), report)}
    print(f"\nafter {time.monotonic() - started:.0f} s:")
    total = Counts()
    for name in wanted:
        counts = outcomes[name].counts()
        total += counts
        print(f"  {name:<8} {counts} in {outcomes[name].seconds:.0f} s")
    if total.skipped:
        print(f"{total.skipped} skipped; the logs say why")
    print(f"{total.passed} passed, {total.failed} failed")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
