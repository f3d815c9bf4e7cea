#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One whole operation with the package, in a process of its own as on a gateway.

    lethe_contender.py CASE INTERFACE [FILE]

Prints a JSON object:

    seconds    from before the file is opened to after the kernel's last answer: reading, parsing,
               validating, dump, decisions, encoding, sending
    imports    seconds to import the package; not part of the former
    lock       seconds of the longest single message: the kernel works through one under one lock
    memory     bytes, the most this process ever had resident

With the environment variable LETHE_BENCH_PACKAGES the package is taken from another directory.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = os.environ.get("LETHE_BENCH_PACKAGES") or str(CHECKOUT / "plugins" / "module_utils")


def peak_memory() -> int:
    """VmHWM: getrusage() would also count the process this one was started from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc/self/status has no VmHWM")


def operation(case: str, interface: str, file: str, note_lock: Callable[[float], None]) -> Callable[[], object]:
    """Import what the case needs; return what is to be timed."""
    sys.path.insert(0, PACKAGES)
    from _lethe.wireguard.device import KernelDevice

    class NotedDevice(KernelDevice):
        """Passes on how long the longest message took, which the device measures for itself."""

        def _send(self, pieces: Iterable[bytes]) -> float:
            longest = super()._send(pieces)
            note_lock(longest)
            return longest

    device = NotedDevice(interface)
    if case in ("load", "no-op", "change 1 %"):
        from _lethe.wireguard.inventory import peers_from_file
        from _lethe.wireguard.reconcile import reconcile_peers

        return lambda: reconcile_peers(device, peers_from_file(file))
    if case == "dump":
        return lambda: device.read(list)
    if case == "purge 10 %":
        from _lethe.wireguard.clock import ClockReading, read_clocks
        from _lethe.wireguard.purge_run import purge

        state = Path(tempfile.mkdtemp(dir="/run"))
        now = read_clocks()
        # An earlier run has seen the endpoints; for this one, as much time has passed as it takes.
        earlier = ClockReading(now.realtime - 200 * 10**9, now.boottime - 200 * 10**9)
        purge(device, state_directory=state, now=earlier)
        return lambda: purge(device, state_directory=state, now=now)
    raise SystemExit(f"no such case: {case}")


def main(case: str, interface: str, file: str = "") -> None:
    started = time.perf_counter()
    locks = [0.0]
    run = operation(case, interface, file, locks.append)
    imported = time.perf_counter()
    run()
    ended = time.perf_counter()
    print(
        json.dumps(
            {
                "seconds": ended - imported,
                "imports": imported - started,
                "lock": max(locks),
                "memory": peak_memory(),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
